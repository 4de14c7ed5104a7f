"""cases.csv: further columns of cases, to be named by data.group, data.unit and a gate's `by`."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edgeft.data.source import require_columns
from edgeft.errors import StepError

CASES = "cases.csv"
MAX_CASES_BYTES = 256 << 20

Table = list[dict[str, str]]


def read_cases(path: Path, key: Sequence[str] = ("image",)) -> Table:
    """Rows of the table; empty without a file. key: columns of which there must be one. StepError where it is none."""
    if not path.is_file():
        return []
    if path.stat().st_size > MAX_CASES_BYTES:
        raise StepError("too large to be a table of cases", where=str(path))
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (csv.Error, UnicodeError) as error:
        raise StepError(f"not a CSV file: {error}", where=str(path)) from error
    if rows and not set(key) & rows[0].keys():
        named = " or ".join(f"'{name}'" for name in key)
        raise StepError(f"no column {named}", where=str(path), hint="it names each image by its file name or stem")
    return [{name: value or "" for name, value in row.items() if name} for row in rows]


class ImageCases:
    """The table beside a folder of images: each row names an image by its path below the folder, name or stem."""

    def __init__(self, root: Path, images: Iterable[str]) -> None:
        self.where = str(root / CASES)
        self.rows = {row["image"]: row for row in read_cases(root / CASES)}
        self.columns = tuple(next(iter(self.rows.values()), {}))
        self.times = Counter(key for image in images for key in _keys(image))

    def more(self, wanted: Sequence[str], own: Sequence[str]) -> list[str]:
        """Those of the wanted columns that only the table has. RecipeError for one that nobody has."""
        require_columns(wanted, (*own, *self.columns), self.where if self.rows else str(Path(self.where).parent))
        return [name for name in wanted if name not in own]

    def row(self, image: str) -> Mapping[str, str]:
        """The row of an image. StepError without one, or where its name stands for two images."""
        for key in _keys(image):
            if key in self.rows:
                if self.times[key] > 1:
                    hint = f"write the path below the folder, for instance {image}"
                    raise StepError(f"'{key}' is the name of {self.times[key]} images", where=self.where, hint=hint)
                return self.rows[key]
        raise StepError(f"{CASES} has no row for '{Path(image).stem}'", where=str(Path(self.where).parent))


def _keys(image: str) -> tuple[str, ...]:
    """How a table may call it: path below the root, file name, stem; each once."""
    path = Path(image)
    return tuple(dict.fromkeys((image, path.name, path.stem)))
