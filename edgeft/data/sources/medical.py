"""What the sources of medical images share: a table of cases, slices decoded one case at a time, and no names kept."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgeft.canonical import digest_json
from edgeft.data.source import (
    DataSpec,
    FileDigest,
    Intake,
    Meter,
    Source,
    Warn,
    digest_files,
    path_of,
    require_columns,
    stated_paths,
)
from edgeft.data.sources.cases import CASES, read_cases
from edgeft.data.sources.decoded import Slice, VolumeWriter, Writer, slices_of, whole_of
from edgeft.errors import RecipeError, StepError

if TYPE_CHECKING:
    import pyarrow as pa

    from edgeft.medical.read import Reader
    from edgeft.medical.volume import Volume

OWN = ("image", "label", "file", "pixels", "spacing")
DENSE = ("mask_file", "present")
PATIENT = "patient"
PLACES = ("file", "case")
ID_DIGITS = 12
NO_PATIENT = f"name a column of {CASES} by data.group, or say that you accept it: data.options.ungrouped: true"


@dataclass(frozen=True)
class Case:
    """One image or series of the table. more: its further columns."""

    path: Path
    mask: Path | None = None
    label: str = ""
    more: Mapping[str, str] = field(default_factory=dict)


class MedicalSource(Source):
    """`path/cases.csv` names a `file` (or folder) or `case` (folder) below the path, its `label` or `mask`, and more.

    Rows are slices. They are called by a keyed hash of that name: a file may be called after a patient. Values of the
    columns named by data.group and data.unit are replaced by pseudonyms, which are equal where the values are.
    """

    decodes: ClassVar[bool] = True
    axis: Literal["stored", "axial", "coronal", "sagittal"] = Field("stored", description="How volumes are sliced.")
    slices: Literal["one", "all", "labelled", "whole"] = Field(
        "one",
        description="one: an image of several slices is refused; all: each is a row, with the label of its case or its "
        "own part of the mask; labelled: only those whose mask is not empty; whole: the volume is the row, for task "
        "volume-segmentation.",
    )
    ungrouped: bool = Field(
        False, description="Divide by slice though one patient may then stand in two splits; the report says so."
    )
    on_unreadable: Literal["stop", "skip"] = Field("stop", description="What to do about a file that is refused.")

    def fingerprint(self, spec: DataSpec, file_digest: FileDigest) -> dict[str, Any]:
        """One digest over names and contents: no name of a file is kept."""
        content = {}
        for split, path in stated_paths(spec):
            files = digest_files(_folder(path), file_digest)
            content[split or "all"] = {"files": len(files), "sha256": digest_json(files)}
        return {**self.identity(), "content": content}

    def check(self, spec: DataSpec) -> None:
        """The table is there, and what it names."""
        for _, path in stated_paths(spec):
            self.cases(_folder(path))

    def columns(self, path: Path) -> list[str] | None:
        """Those of the table, and those that the files themselves may fill."""
        rows = read_cases(path / CASES, PLACES) if path.is_dir() else []
        return [*OWN, *DENSE, *self.facts(), *(name for name in rows[0] if name not in OWN)] if rows else None

    @property
    def whole(self) -> bool:
        """As `slices: whole` says."""
        return self.slices == "whole"

    def facts(self) -> tuple[str, ...]:
        """Columns that come from the files' own headers."""
        return ()

    def read(self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn) -> pa.Table:
        """Needs a folder to write into: `read_into`."""
        raise StepError(f"{self.name} writes decoded slices into a folder", where="data.source")

    def read_into(
        self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn, intake: Intake
    ) -> pa.Table:
        """Slices in the table's order; one case is in memory at a time."""
        import pyarrow as pa

        if intake.medical is None:
            raise RecipeError(
                f"source '{self.name}' needs a window", where="preprocess", hint="preprocess: {window: [lo, hi]}"
            )
        root = _folder(path_of(spec, split))
        cases = self.cases(root)
        dense = any(case.mask is not None for case in cases)
        known = (*OWN, *(DENSE if dense else ()), *self.facts(), *cases[0].more)
        require_columns(columns, known, str(root / CASES))
        found: dict[str, list[str]] = {name: [] for name in dict.fromkeys((*known[: len(OWN) + 2 * dense], *columns))}
        writer = (intake.writer or (VolumeWriter if self.whole else Writer))(intake, dense)
        names = _Names(spec, cases[0].more)
        meter, unknown = Meter(str(root)), []
        for case, volume, mask in self._decoded(root, cases, spec, warn):
            row = {**volume.facts, PATIENT: volume.patient, **case.more, "label": case.label}
            unknown += [_shown(case, root)] if not row[PATIENT] and PATIENT in columns else []
            parts = whole_of(volume, mask) if self.whole else slices_of(volume, mask, self.axis)
            taken = self._take(parts, _shown(case, root))
            for one in taken:
                meter.add(1)
                image = names.row(case.path, root, one.place if one.of > 1 else None)
                written = {**row, **writer.write(one), "image": image}
                for name, column in found.items():
                    column.append(names.column(name, str(written.get(name) or "")))
        if unknown:
            what = f"{len(unknown)} of {len(cases)} cases have no Patient ID"
            raise StepError(what, where=unknown[0], hint=NO_PATIENT)
        if not found["image"]:
            raise StepError("no slice is left", where=str(root), hint="data.options.slices says which are taken")
        return pa.table({name: pa.array(column, pa.string()) for name, column in found.items()})

    def locate(self, spec: DataSpec, split: str | None, ids: Sequence[str]) -> dict[str, tuple[Path, int | None]]:
        """The files behind rows' ids, found by hashing their names again."""
        root, names = _folder(path_of(spec, split)), _Names(spec)
        paths = {names.row(case.path, root, None): case.path for case in self.cases(root)}
        parts = {name: name.partition("/") for name in ids}
        return {name: (paths[part[0]], int(part[2]) if part[1] else None) for name, part in parts.items()}

    def cases(self, root: Path) -> list[Case]:
        """The rows of cases.csv. StepError for what names nothing, or leads out of the folder."""
        rows = read_cases(root / CASES, PLACES)
        if not rows:
            hint = "columns: file (or case, a folder), label (or mask), and any to group or divide by"
            raise RecipeError(f"there is no {CASES}", where=str(root), hint=hint)
        found = []
        for number, row in enumerate(rows, 2):
            where = f"{root / CASES}:{number}"
            stated = next((row[name] for name in PLACES if row.get(name)), "")
            mask = inside(root, row["mask"], where) if row.get("mask") else None
            if "label" in row and not row["label"] and mask is None:
                raise StepError("neither a label nor a mask", where=where)
            more = {name: value for name, value in row.items() if name not in (*OWN, "mask")}
            found.append(Case(inside(root, stated, where), mask, row.get("label", ""), more))
        if len({case.mask is None for case in found}) > 1:
            raise StepError("some cases have a mask and some have none", where=str(root / CASES))
        return found

    def _take(self, slices: Iterator[Slice], name: str) -> Iterator[Slice]:
        for one in slices:
            if self.slices == "one" and one.of > 1:
                hint = "data: {options: {slices: all}} makes each a row; labelled: those whose mask is not empty"
                raise StepError(f"an image of {one.of} slices", where=name, hint=hint)
            if self.slices != "labelled" or one.labelled:
                yield one

    def _decoded(
        self, root: Path, cases: Sequence[Case], spec: DataSpec, warn: Warn
    ) -> Iterator[tuple[Case, Volume, Any]]:
        """(case, volume, mask or None) of each, read in the child process; warnings of the files once for each kind."""
        said: dict[str, int] = {}
        skipped: list[str] = []
        with self.reader(root) as reader:
            for case in cases:
                try:
                    volume = reader.read(case.path)
                    mask = reader.read_mask(case.mask, volume, spec.labels or ()) if case.mask else None
                except StepError as error:
                    if self.on_unreadable == "stop":
                        raise
                    skipped.append(f"{error.where}: {error.what}")
                    continue
                _check_modality(volume, spec, _shown(case, root))
                for text in volume.warnings:
                    said[text] = said.get(text, 0) + 1
                yield case, volume, mask
        for text, times in said.items():
            warn(f"{times} of {len(cases)} cases: {text}")
        if skipped:
            warn(f"{len(skipped)} of {len(cases)} cases cannot be read and are left out: {'; '.join(skipped[:5])}")

    @contextmanager
    def reader(self, root: Path) -> Iterator[Reader]:
        """One child process for all files."""
        from edgeft.medical.read import Reader, Reading

        with Reader(reading=Reading(root=root)) as reader:
            yield reader


