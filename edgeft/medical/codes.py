"""What a label means to other systems: a coded concept of DICOM, as PS3.3 section 8 defines one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgeft.errors import RecipeError

OWN_SCHEME = "99EDGEFT"
"""Private, as every designator that begins with 99: a label of a recipe that states no code."""
SHORT, LONG = 16, 64
"""Characters that a value or designator (SH), and a meaning (LO), may have."""
MAX_CODES_BYTES, MOST_LABELS = 1 << 20, 10_000


@dataclass(frozen=True)
class Code:
    """One coded concept: value and meaning in a coding scheme (SCT, DCM, LN, or a private one that begins with 99)."""

    value: str
    scheme: str
    meaning: str

    def fault(self) -> str:
        """What DICOM does not take of it; empty where it is sound."""
        for name, text, most in (("value", self.value, SHORT), ("scheme", self.scheme, SHORT)):
            if not (text.strip() and text.isascii() and text.isprintable() and "\\" not in text and len(text) <= most):
                return f"{name} must be 1 to {most} printable ASCII characters without a backslash"
        if not self.meaning.strip() or fit(self.meaning) != self.meaning:
            return f"meaning must be 1 to {LONG} printable characters without a backslash"
        return ""


UNKNOWN_CATEGORY = Code("309825002", "SCT", "Spatial and Relational Concept")
"""Of CID 7150, the one that claims nothing about what a segment is: neither an organ nor a lesion."""


@dataclass(frozen=True)
class LabelCode:
    """The code of a label, and of a segment's category (CID 7150: Tissue, Anatomical Structure, ...)."""

    code: Code
    category: Code = UNKNOWN_CATEGORY

    @property
    def private(self) -> bool:
        """Whether no recipe stated it."""
        return self.code.scheme == OWN_SCHEME

    def to_json(self) -> dict[str, Any]:
        """For the child process and for postprocess.json."""
        return {**asdict(self.code), "category": asdict(self.category)}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> LabelCode:
        """From {value, scheme, meaning, category?: {value, scheme, meaning}}. ValueError says what is wrong."""
        category = row.get("category")
        return cls(_code(row, {"category"}), UNKNOWN_CATEGORY if category is None else _code(category, set()))


def fit(text: str) -> str:
    """At most 64 characters that an LO element takes; a backslash would begin a second value."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text).replace("\\", "/")
    return plain.strip()[:LONG].strip()


def own_code(label: str) -> LabelCode:
    """The private code of a label: the same for the same word, whichever bundle it is in."""
    digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:SHORT].upper()
    return LabelCode(Code(digest, OWN_SCHEME, fit(label) or digest))


def code_labels(labels: Sequence[str], stated: Mapping[str, LabelCode]) -> dict[str, LabelCode]:
    """Label -> its stated code, else its private one, in the order of `labels`."""
    return {label: stated.get(label) or own_code(label) for label in labels}


def read_codes(raw: bytes, labels: Sequence[str], where: str) -> dict[str, LabelCode]:
    """A file of codes, {label: {value, scheme, meaning, category?}}, each for one of `labels`; else RecipeError."""
    hint = 'write {"label": {"value": "10200004", "scheme": "SCT", "meaning": "Liver"}, ...}'
    try:
        if len(raw) > MAX_CODES_BYTES:
            raise ValueError(f"it is larger than {MAX_CODES_BYTES >> 20} MB")
        rows = json.loads(raw.decode("utf-8"))
        if not isinstance(rows, dict) or len(rows) > MOST_LABELS:
            raise ValueError("it must be one object, label -> code")
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"is no file of codes: {error}", where=where, hint=hint) from error
    found = {}
    for label, row in rows.items():
        if label not in labels:
            known = f"the bundle's labels are {', '.join(labels[:10])}"
            raise RecipeError(f"'{label[:80]}' is no label of the bundle", where=where, hint=known)
        try:
            found[label] = LabelCode.of(row)
        except (ValueError, TypeError, AttributeError) as error:
            raise RecipeError(f"the code of '{label[:80]}': {error}", where=where, hint=hint) from error
    return found


def _code(row: Mapping[str, Any], besides: set[str]) -> Code:
    """ValueError where it is none."""
    if not isinstance(row, Mapping):
        raise ValueError("a code is an object with value, scheme and meaning")  # noqa: TRY004  told with the others
    keys = {"value", "scheme", "meaning"}
    if missing := sorted(keys - row.keys()):
        raise ValueError(f"{missing[0]} is missing")
    if extra := sorted(row.keys() - keys - besides):
        raise ValueError(f"'{str(extra[0])[:40]}' is no part of a code")
    if not all(isinstance(row[key], str) for key in keys):
        raise ValueError("value, scheme and meaning are texts")
    code = Code(row["value"], row["scheme"], row["meaning"])
    if fault := code.fault():
        raise ValueError(fault)
    return code
