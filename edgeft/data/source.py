"""The contract of a data source: a recipe's `data:` in, one pyarrow table out. Its fields are `data.options`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from edgeft import plugins
from edgeft.canonical import walk_files
from edgeft.errors import EdgeftError, RecipeError, StepError

if TYPE_CHECKING:
    import pyarrow as pa

    from edgeft.data.sources.decoded import Slice

MAX_ROWS = 5_000_000
MAX_TABLE_BYTES = 4 << 30

FileDigest = Callable[[Path], str]
Warn = Callable[[str], None]


class Fractions(Protocol):
    """Shares of the five splits; the recipe's `data.fractions`."""

    @property
    def train(self) -> float: ...
    @property
    def validation(self) -> float: ...
    @property
    def calibration(self) -> float: ...
    @property
    def search(self) -> float: ...
    @property
    def gate(self) -> float: ...


class DataSpec(Protocol):
    """What of the recipe's `data:` section this floor reads; `edgeft.recipe.schema.Data` is one."""

    @property
    def source(self) -> str: ...
    @property
    def path(self) -> str | None: ...
    @property
    def paths(self) -> Any: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def options(self) -> Mapping[str, Any]: ...
    @property
    def text(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def group(self) -> str | None: ...
    @property
    def unit(self) -> str | None: ...
    @property
    def split(self) -> str | None: ...
    @property
    def fractions(self) -> Fractions: ...
    @property
    def labels(self) -> tuple[str, ...] | None: ...
    @property
    def limit(self) -> int | None: ...
    @property
    def expect(self) -> Any: ...


class SliceWriter(Protocol):
    """What takes decoded slices, or whole volumes, and says their columns."""

    def write(self, one: Slice) -> dict[str, str]:
        """Columns of the row: file, pixels and spacing, of masks also mask_file, present and label."""
        ...


@dataclass(frozen=True)
class Intake:
    """Where a source that decodes puts what it decoded, and what truth must be brought to.

    folder: empty, of this step alone, gone once the splits are written. medical: `preprocess:` of the recipe as
    preprocess.json states it, None without a window. several: whether the task takes any number of labels a case.
    writer: made of (the intake, whether there are masks), takes what files are decoded to instead of the source's own.
    """

    folder: Path
    medical: Mapping[str, Any] | None = None
    several: bool = False
    writer: Callable[[Intake, bool], SliceWriter] | None = None


class Source(BaseModel):
    """Base of the sources. Fields are the options; `version` goes up when the same input gives other rows."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    version: ClassVar[int] = 1
    patients: ClassVar[Literal["", "column", "none"]] = ""
    """Of medical sources, whose rows belong to patients: `column`: it gives the column `patient`; `none`: none."""
    needs: ClassVar[Mapping[str, str]] = {}
    """Module that must be importable -> the extra that brings it."""
    tools: ClassVar[tuple[str, ...]] = ()
    """Distributions whose versions change what is decoded; part of the key."""
    decodes: ClassVar[bool] = False
    """It gives values in modality units, which `preprocess:` brings to grey levels."""

    @property
    def whole(self) -> bool:
        """Whether a row is a whole volume: .npy files of 8 bits, as edgeft/data/volumes.py says."""
        return False

    def fingerprint(self, spec: DataSpec, file_digest: FileDigest) -> dict[str, Any]:
        """Everything the rows depend on, as JSON without machine paths; cheap, imports nothing heavy.

        RecipeError when the source cannot be read at all: no file, no package, no pinned revision.
        """
        content = {split or "all": digest_files(path, file_digest) for split, path in stated_paths(spec)}
        return {**self.identity(), "content": content}

    def identity(self) -> dict[str, Any]:
        """Name, version and options: the part of a fingerprint every source has."""
        return {"source": self.name, "version": self.version, "options": self.model_dump(mode="json")}

    def check(self, spec: DataSpec) -> None:
        """What can be refused without reading an image; nothing here. RecipeError or StepError."""

    def columns(self, path: Path) -> list[str] | None:
        """Columns of a file or folder where they can be told without reading the rows; None where they cannot."""
        return None

    def says_spacing(self, spec: DataSpec) -> bool | None:
        """Whether rows will have a column `spacing` in mm (data/spacing.py); None where that is known from the rows
        alone. False refuses metrics in mm before anything is read."""
        return None

    def read(self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn) -> pa.Table:
        """The rows of `data.path` (split None) or of one of `data.paths`, with at least `columns`."""
        raise NotImplementedError(type(self).__name__)

    def read_into(
        self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn, intake: Intake
    ) -> pa.Table:
        """`read`, for sources that write images of their own: into `intake.folder`."""
        return self.read(spec, split, columns, warn)

    def locate(self, spec: DataSpec, split: str | None, ids: Sequence[str]) -> dict[str, tuple[Path, int | None]]:
        """Row's id -> (its file, which slice of it or None); StepError where rows are no files of their own."""
        raise StepError(f"rows of source '{self.name}' are no files of their own", where="data.source")


def source_for(spec: DataSpec) -> Source:
    """The source the recipe names, its options checked; RecipeError with did-you-mean otherwise."""
    kind: type[Source] = plugins.load("data", spec.source)
    try:
        return kind.model_validate(dict(spec.options))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = sorted(kind.model_fields)
        unknown = first["type"] == "extra_forbidden"
        what = f"source '{spec.source}' has no option '{key}'" if unknown else str(first["msg"])
        hint = did_you_mean(key, known, "options") if unknown else ""
        raise RecipeError(what, where=f"data.options.{key}", hint=hint) from error


def fingerprint(spec: DataSpec, file_digest: FileDigest) -> dict[str, Any]:
    """The fingerprint of the source a recipe names: content, options and version, no machine paths."""
    return source_for(spec).fingerprint(spec, file_digest)


def stated_paths(spec: DataSpec) -> list[tuple[str | None, Path]]:
    """[(None, path)] for `data.path`, or (split, path) for each of `data.paths`; RecipeError for a missing one."""
    if spec.paths is not None:
        found = [(name, Path(value)) for name, value in spec.paths if value]
    elif spec.path:
        found = [(None, Path(spec.path))]
    else:
        hint = f"data: {{source: {spec.source}, path: ...}}"
        raise RecipeError(f"source '{spec.source}' needs a path", where="data.path", hint=hint)
    for name, path in found:
        if not path.exists():
            where = f"data.paths.{name}" if name else "data.path"
            raise RecipeError(f"no file or folder {path}", where=where, hint=_near_file(path))
    return found


def path_of(spec: DataSpec, split: str | None) -> Path:
    """The path of one split, or the only path."""
    return dict(stated_paths(spec))[split]


def digest_files(path: Path, file_digest: FileDigest) -> Any:
    """Digest of a file, or [[name, digest], ...] of the files in a folder."""
    if path.is_file():
        return file_digest(path)
    return [[name, file_digest(file)] for name, file in walk_files(path)]


def require_columns(columns: Sequence[str], available: Iterable[str], where: str) -> None:
    """RecipeError with the columns there are when one is missing."""
    present = list(available)
    for column in columns:
        if column not in present:
            hint = did_you_mean(column, present, "columns")
            raise RecipeError(
                f"no column '{column}'", where=where, hint=f"{hint}; named by data.text, data.label, ... or gates[].by"
            )


def did_you_mean(word: str, known: Sequence[str], what: str) -> str:
    """`did you mean 'text'? columns: a, b, text`."""
    from difflib import get_close_matches

    near = get_close_matches(word.lower(), {name.lower(): name for name in known}, n=1, cutoff=0.6)
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    listed = f"{what}: {shown or 'none'}"
    if not near:
        return listed
    original = next(name for name in known if name.lower() == near[0])
    return f"did you mean '{original}'? {listed}"


class Meter:
    """Stops a source that gives more rows or bytes than a build on one machine should take."""

    def __init__(self, where: str, max_rows: int = MAX_ROWS, max_bytes: int = MAX_TABLE_BYTES) -> None:
        self.where, self.max_rows, self.max_bytes = where, max_rows, max_bytes
        self.rows = self.bytes = 0

    def add(self, rows: int, size: int = 0) -> None:
        """Count; StepError once a limit is passed."""
        self.rows += rows
        self.bytes += size
        if self.rows > self.max_rows:
            raise self._error(f"more than {self.max_rows:,} rows")
        if self.bytes > self.max_bytes:
            raise self._error(f"more than {self.max_bytes / (1 << 30):g} GB once read")

    def _error(self, what: str) -> EdgeftError:
        return StepError(what, where=self.where, hint="give a smaller file: data.limit is applied after reading")


def _near_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist either; a path is read from the folder of the recipe"
    names = sorted(entry.name for entry in path.parent.iterdir())
    return did_you_mean(path.name, names, f"in {path.parent.name or path.parent}")
