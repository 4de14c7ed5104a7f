"""What devices may answer, checked: a result can come from any machine, or in a zip that a person carried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeft.errors import DeviceError

Time = Annotated[float, Field(ge=0)]
Answer = TypeVar("Answer", bound="Checked")


class Checked(BaseModel):
    """Base of all answers: no NaN or infinity; keys of a newer worker are let be."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Block(Checked):
    """Runs between two sentinels. ms: of each; seconds, cpu: wall and processor time of the block."""

    ms: list[Time] = Field(min_length=1)
    void: bool
    seconds: Time
    cpu: Time


class Timed(Checked):
    """A `latency` job's answer; see device/timing.py."""

    blocks: list[Block] = Field(min_length=1)
    sentinel_ms: list[Time] = Field(min_length=1)
    readings: list[dict[str, float]]
    warmup_runs: int = Field(ge=0)
    settled: bool
    wall: Time
    seconds: Time
    throttled: bool
    clock: dict[str, str] = Field(default_factory=dict)
    waited_seconds: Time | None = None
    affinity: str = ""


class Start(Checked):
    """A `cold` job's answer. peak_mb, before_mb: None where the system does not tell."""

    load_ms: Time
    first_ms: Time
    peak_mb: Time | None = None
    before_mb: Time | None = None


class Compared(Checked):
    """A `compare` job's answer: [ms of A, ms of B] per quadruple."""

    blocks: list[tuple[Annotated[list[Time], Field(min_length=1)], Annotated[list[Time], Field(min_length=1)]]]
    void: list[tuple[Annotated[list[Time], Field(min_length=1)], Annotated[list[Time], Field(min_length=1)]]]
    throttled: bool


class Operator(Checked):
    """One operator of an `operators` job's answer."""

    name: str
    op: str
    backend: str = ""
    ms: Time


class Operators(Checked):
    """An `operators` job's answer. placement: backend -> nodes. why: there are no operators, where that is so."""

    placement: dict[str, Annotated[int, Field(ge=0)]]
    operators: list[Operator]
    why: str = ""


class Rate(Checked):
    """A `probe` job's answer: one of the two rates."""

    gops: Annotated[float, Field(gt=0)] | None = None
    bandwidth: Annotated[float, Field(gt=0)] | None = None
    cache_mb: Time = 0.0


def check(kind: type[Answer], data: Mapping[str, Any]) -> Answer:
    """The answer, checked. DeviceError where it is not of its kind."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DeviceError(
            f"the device's answer is not a {kind.__name__.lower()} one: {where}: {first['msg']}",
            hint="is the same edgeft on both sides?",
        ) from error
