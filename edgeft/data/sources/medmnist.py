"""MedMNIST (Yang et al. 2023, doi 10.1038/s41597-022-01721-8): one .npz of small medical images in three splits."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgeft.data.labels import SEPARATOR
from edgeft.data.pack import pixels_digest
from edgeft.data.source import DataSpec, Intake, Meter, Source, Warn, path_of, require_columns
from edgeft.data.sources.npy_stream import ArrayStream, open_array
from edgeft.errors import RecipeError, StepError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("image", "label", "split", "pixels", "file")
PARTS = ("train", "val", "test")
SHARED = ("validation", "calibration", "search")
"""What the official validation split is divided into, by the shares that data.fractions gives these three."""
LARGEST_SIDE = 1024


class MedMnistSource(Source):
    """Columns `image` (split and number), `label` (the number, or its name in data.labels) and `split`.

    `data.split: split` keeps the official test set as the gate set and the official training set as train; validation
    is divided into validation, calibration and search, equal images together. The files name no patients, so
    `ungrouped: true` must say that you know. Sets of several labels an image (chestmnist) are for task
    image-multilabel; sets of volumes are refused by name.
    """

    name: ClassVar[str] = "medmnist"
    patients: ClassVar[Literal["", "column", "none"]] = "none"

    ungrouped: bool = Field(False, description="There are no patients in the file: rows are counted, and it is said.")
    max_gb: float = Field(8, gt=0, le=256, description="Largest size of all images once unpacked.")

    def read(self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn) -> pa.Table:
        """Needs a folder to write into: `read_into`."""
        raise StepError("medmnist writes its images into a folder", where="data.source")

    def read_into(
        self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn, intake: Intake
    ) -> pa.Table:
        """Train, validation and test rows in the file's order; images as PNG files, one at a time in memory."""
        import pyarrow as pa

        require_columns(columns, COLUMNS, "source 'medmnist'")
        path = path_of(spec, split)
        if spec.split != "split":
            hint = "data: {split: split} keeps its own test set as the sealed gate set"
            raise RecipeError("MedMNIST is divided already", where="data.split", hint=hint)
        found: dict[str, list[str]] = {name: [] for name in COLUMNS}
        with _opened(path) as archive:
            self._check_sizes(archive, path)
            for part in PARTS:
                rows = list(_rows(archive, path, part, spec.labels, intake))
                names = [part] * len(rows) if part != "val" else _divided([row[2] for row in rows], spec)
                for (name, label, pixels, file), home in zip(rows, names, strict=True):
                    for column, value in zip(COLUMNS, (name, label, home, pixels, file), strict=True):
                        found[column].append(value)
        Meter(str(path)).add(len(found["image"]))
        return pa.table({name: pa.array(column, pa.string()) for name, column in found.items()})

    def _check_sizes(self, archive: zipfile.ZipFile, path: Path) -> None:
        """StepError before anything is unpacked."""
        whole = sum(item.file_size for item in archive.infolist())
        if whole > self.max_gb * 1e9:
            what = f"unpacks to {whole / 1e9:.3g} GB, the limit is {self.max_gb:g}"
            raise StepError(what, where=str(path), hint="if the file is yours, raise data.options.max_gb")
        absent = [f"{part}_{kind}" for part in PARTS for kind in ("images", "labels")]
        absent = [name for name in absent if f"{name}.npy" not in archive.namelist()]
        if absent:
            raise StepError(f"has no {absent[0]}", where=str(path), hint="a .npz as medmnist.com publishes it")


def _opened(path: Path) -> zipfile.ZipFile:
    if path.suffix != ".npz" or not path.is_file():
        raise RecipeError("medmnist needs a .npz file", where=str(path), hint="for instance pneumoniamnist_128.npz")
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise StepError(f"not a .npz file: {error}", where=str(path), hint="was it copied whole?") from error


