"""The recipe's keys for coded concepts: what a label means to systems that read DICOM."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from edgeft.medical.codes import Code
from edgeft.recipe.section import Section


class Concept(Section):
    """One coded concept of a coding scheme."""

    value: str = Field(description="Its code, up to 16 characters.", examples=["'10200004'"])
    scheme: str = Field(description="Coding scheme designator: SCT, DCM, LN, or a private one that begins with 99.")
    meaning: str = Field(description="What it means in words, up to 64 characters.", examples=["Liver"])

    @model_validator(mode="after")
    def _sound(self) -> Concept:
        if fault := Code(self.value, self.scheme, self.meaning).fault():
            raise ValueError(fault)
        return self


class LabelConcept(Concept):
    """The concept of a label."""

    category: Concept | None = Field(
        None,
        description="Of a segment, from DICOM's CID 7150 (Anatomical Structure, Tissue, ...); default: none claimed.",
    )

    @property
    def stated(self) -> dict[str, Any]:
        """As postprocess.json states it."""
        return self.model_dump(mode="json", exclude_none=True)
