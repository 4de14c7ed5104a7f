"""What `edgeft init` writes for images alone."""

from __future__ import annotations

from edgeft.recipe.look import Look

IMAGE_TASKS = {"image-folder": "image-classification", "image-masks": "segmentation"}
"""`data.source` -> task."""
IMAGE_STEPS = """\
steps:
  - finetune:
      method: full           # or lora
      epochs: 10
      batch_size: 32
      learning_rate: 0.0001
      patience: 3            # stop after this many evaluations without a better one
      # augment: {flip: true, shift: 0.1, brightness: 0.2}   # where a mirror image means the same"""


def mask_labels(look: Look) -> str:
    """`labels:` with a name for each value of the masks, to be given better ones."""
    highest = max(int(value) for value in look.columns["value"])
    names = ["background", *(f"class{value}" for value in range(1, max(1, highest) + 1))]
    return f"  labels: [{', '.join(names)}]   # of the masks' values 0, 1, ...: give them their names"
