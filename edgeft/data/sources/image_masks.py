"""Images and their masks: two folders with files of equal stems, and optionally a table of cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from edgeft.data.source import DataSpec, Meter, Warn, path_of
from edgeft.data.sources.cases import ImageCases
from edgeft.data.sources.image_folder import SUFFIXES, ImageFolderSource, confined, decoded_digest
from edgeft.errors import RecipeError, StepError

if TYPE_CHECKING:
    import pyarrow as pa

IMAGES, MASKS = "images", "masks"
OWN = ("image", "label", "file", "mask_file", "present")


class ImageMasksSource(ImageFolderSource):
    """`path/images/NAME.*` with `path/masks/NAME.png`: 8-bit masks whose values are places in `data.labels`.

    `path/cases.csv` may give each NAME (column `image`) further columns, to be named by data.group and data.unit.
    Limits are those of image-folder. What is unreadable, without its partner or of another size is an error.
    """

    name: ClassVar[str] = "image-masks"

    compare_pixels: bool = Field(True, description="Find equal images in files that differ, too.")

    def read(self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn) -> pa.Table:
        """In sorted order. `label`: value of the largest area that is not background; `present`: all values."""
        import pyarrow as pa

        root = path_of(spec, split)
        for folder in (IMAGES, MASKS):
            if not (root / folder).is_dir():
                raise RecipeError(f"there is no folder '{folder}'", where=str(root), hint="images/ and masks/")
        pairs = _pairs(root)
        cases = ImageCases(root, [f"{IMAGES}/{image.name}" for image, _ in pairs])
        extra = cases.more(columns, OWN)
        found: dict[str, list[str]] = {name: [] for name in (*OWN, *(["pixels"] * self.compare_pixels), *extra)}
        meter = Meter(str(root))
        for image, mask in pairs:
            meter.add(1)
            values, largest = self._look(image, mask)
            row = {
                "image": f"{IMAGES}/{image.name}", "label": str(largest), "file": str(image), "mask_file": str(mask),
                "present": " ".join(map(str, values)),
            }  # fmt: skip
            if self.compare_pixels:
                row["pixels"] = decoded_digest(image)
            case = cases.row(row["image"]) if extra else {}
            for name in found:
                found[name].append(row[name] if name in row else case[name])
        return pa.table({name: pa.array(column, pa.string()) for name, column in found.items()})

    def _look(self, image: Path, mask: Path) -> tuple[list[int], int]:
        """(values of the mask, the most frequent one that is not 0, else 0)."""
        import numpy as np
        from PIL import Image

        for path in (image, mask):
            if not self.readable(path):
                raise StepError("cannot be read as an image", where=str(path), hint="save it anew, or remove the pair")
        with Image.open(image) as picture, Image.open(mask, formats=("PNG",)) as drawn:
            if drawn.mode not in ("L", "P", "1"):
                hint = "masks are 8-bit grey or palette PNG files whose values are class numbers"
                raise StepError(f"a mask of mode {drawn.mode}", where=str(mask), hint=hint)
            upright = picture.size[::-1] if picture.getexif().get(0x0112, 1) >= 5 else picture.size
            if upright != drawn.size:
                raise StepError(f"the image is {_size(upright)}, its mask {_size(drawn.size)}", where=str(mask))
            counts = np.bincount(np.asarray(drawn, np.uint8).ravel(), minlength=2)
        values = [int(value) for value in np.flatnonzero(counts)]
        return values, int(counts[1:].argmax()) + 1 if counts[1:].any() else 0


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _pairs(root: Path) -> list[tuple[Path, Path]]:
    """(image, mask) by stem, sorted. StepError for one without its partner, or two of one stem."""
    found: dict[str, dict[str, Path]] = {IMAGES: {}, MASKS: {}}
    inside = root.resolve()
    for folder, files in found.items():
        confined(root / folder, inside)
        for path in sorted((root / folder).iterdir()):
            if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
                continue
            confined(path, inside)
            if path.stem in files:
                raise StepError(f"two files are called '{path.stem}'", where=str(root / folder))
            files[path.stem] = path
    alone = sorted(found[IMAGES].keys() ^ found[MASKS].keys())
    if alone:
        side = MASKS if alone[0] in found[IMAGES] else IMAGES
        raise StepError(f"'{alone[0]}' has no file in {side}/ ({len(alone)} such)", where=str(root))
    if not found[IMAGES]:
        raise StepError("no image", where=str(root / IMAGES))
    return [(found[IMAGES][stem], found[MASKS][stem]) for stem in sorted(found[IMAGES])]
