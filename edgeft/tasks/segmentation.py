"""Segmentation: an image in, one of the labels per pixel out."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.canonical import Facts
from edgeft.data.pack import image_bytes
from edgeft.errors import StepError
from edgeft.gate import Gate
from edgeft.task import Arrays, Score
from edgeft.tasks.image_classification import ImageTask
from edgeft.tasks.image_spec import read_spec
from edgeft.tasks.mask_answers import (
    MaskTask,
    check_count,
    checked,
    class_maps,
    confusion,
    read_labels,
    score_confusions,
)
from edgeft.tasks.mask_metrics import MEASURED, measure_masks, scored_spacings

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from edgeft.record import ExampleRow

    Maps = NDArray[np.uint8]
    Floats = NDArray[np.float64]


class Segmentation(MaskTask, ImageTask):
    """Dice, IoU, border distances and volumes per case, over all labels but the first, which is the background.

    A class that neither truth nor answer has scores 1 in that case (a distance or volume error: 0), one that only one
    of them has scores 0 (a distance: the image's diagonal). Truth is compared at the size the network answers; masks
    are brought there by nearest neighbour, and their pixels' size in mm with them.
    """

    name = "segmentation"

    def prepare(
        self, model: Path, splits: Mapping[str, Path], labels: Sequence[str], serve: Mapping[str, Any], out: Path
    ) -> Facts:
        """As for any image, stretched to the network's size: what is cut off could not be scored."""
        check_count(labels)
        return super().prepare(model, splits, labels, serve, out)

    def masks(self, rows: pa.Table, prepared: Path) -> NDArray[np.int64]:
        """int64 (n, height, width) at the network's size."""
        import numpy as np

        spec = read_spec(prepared)
        return read_masks(rows, (spec.height, spec.width)).astype(np.int64)

    def keep(self, outputs: Arrays) -> Arrays:
        """classes, uint8 (n, height, width), and mean_logits, float32 (n, classes): means over the pixels of a case."""
        logits = checked(outputs)
        return {"classes": class_maps(outputs), "mean_logits": logits.mean(axis=(2, 3)).astype("float32")}

    def score(self, outputs: Arrays, rows: pa.Table, labels: Sequence[str]) -> Score:
        """mean_dice, mean_iou, pixel_accuracy, dice_<label>, iou_<label>: means over cases of a value per case."""

        answered = class_maps(outputs)
        if len(answered) != rows.num_rows or not rows.num_rows:
            raise StepError(f"{len(answered)} outputs for {rows.num_rows} rows")
        counts = _confusions(answered, rows, len(labels))
        return score_confusions(counts, labels)

    def measure(
        self, outputs: Arrays, rows: pa.Table, labels: Sequence[str], wanted: Collection[Gate]
    ) -> Mapping[str, Floats]:
        """hd95_mm, surface_dice, volume_error and volume_ml_error of the gates; a few cases' masks at a time."""
        import numpy as np

        if not any(gate.metric.startswith(MEASURED) for gate in wanted):
            return {}
        answered = class_maps(outputs)
        size, parts = (int(answered.shape[1]), int(answered.shape[2])), []
        for start in range(0, len(answered), CASES):
            some = rows.slice(start, CASES)
            truth, spacings = read_masks(some, size), scored_spacings(some, size)
            parts.append(measure_masks(answered[start : start + CASES], truth, labels, wanted, spacings))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def draw(self, outputs: Arrays, rows: pa.Table, prepared: Path) -> list[ExampleRow]:
        """Worst, median and best by mean Dice."""
        from edgeft.tasks.mask_pictures import draw_examples

        spec, answered = read_spec(prepared), class_maps(outputs)
        dice = self.score(outputs, rows, read_labels(prepared)).cases["mean_dice"]
        return draw_examples(answered, dice, rows, spec)

    def compare(
        self,
        examples: Sequence[ExampleRow],
        rows: pa.Table,
        prepared: Path,
        ours: Arrays,
        source: Arrays,
        logits: tuple[NDArray[Any], NDArray[Any]] | None,
    ) -> list[ExampleRow]:
        """Pixels of another class than the source's, and how far the logits moved."""
        from edgeft.tasks.change_pictures import mark_changes, show_shift
        from edgeft.tasks.mask_pictures import show_image

        maps, spec, found = (class_maps(ours), class_maps(source)), read_spec(prepared), []
        for place, example in enumerate(examples):
            shown = show_image(rows.slice(place, 1), spec, maps[0].shape[1:])[1]
            row = mark_changes(example, shown, maps[0][place], maps[1][place])
            found.append(row if logits is None else show_shift(row, logits[0][place], logits[1][place]))
        return found


def read_masks(rows: pa.Table, size: tuple[int, int]) -> Maps:
    """uint8 (n, height, width) of the rows' masks, resized by nearest neighbour."""
    import numpy as np

    found = np.empty((rows.num_rows, *size), np.uint8)
    for place, (name, raw) in enumerate(image_bytes(rows, "mask_at", "mask_size")):
        found[place] = _resized(raw, size, name)
    return found


def _resized(raw: bytes, size: tuple[int, int], name: str) -> Any:
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(raw), formats=("PNG",)) as mask:
            if mask.size != (size[1], size[0]):
                return np.asarray(mask.resize((size[1], size[0]), Image.Resampling.NEAREST), np.uint8)
            return np.asarray(mask, np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise StepError(f"the mask cannot be decoded: {error}", where=name) from error


def _confusions(answered: Maps, rows: pa.Table, classes: int) -> NDArray[np.int64]:
    """(n, classes, classes) pixel counts, rows true; a few cases' masks in memory at a time."""
    import numpy as np

    size = (int(answered.shape[1]), int(answered.shape[2]))
    counts = np.zeros((len(answered), classes, classes), np.int64)
    for start in range(0, len(answered), CASES):
        masks = read_masks(rows.slice(start, CASES), size)
        for place, mask in enumerate(masks, start):
            counts[place] = confusion(mask, answered[place], classes)
    return counts


CASES = 64
