"""What compression changed in a few cases, as small pictures: borders, pixels of another class, and logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeft.record import BORDER_COLOURS, CHANGED_COLOUR, ExampleRow
from edgeft.tasks.mask_pictures import COLOURS, as_png, reduced, small

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    Maps = NDArray[np.uint8]

DIM = 0.45
"""Brightness of the image below what is marked on it."""


def draw_borders(shown: Image.Image, truth: Maps, answer: Maps) -> str:
    """The borders of truth and answer on the image, and where both run. truth, answer: (height, width)."""
    import numpy as np

    size = reduced(truth.shape)
    lines = [class_borders(_resized(mask, size)) for mask in (truth, answer)]
    return _marked(shown, truth.shape, [*lines, np.logical_and(*lines)], BORDER_COLOURS)


def class_borders(mask: Maps) -> NDArray[np.bool_]:
    """(height, width): pixels of a class other than the first that touch another class."""
    import numpy as np

    found = np.zeros(mask.shape, bool)
    for axis in (0, 1):
        apart = np.diff(mask.astype(np.int16), axis=axis) != 0
        before, after = [slice(None)] * 2, [slice(None)] * 2
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        found[tuple(before)] |= apart
        found[tuple(after)] |= apart
    return found & (mask > 0)


def mark_changes(row: ExampleRow, shown: Image.Image, ours: Maps, theirs: Maps) -> ExampleRow:
    """The row with a picture of the pixels that the artefact (ours) gives another class than the source (theirs)."""
    import numpy as np

    changed = ours != theirs
    # a single pixel must be seen even where the picture is smaller than the mask
    height, width = reduced(ours.shape)
    seen = np.zeros((height, width), bool)
    down, across = np.nonzero(changed)
    seen[down * height // ours.shape[0], across * width // ours.shape[1]] = True
    picture = _marked(shown, ours.shape, [seen], (CHANGED_COLOUR,))
    return row.model_copy(update={"changes": picture, "changed": float(changed.mean())})


def show_shift(row: ExampleRow, ours: NDArray[Any], theirs: NDArray[Any]) -> ExampleRow:
    """The row with a picture of how far the logits moved: (classes, height, width) of the artefact and of its float
    form; a pixel shows the largest difference of its classes, the brightest one the largest of the case."""
    import numpy as np
    from PIL import Image

    apart = np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max(axis=0)
    most = float(apart.max())
    scaled = np.round(255 * apart / most) if most > 0 else np.zeros_like(apart)
    image: Any = small(Image.fromarray(scaled.astype(np.uint8)), apart.shape)
    image = image.quantize(COLOURS)
    return row.model_copy(update={"shift": as_png(image), "most_shift": most})


def _marked(
    shown: Image.Image, size: tuple[int, ...], marks: Sequence[NDArray[np.bool_]], colours: Sequence[str]
) -> str:
    """The image in dark grey, each mark in its own colour, later ones over earlier: a palette in which no colour of a
    mark is lost to the image's."""
    import numpy as np
    from PIL import Image

    grey = np.asarray(small(shown.convert("L"), size), np.uint16)
    places = (grey * COLOURS // 256).astype(np.uint8)
    for number, mark in enumerate(marks):
        places[mark] = COLOURS + number
    levels = [round(DIM * 255 * level / (COLOURS - 1)) for level in range(COLOURS)]
    palette = [value for level in levels for value in (level, level, level)]
    image: Any = Image.fromarray(places).convert("L")
    image.putpalette([*palette, *(value for colour in colours for value in _rgb(colour))])
    return as_png(image)


def _resized(mask: Maps, size: tuple[int, int]) -> Maps:
    import numpy as np
    from PIL import Image

    if mask.shape == size:
        return mask
    return np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST), np.uint8)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))
