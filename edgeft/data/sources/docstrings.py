"""Real text that exists wherever edgeft is installed: docstrings of installed packages, to be told apart by library."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from edgeft.data.source import DataSpec, FileDigest, Source, Warn, require_columns
from edgeft.data.sources.docstring_text import docstrings, first_prose, mask, mask_pattern
from edgeft.errors import RecipeError, StepError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("text", "label", "module", "name")
DEFAULT = ("networkx", "numpy", "pandas", "scipy", "sklearn", "sympy", "torch", "transformers")
"""Libraries that edgeft's core installation always brings, each with over a thousand docstrings of prose."""
DISTRIBUTIONS = {"sklearn": "scikit-learn", "jinja2": "Jinja2", "huggingface_hub": "huggingface-hub"}
SKIPPED_FOLDERS = frozenset(
    {"tests", "test", "testing", "_vendor", "vendor", "_vendored", "externals", "third_party", "__pycache__"}
)
MAX_FILE_BYTES = 4 << 20


class DocstringsSource(Source):
    """Columns `text` (opening prose, library names masked), `label` (library), `module` (dotted; the group), `name`.

    Files are read with `ast`, no package is imported. They are taken in the order of a hash of their module name until
    a library has `per_package` texts, so that a part is a fair sample of the library. A text that two libraries share
    is left out; within a library it is kept once.
    """

    name: ClassVar[str] = "docstrings"

    packages: tuple[str, ...] = Field(
        DEFAULT, min_length=2, max_length=50, description="Import names of the libraries."
    )
    min_chars: int = Field(60, ge=1, description="Shorter texts are left out.")
    max_chars: int = Field(320, ge=20, le=100_000, description="Longer texts are cut between words.")
    per_package: int | None = Field(1200, ge=1, description="At most this many texts of each library; null: all.")

    @model_validator(mode="after")
    def _consistent(self) -> DocstringsSource:
        if self.min_chars > self.max_chars:
            raise ValueError("min_chars is above max_chars")
        wrong = [name for name in self.packages if not name.isidentifier()]
        if wrong:
            raise ValueError(f"'{wrong[0]}' is no import name of a top-level package")
        return self

    def fingerprint(self, spec: DataSpec, file_digest: FileDigest) -> dict[str, Any]:
        """Versions of the packages and of Python, whose `ast` reads them."""
        versions = {name: _version(name) for name in sorted(self.packages)}
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        return {**self.identity(), "content": {"packages": versions, "python": python}}

    def read(self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn) -> pa.Table:
        """All packages, sorted by library, module and place in the file."""
        import pyarrow as pa

        require_columns(columns, COLUMNS, "source 'docstrings'")
        pattern = mask_pattern(self.packages)
        found = {name: self._package(name, pattern, warn) for name in sorted(set(self.packages))}
        owners: dict[str, set[str]] = {}
        for library, rows in found.items():
            for row in rows:
                owners.setdefault(_key(row[0]), set()).add(library)
        kept = [row for rows in found.values() for row in rows if len(owners[_key(row[0])]) == 1]
        return pa.table(
            {name: pa.array([row[place] for row in kept], pa.string()) for place, name in enumerate(COLUMNS)}
        )

    def _package(self, package: str, pattern: Any, warn: Warn) -> list[tuple[str, str, str, str]]:
        """(text, library, module, name) of one package, texts distinct."""
        rows: dict[str, tuple[str, str, str, str]] = {}
        root = _root(package)
        for module, path in _files(package, root):
            for name, text in _read(path):
                prose = first_prose(text, self.min_chars, self.max_chars)
                if prose is not None:
                    masked = mask(prose, pattern)
                    if len(masked) >= self.min_chars:
                        rows.setdefault(_key(masked), (masked, package, module, name))
                if len(rows) == self.per_package:
                    return sorted(rows.values(), key=lambda row: (row[2], row[3], row[0]))
        if not rows:
            raise StepError(f"package '{package}' has no docstring of at least {self.min_chars} characters")
        if self.per_package and len(rows) < self.per_package / 2:
            warn(f"'{package}' has only {len(rows)} docstrings, others up to {self.per_package}")
        return sorted(rows.values(), key=lambda row: (row[2], row[3], row[0]))


def _key(text: str) -> str:
    return " ".join(text.split()).casefold()


def _root(package: str) -> Path:
    """The package's folder, found without importing it."""
    spec = PathFinder.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        hint = "it must be an installed package (a folder), named as in `import`"
        raise RecipeError(f"no package '{package}' is installed", where="data.options.packages", hint=hint)
    return Path(next(iter(spec.submodule_search_locations)))


def _version(package: str) -> str:
    """Version of the distribution that brings the package; RecipeError when it is not installed."""
    from importlib.metadata import PackageNotFoundError, packages_distributions, version

    root = _root(package)
    try:
        return version(DISTRIBUTIONS.get(package, package))
    except PackageNotFoundError:
        owners = sorted(set(packages_distributions().get(package, [])))
    return "+".join(version(owner) for owner in owners) or f"unversioned:{len(list(root.rglob('*.py')))}"


def _files(package: str, root: Path) -> Iterator[tuple[str, Path]]:
    """(dotted module, file) of every module outside test and vendored folders, ordered by a hash of the module."""
    found = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if SKIPPED_FOLDERS.isdisjoint(parts) and not parts[-1].lstrip("_").startswith(("test", "conftest")):
            dotted = ".".join([package, *(part for part in parts if part != "__init__")])
            found.append((sha256(dotted.encode()).hexdigest(), dotted, path))
    for _, dotted, path in sorted(found):
        yield dotted, path


def _read(path: Path) -> list[tuple[str, str]]:
    """Docstrings of one file; none when it is too large or written for another Python."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return []
        return list(docstrings(path.read_bytes()))
    except (SyntaxError, ValueError, RecursionError, OSError):
        return []
