"""Images in one folder per class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from edgeft.data.pack import pixels_digest
from edgeft.data.source import DataSpec, Meter, Source, Warn, path_of, require_columns
from edgeft.data.sources.cases import CASES, ImageCases
from edgeft.errors import RecipeError, StepError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
COLUMNS = ("image", "label")


class ImageFolderSource(Source):
    """`path/<class>/**/*.png` and the like: columns `image` (path below the root, with /) and `label` (class folder).

    `path/cases.csv` may give each image (column `image`: that path, the file's name or its stem) further columns.

    Every image is decoded once: what cannot be is left out and counted in a warning. An image of more than
    `max_megapixels` is an error, because it may be a decompression bomb; so is a link that leads out of the root.
    """

    name: ClassVar[str] = "image-folder"

    max_megapixels: float = Field(50, gt=0, le=1000, description="Largest image accepted, width x height / 1e6.")
    max_file_mb: float = Field(64, gt=0, le=4096, description="Largest image file accepted.")
    compare_pixels: bool = Field(
        False, description="Find equal images in files that differ, too: decodes every image in full."
    )

    def read(self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn) -> pa.Table:
        """Classes and files in sorted order."""
        import pyarrow as pa

        root = path_of(spec, split)
        if not root.is_dir():
            raise RecipeError("image-folder needs a folder with one folder per class", where=str(root))
        if not (root / CASES).is_file():
            require_columns(columns, COLUMNS, "source 'image-folder' without a cases.csv")
        meter = Meter(str(root))
        labels = self._readable(root, meter, warn)
        cases = ImageCases(root, labels)
        more = cases.more(columns, COLUMNS)
        found: dict[str, list[str]] = {
            "image": list(labels), "label": list(labels.values()), "file": [str(root / name) for name in labels],
            **{column: [cases.row(name)[column] for name in labels] for column in more},
        }  # fmt: skip
        if self.compare_pixels:
            found["pixels"] = [decoded_digest(Path(file)) for file in found["file"]]
        return pa.table({name: pa.array(column, pa.string()) for name, column in found.items()})

    def locate(self, spec: DataSpec, split: str | None, ids: Sequence[str]) -> dict[str, tuple[Path, int | None]]:
        """An image is called by its path below the root."""
        return {name: (path_of(spec, split) / name, None) for name in ids}

    def _readable(self, root: Path, meter: Meter, warn: Warn) -> dict[str, str]:
        """Image -> class, of those that Pillow decodes."""
        labels: dict[str, str] = {}
        unreadable: list[str] = []
        for label, file in _class_files(root, warn):
            meter.add(1)
            name = file.relative_to(root).as_posix()
            if self.readable(file):
                labels[name] = label
            else:
                unreadable.append(name)
        if unreadable:
            shown = ", ".join(unreadable[:5]) + (", ..." if len(unreadable) > 5 else "")
            warn(f"{len(unreadable)} of {meter.rows} images cannot be read and are left out: {shown}")
        if not labels:
            raise StepError(
                "no readable image", where=str(root), hint=f"one folder per class with {sorted(SUFFIXES)} files"
            )
        return labels

    def readable(self, file: Path) -> bool:
        """Whether Pillow decodes it; StepError for one that is too large to try."""
        from PIL import Image, UnidentifiedImageError

        if file.stat().st_size > self.max_file_mb * 1e6:
            raise StepError(f"larger than {self.max_file_mb:g} MB", where=str(file), hint="data.options.max_file_mb")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # our own limit below replaces Pillow's bomb warning
                with Image.open(file, formats=FORMATS) as image:
                    self._refuse_bomb(file, image.size)
                    image.verify()
                # verify() reads headers and checksums only, so a JPEG cut short passes it; a reduced decode does not
                with Image.open(file, formats=FORMATS) as image:
                    image.draft(None, (64, 64))
                    image.load()
        except Image.DecompressionBombError as error:
            raise self._bomb(file, str(error)) from error
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError):
            return False
        return True

    def _refuse_bomb(self, file: Path, size: tuple[int, int]) -> None:
        if size[0] * size[1] > self.max_megapixels * 1e6:
            raise self._bomb(file, f"{size[0]} x {size[1]} pixels")

    def _bomb(self, file: Path, found: str) -> StepError:
        what = f"the limit is {self.max_megapixels:g} megapixels, found {found}"
        hint = "it may be a decompression bomb; if it is yours, raise data.options.max_megapixels"
        return StepError(what, where=str(file), hint=hint)


def decoded_digest(file: Path) -> str:
    """Digest of the upright image; StepError where it cannot be decoded."""
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(file, formats=FORMATS) as image:
            upright = ImageOps.exif_transpose(image)
            return pixels_digest(np.asarray(upright.convert("RGB") if upright.mode in ("P", "1") else upright))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise StepError(f"cannot be decoded: {str(error)[:200]}", where=str(file)) from error


def _class_files(root: Path, warn: Warn) -> Iterator[tuple[str, Path]]:
    """(class, file) of every image below the class folders; links out of the root are a StepError."""
    inside = root.resolve()
    loose = sorted(entry.name for entry in root.iterdir() if entry.is_file() and entry.suffix.lower() in SUFFIXES)
    if loose:
        warn(f"{len(loose)} images lie beside the class folders and are left out: {', '.join(loose[:5])}")
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        confined(folder, inside)
        for place, folders, files in os.walk(folder):
            folders.sort()
            for name in sorted(files):
                path = Path(place, name)
                if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                    confined(path, inside)
                    yield folder.name, path


def confined(path: Path, inside: Path) -> None:
    """StepError for a link that leads out of `inside`."""
    if path.is_symlink() and not path.resolve().is_relative_to(inside):
        raise StepError("a link that leads out of the image folder", where=str(path), hint="copy the file instead")
