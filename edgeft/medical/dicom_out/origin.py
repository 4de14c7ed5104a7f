"""Who made an object: what goes into equipment, algorithm identification and series of everything written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgeft.medical.codes import LONG, fit

Qualification = Literal["RESEARCH", "PRODUCT", "SERVICE"]
NOT_RELEASED = "NOT RELEASED, gates failed: "


@dataclass(frozen=True)
class Origin:
    """The algorithm and the software around it. Every text is at most 64 characters (LO), parameters apart.

    qualification: Content Qualification (0018,9004): what others may use the object for. version: a digest of all of
    the bundle, its preprocessing too. released: whether the artefact passed its gates.
    """

    name: str
    version: str
    manufacturer: str = "edgeft"
    software: tuple[str, ...] = ()
    parameters: Mapping[str, str] | None = None
    qualification: Qualification = "RESEARCH"
    released: bool = True

    def __post_init__(self) -> None:
        for text in (self.name, self.version, self.manufacturer, *self.software):
            if not text or fit(text) != text:
                raise ValueError(f"'{text[:80]}' is not 1 to {LONG} printable characters without a backslash")

    def description(self, what: str) -> str:
        """A series' or content's description; says first that gates failed where they did."""
        return fit(f"{'' if self.released else NOT_RELEASED}{self.name} {what}")

    def to_json(self) -> dict[str, Any]:
        """For the child process."""
        return {**asdict(self), "software": list(self.software)}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Origin:
        """What `to_json` gave."""
        return cls(**{**row, "software": tuple(row["software"])})
