"""What the parts of a record have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from edgeft.measurement import check_measurement, check_numbers

MeasurementJson = Annotated[dict[str, Any], AfterValidator(check_measurement)]


VerdictJson = Annotated[dict[str, Any], AfterValidator(check_numbers)]


class Row(BaseModel):
    """Base of all record parts: unknown keys are errors so that reader and writer cannot drift apart."""

    model_config = ConfigDict(extra="forbid")