def _rows(
    archive: zipfile.ZipFile, path: Path, part: str, labels: Sequence[str] | None, intake: Intake
) -> Iterator[tuple[str, str, str, str]]:
    """(name, label, digest of the pixels, PNG file) of each image of one part."""
    import numpy as np

    where = f"{path}: {part}"
    with open_array(archive, f"{part}_labels.npy", where) as stream:
        numbers: Any = np.concatenate(list(stream.rows())) if stream.shape[0] else np.zeros(0, np.int64)
    if numbers.dtype.kind not in "iu" or numbers.ndim > 2:
        what = f"labels are {numbers.dtype} {numbers.shape}, whole numbers, one or a row an image, are expected"
        raise StepError(what, where=where)
    several = numbers.ndim == 2 and numbers.shape[1] > 1
    numbers = numbers if several else numbers.reshape(-1)
    if several and not intake.several:
        hint = "task: image-multilabel, or a set with one label an image, for instance pneumoniamnist"
        raise StepError(f"{numbers.shape[1]} labels an image", where=where, hint=hint)
    if several:
        _check_several(numbers, labels, where)
    with open_array(archive, f"{part}_images.npy", where) as stream:
        _check_images(stream, len(numbers), where)
        (intake.folder / part).mkdir()
        for place, image in enumerate(row for block in stream.rows() for row in block):
            name, file = f"{part}/{place:06d}", intake.folder / part / f"{place:06d}.png"
            _write(image, file)
            row = numbers[place]
            label = _spelt_several(row, labels) if several else _spelt(int(row), labels, where)
            yield name, label, pixels_digest(image), str(file)


def _check_images(stream: ArrayStream, n: int, where: str) -> None:
    shape = tuple[int, ...](stream.shape)
    if len(shape) == 4 and shape[3] != 3:
        hint = "volumes are no images; a 2-D set, for instance pneumoniamnist"
        raise StepError(f"images of shape {shape[1:]}", where=where, hint=hint)
    if stream.dtype != "|u1" or len(shape) not in (3, 4) or max(shape[1:3]) > LARGEST_SIDE:
        raise StepError(f"images are {stream.dtype} {shape}, uint8 (n, rows, columns[, 3]) is expected", where=where)
    if shape[0] != n:
        raise StepError(f"{shape[0]} images and {n} labels", where=where)


def _spelt(number: int, labels: Sequence[str] | None, where: str) -> str:
    if labels is None:
        return str(number)
    if not 0 <= number < len(labels):
        raise StepError(f"label {number}, data.labels names {len(labels)}", where=where, hint="name every label")
    return labels[number]


def _check_several(numbers: Any, labels: Sequence[str] | None, where: str) -> None:
    """A column of 0 and 1 for each label; StepError for other values or another number of names."""
    if labels is not None and len(labels) != numbers.shape[1]:
        what, hint = (
            f"{numbers.shape[1]} labels an image, data.labels names {len(labels)}",
            "name every label, in order",
        )
        raise StepError(what, where=where, hint=hint)
    if numbers.max(initial=0) > 1 or numbers.min(initial=0) < 0:
        raise StepError("several labels an image are 0 or 1 each", where=where, hint="is it of MedMNIST?")


def _spelt_several(row: Any, labels: Sequence[str] | None) -> str:
    """As task image-multilabel reads it: a|b, empty for none."""
    names = labels or [str(place) for place in range(len(row))]
    return SEPARATOR.join(name for name, there in zip(names, row, strict=True) if there)


def _write(image: Any, file: Path) -> None:
    from PIL import Image

    Image.fromarray(image).save(file, format="PNG", compress_level=1)


def _divided(pixels: Sequence[str], spec: DataSpec) -> list[str]:
    """Split of each validation row: drawn by its pixels, so that equal images stay together."""
    shares = {name: max(getattr(spec.fractions, name), 0.01) for name in SHARED}
    whole, found = sum(shares.values()), []
    for place, digest in enumerate(pixels):
        drawn = sha256(f"medmnist {digest or place}".encode()).digest()
        mark = int.from_bytes(drawn[:8]) / 2**64 * whole
        for name in SHARED:
            mark -= shares[name]
            if mark < 0 or name == SHARED[-1]:
                found.append(name)
                break
    return found
