"""Labelled volumes as the cases both sides are asked: decoded once, kept as each side's network sees them."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.data.pack import FOLDER, SUFFIX, file_sha256, pixels_digest, write_pack
from edgeft.data.rows import wanted_columns
from edgeft.data.source import Intake, Warn, source_for
from edgeft.data.sources.cases import CASES, read_cases
from edgeft.data.sources.decoded import describe_mask
from edgeft.data.sources.medical import PLACES, MedicalSource
from edgeft.data.volumes import volume_bytes
from edgeft.errors import RecipeError, StepError
from edgeft.medical.read import NIFTI
from edgeft.recipe.schema import Data
from edgeft.ship.check.cases import COLUMN_HINT, keep_cases
from edgeft.ship.check.record import DataRow
from edgeft.ship.check.sides import Contender, Role
from edgeft.ship.check.stated import SCANS, Form
from edgeft.ship.dicom.pixels import read_medical

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from edgeft.data.sources.decoded import Slice
    from edgeft.medical.order import MedicalSpec

WANTED = "a folder with images/ and masks/, NIfTI files of the same names in both; or with cases.csv: file and mask"
DECODED = "decoded"


@dataclass(frozen=True)
class Grid:
    """A volume's own: (slices, rows, columns), and from their indices to mm."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class Scans:
    """seen: whose -> rows with the volumes as that side's network sees them. grids: case -> the grid it came on.
    folder: where answers of whole volumes may be kept."""

    seen: Mapping[Role, pa.Table]
    grids: Mapping[str, Grid]
    folder: Path

    def rows(self, role: Role, cases: pa.Table) -> pa.Table:
        """A side's volumes of these cases, in their order, without masks: those lie on another grid."""
        table = self.seen[role]
        places = {name: place for place, name in enumerate(table.column("id").to_pylist())}
        return table.take([places[name] for name in cases.column("id").to_pylist()])

    def grids_of(self, cases: pa.Table) -> list[Grid]:
        """Of these cases, in their order."""
        return [self.grids[name] for name in cases.column("id").to_pylist()]


def read_scans(
    path: Path, form: Form, sides: Sequence[Contender], by: Collection[str], out: Path, warn: Warn
) -> tuple[pa.Table, DataRow, Scans]:
    """(rows whose masks lie on the files' own grids, what they are, the volumes). sides: candidate and baseline, whose
    labels are the places that the masks' values name. by: as `read_cases` has it. Files go into `out`.

    RecipeError for a folder that is of no use here; StepError, with the file's name, for what is refused in it.
    """
    (baseline,) = (side for side in sides if side.role == "baseline")
    if baseline.reading is None:
        raise ValueError("without preprocessing there is nothing to read by")
    spec, source = volume_data(path, form, baseline.reading.labels)
    medical = {side.role: grey_levels(side) for side in sides}
    specs = list(dict.fromkeys([medical["baseline"], medical["candidate"]]))
    writers: list[_Writer] = []

    def make(intake: Intake, dense: bool) -> _Writer:
        writers.append(_Writer(intake, specs))
        return writers[-1]

    folder = out / DECODED
    folder.mkdir()
    columns = list(dict.fromkeys([*wanted_columns(spec, "image"), *by]))
    try:
        table = source.read_into(spec, None, columns, warn, Intake(folder, specs[0].to_dict(), writer=make))
    except RecipeError as error:
        hint = (
            f"{error.hint.partition('; named by')[0]}; {COLUMN_HINT}; --unit row counts every volume"
            if error.hint
            else ""
        )
        raise RecipeError(error.what, where=error.where, hint=hint or WANTED) from error
    names, writer = table.column("image").to_pylist(), writers[0]
    rows, data = keep_cases(table, spec, form, "image", path, baseline.reading.labels, by, out, warn)
    files = dict(zip(names, writer.files, strict=True))
    seen = {specs[0]: rows.select(["id", "at", "size"])}
    for place, other in enumerate(specs[1:], 1):
        seen[other] = _packed(rows, {name: found[place] for name, found in files.items()}, out / f"seen{place}{SUFFIX}")
    shutil.rmtree(folder)
    grids = dict(zip(names, writer.grids, strict=True))
    return rows, data, Scans({role: seen[own] for role, own in medical.items()}, grids, out)


