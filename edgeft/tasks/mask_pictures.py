"""A few cases of a segmentation as small pictures: what went in, the truth, and the answer."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeft.record import MASK_COLOURS, ExampleRow
from edgeft.tasks.image_spec import ImageSpec

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from PIL import Image

LARGEST = 192
"""Pixels of a picture's longer side: the report carries nine of them."""
COLOURS = 48
"""Of a photograph's palette; grey levels of a slice."""


def rank_cases(values: NDArray[np.float64]) -> dict[str, int]:
    """worst, median and best -> place in values (n,); of equals the first. A place is named once."""
    import numpy as np

    order = np.argsort(values, kind="stable")
    picks = {"worst": order[0], "median": order[(len(order) - 1) // 2], "best": order[-1]} if len(order) else {}
    found: dict[str, int] = {}
    for name, place in picks.items():
        if int(place) not in found.values():
            found[name] = int(place)
    return found


def draw_examples(
    answered: NDArray[np.uint8], dice: NDArray[np.float64], rows: pa.Table, spec: ImageSpec
) -> list[ExampleRow]:
    """answered: classes, (n, height, width); dice: (n,); rows: their n rows. The same input gives the same bytes."""
    from edgeft.tasks.segmentation import read_masks

    size = (int(answered.shape[1]), int(answered.shape[2]))
    found = []
    for rank, place in rank_cases(dice).items():
        row = rows.slice(place, 1)
        name, shown = show_image(row, spec, size)
        found.append(draw_example(rank, name, float(dice[place]), shown, read_masks(row, size)[0], answered[place]))
    return found


def draw_example(
    rank: str, case: str, value: float, shown: Image.Image, truth: NDArray[np.uint8], answer: NDArray[np.uint8]
) -> ExampleRow:
    """One case as pictures. shown: what went in, grey or RGB, of the masks' size; masks: classes, (height, width)."""
    from edgeft.tasks.change_pictures import draw_borders

    size = (int(answer.shape[0]), int(answer.shape[1]))
    return ExampleRow(
        rank=rank, case=case, value=value, size=reduced(size), image=as_png(small(shown, size).quantize(COLOURS)),
        truth=_mask(truth, size), answer=_mask(answer, size), borders=draw_borders(shown, truth, answer),
    )  # fmt: skip


def show_image(row: pa.Table, spec: ImageSpec, size: Sequence[int]) -> tuple[str, Image.Image]:
    """(name, what the network sees) of one row, at (height, width)."""
    from edgeft.data.pack import image_bytes
    from edgeft.tasks.images import given_image

    name, raw = next(image_bytes(row))
    return name, given_image(raw, spec, name).resize((size[1], size[0]))


def reduced(size: Sequence[int]) -> tuple[int, int]:
    """(height, width) with the longer side at most LARGEST."""
    factor = min(1.0, LARGEST / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def small(image: Image.Image, size: Sequence[int]) -> Image.Image:
    """At the pictures' size; classes by nearest neighbour."""
    from PIL import Image

    height, width = reduced(size)
    how = Image.Resampling.NEAREST if image.mode == "P" else Image.Resampling.BILINEAR
    return image if image.size == (width, height) else image.resize((width, height), how)


def _mask(classes: NDArray[np.uint8], size: Sequence[int]) -> str:
    from PIL import Image

    image: Any = Image.fromarray(classes % len(MASK_COLOURS)).convert("L")
    image.putpalette([int(colour[at : at + 2], 16) for colour in MASK_COLOURS for at in (1, 3, 5)])
    return as_png(small(image, size))


def as_png(image: Image.Image) -> str:
    """Base64 of a palette PNG."""
    raw = io.BytesIO()
    image.save(raw, format="PNG", optimize=True)
    return base64.b64encode(raw.getvalue()).decode("ascii")