class _Names:
    """Names that tell nobody's: keyed hashes of files' names, pseudonyms of what groups rows."""

    def __init__(self, spec: DataSpec, written: Iterable[str] = ()) -> None:
        """written: columns of the table, whose values are as the user wrote them."""
        from edgeft.medical.key import pseudonym_key

        self.key = pseudonym_key()
        self.hidden = {spec.group, spec.unit}.intersection(written)

    def row(self, path: Path, root: Path, place: int | None) -> str:
        """`case-<hash>`, and the slice where there are several."""
        name = f"case-{self._hash('file', path.relative_to(root).as_posix())}"
        return name if place is None else f"{name}/{place:04d}"

    def column(self, name: str, value: str) -> str:
        """The value, or what stands for it."""
        return self._hash("group", value) if name in self.hidden and value else value

    def _hash(self, kind: str, text: str) -> str:
        return hmac.new(self.key, f"{kind}\0{text}".encode("utf-8", "surrogatepass"), sha256).hexdigest()[:ID_DIGITS]


def inside(root: Path, stated: str, where: str) -> Path:
    """A path of the table below the root. StepError for one that leads out or to nothing."""
    path = root / stated
    if not stated or "\0" in stated or Path(stated).is_absolute() or not path.resolve().is_relative_to(root.resolve()):
        raise StepError("names no file below the folder", where=where, hint="a path such as scans/0001.dcm")
    if not path.exists():
        raise StepError("names a file that is not there", where=where)
    return path


def _check_modality(volume: Volume, spec: DataSpec, name: str) -> None:
    """StepError for an image of another modality than data.expect.modalities."""
    wanted = spec.expect.modalities if spec.expect is not None else None
    if wanted and volume.modality not in wanted:
        what = f"not as data.expect.modalities says: {volume.modality or 'no modality'}, not {' or '.join(wanted)}"
        raise StepError(what, where=name, hint="leave such images out, or widen the expectation")


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise RecipeError("a folder is needed", where=str(path), hint=f"the one that holds {CASES}")
    return path


def _shown(case: Case, root: Path) -> str:
    from edgeft.medical.read import show

    return show(case.path, root)