def volume_data(path: Path, form: Form, labels: Sequence[str]) -> tuple[Data, MedicalSource]:
    """The folder as a recipe's `data:` would state it, and its source; everything that can be refused without decoding
    a file is. RecipeError."""
    where = f"--data {path}"
    if not path.exists():
        raise RecipeError("there is no such file or folder", where=where)
    if not path.is_dir():
        raise RecipeError("this is no data for volume-segmentation", where=where, hint=WANTED)
    try:
        name = _source_name(path, form)
        options = {**(form.options if form.source == name else {}), "slices": "whole"}
        spec = Data(
            source=name, path=str(path), options=options, unit=form.unit or "row", group=form.group,
            labels=tuple(labels),
        )  # fmt: skip
        source = source_for(spec)
        if not isinstance(source, MedicalSource):
            raise TypeError(f"source {name} decodes no files")
        cases = source.cases(path)
    except (RecipeError, StepError) as error:
        raise RecipeError(error.what, where=error.where or where, hint=error.hint or WANTED) from error
    alone = [case.path.name for case in cases if case.mask is None]
    if alone:
        what = f"'{alone[0]}' has no mask ({len(alone)} such): this is no data for volume-segmentation"
        raise RecipeError(what, where=where, hint=WANTED)
    for module in source.needs:
        if find_spec(module) is None:
            what = f"reading {name} files needs {module}, which is not installed"
            hint = f"pip install {module} (the extra 'medical' brings it, and torch)"
            raise RecipeError(what, where=where, hint=hint)
    return spec, source


def grey_levels(side: Contender) -> MedicalSpec:
    """What a side does to modality units before its network. RecipeError where nothing says it."""
    if side.reading is None:
        raise ValueError(f"the {side.role} has no preprocessing")
    try:
        return read_medical(side.reading.folder)
    except StepError as error:
        what = "it states no window from modality units to grey levels, so that no volume can be read for it"
        hint = "preprocess: {window: [lo, hi]} in the recipe it is built or read by"
        raise RecipeError(what, where=f"{side.role} {side.path} ({side.reading.said})", hint=hint) from error


class _Writer:
    """Grey levels by each of several preprocessings, and the mask as it was drawn."""

    def __init__(self, intake: Intake, specs: Sequence[MedicalSpec]) -> None:
        self.folder, self.specs = intake.folder, specs
        self.files: list[list[Path]] = []
        self.grids: list[Grid] = []

    def write(self, one: Slice) -> dict[str, str]:
        """Columns of one volume; spacing in mm of its own slices, rows and columns."""
        import numpy as np

        from edgeft.medical.order import prepare, quantise

        if one.mask is None:
            raise StepError("the case has no mask", where=str(self.folder))
        stem, files = f"{len(self.files):07d}", []
        for place, spec in enumerate(self.specs):
            shown, _ = prepare(one.values, one.affine, one.inverted, spec)
            files.append(self.folder / f"{stem}.{place}.npy")
            files[-1].write_bytes(volume_bytes(quantise(np.clip(shown, 0, 1))))
        drawn = self.folder / f"{stem}.mask.npy"
        drawn.write_bytes(volume_bytes(one.mask.astype(np.uint8)))
        self.files.append(files)
        depth, height, width = one.values.shape
        self.grids.append(Grid((depth, height, width), one.affine))
        spacing = " ".join(f"{mm:.6g}" for mm in np.linalg.norm(one.affine[:3, :3], axis=0))
        about: dict[str, Any] = {"file": files[0], "mask_file": drawn, "pixels": pixels_digest(one.values)}
        return {**{name: str(value) for name, value in about.items()}, "spacing": spacing, **describe_mask(one.mask)}


def _packed(rows: pa.Table, files: Mapping[str, Path], pack: Path) -> pa.Table:
    """The rows with other volumes, in a pack of their own."""
    import pyarrow as pa

    names = rows.column("id").to_pylist()
    wanted = [str(files[name]) for name in names]
    places = write_pack(pack, wanted, [file_sha256(file) for file in wanted])
    table = pa.table({"id": names, "at": [at for at, _ in places], "size": [size for _, size in places]})
    return table.replace_schema_metadata({FOLDER: str(pack).encode()})


def _source_name(path: Path, form: Form) -> str:
    """nifti for a pair of folders; of cases.csv what the recipe has, else what its first file is."""
    if not (path / CASES).is_file():
        return SCANS[0]
    if form.source in SCANS:
        return form.source
    rows = read_cases(path / CASES, PLACES)
    first = next((row[name] for row in rows for name in PLACES if row.get(name)), "")
    return SCANS[0] if first.lower().endswith(NIFTI) else SCANS[1]
