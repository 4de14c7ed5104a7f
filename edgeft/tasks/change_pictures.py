"""What compression changed in a few cases, as small pictures: borders, pixels of another class, and logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeft.record import BORDER_COLOURS, CHANGED_COLOUR, ExampleRow
from edgeft.tasks.mask_pictures import COLOURS, as_png, reduced, small

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    Maps = NDArray[np.uint8]
    Pixels = NDArray[np.uint8]

DIM = 0.45
"""Brightness of the image below what is marked on it."""


def draw_borders(shown: Image.Image, truth: Maps, answer: Maps) -> str:
    """The borders of truth and answer on the image; white where both run. truth, answer: (height, width)."""
    import numpy as np

    pixels, (height, width) = _grey(shown, truth.shape), reduced(truth.shape)
    lines = [class_borders(_resized(mask, (height, width))) for mask in (truth, answer)]
    pixels[lines[0]], pixels[lines[1]] = _rgb(BORDER_COLOURS[0]), _rgb(BORDER_COLOURS[1])
    pixels[np.logical_and(*lines)] = 255
    return _png(pixels)


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
    pixels = _grey(shown, ours.shape)
    # a single pixel must be seen even where the picture is smaller than the mask
    height, width = reduced(ours.shape)
    seen = np.zeros((height, width), bool)
    down, across = np.nonzero(changed)
    seen[down * height // ours.shape[0], across * width // ours.shape[1]] = True
    pixels[seen] = _rgb(CHANGED_COLOUR)
    return row.model_copy(update={"changes": _png(pixels), "changed": float(changed.mean())})


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


def _grey(shown: Image.Image, size: tuple[int, ...]) -> Pixels:
    """uint8 (height, width, 3) at the pictures' size, darkened."""
    import numpy as np

    dim = np.asarray(small(shown.convert("L").convert("RGB"), size), np.float64) * DIM
    return np.array(dim.round(), dtype=np.uint8)


def _resized(mask: Maps, size: tuple[int, int]) -> Maps:
    import numpy as np
    from PIL import Image

    if mask.shape == size:
        return mask
    return np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST), np.uint8)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))


def _png(pixels: Pixels) -> str:
    """Colours of lines and marks must stay what the legend says: a palette of the image's own, no dithering."""
    from PIL import Image

    return as_png(Image.fromarray(pixels).quantize(COLOURS, dither=Image.Dither.NONE))
