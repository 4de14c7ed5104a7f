"""What host and target say to each other: jobs, results, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgeft.errors import DeviceError

if TYPE_CHECKING:
    from edgeft.task import Arrays

JobKind = Literal[
    "predict", "slide", "latency", "compare", "cold", "operators", "inspect", "probe", "describe", "preprocess"
]
TIMED: frozenset[str] = frozenset({"latency", "compare", "cold", "operators", "probe"})
"""Kinds whose answer is a time or a memory figure: meaningless, and refused, on an emulated device."""
ANSWERING: frozenset[str] = frozenset({"predict", "slide", "preprocess"})
"""Kinds whose answer includes arrays."""
OnProgress = Callable[[float, float], None]


def ignore_progress(done: float, total: float) -> None:
    """For callers that show nothing."""


class ArtefactRefused(DeviceError):
    """The device works, but its runtime cannot load or run this artefact: one candidate's failure."""


@dataclass(frozen=True)
class Job:
    """One piece of work on a target.

    runtime: the runtime's one file (of preprocess: the reference's). models: role (`model`, `other`) -> file on the
    host; its folder is what travels.
    feeds: role (`feeds`, `other_feeds`) -> runtime input name -> (n, ...) array; of slide, place -> one whole case.
    settings: JSON, by kind: plan, input, dtype and output (slide), batch (all others but inspect and describe), runs,
    seconds and most_warmup (latency), blocks and seconds (compare), runs (operators), operations and seconds or
    megabytes (probe), options (for the runtime: threads, providers, fallback), affinity (cores to stay on), stated
    (preprocess: what preprocess.json says).
    timeout: seconds in all. silence: seconds without a word of progress after which it counts as hung.
    """

    kind: JobKind
    runtime: Path
    models: Mapping[str, Path] = field(default_factory=dict)
    feeds: Mapping[str, Arrays] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 600.0
    silence: float = float("inf")


@dataclass(frozen=True)
class Result:
    """data: what the worker wrote into result.json. arrays: outputs by runtime name (predict), classes by place
    (slide), pixels (preprocess), else empty."""

    data: Mapping[str, Any]
    arrays: Arrays
