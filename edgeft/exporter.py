"""The contract of an exporter: float artefact, a ladder of compressed variants, and how to make each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from edgeft.artifact import Artifact, Kind, Signature
from edgeft.canonical import Facts

if TYPE_CHECKING:
    from edgeft.device.profile import Device
    from edgeft.stage import Context
    from edgeft.task import Arrays


@dataclass(frozen=True)
class Variant:
    """A compressed form: its name in reports (`int8-dynamic`), typed options, layers kept in float.

    needs_calibration: `compress` is given calibration cases. needs_statistics: instead of them, what the exporter's
    `calibrate` made of them, once for all such variants. for_size: known to be slower than float on the device it is
    offered for, so a search by time leaves it out.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_float: frozenset[str] = frozenset()
    needs_calibration: bool = False
    needs_statistics: bool = False
    for_size: bool = False

    def to_json(self) -> dict[str, Any]:
        """For the cache key and the report."""
        return {"name": self.name, "options": dict(self.options), "keep_float": sorted(self.keep_float)}


@dataclass(frozen=True)
class Layer:
    """A layer that compression may touch, in order of execution: what sensitivity ranks and `keep_float` names.

    name: stable in this exporter's float artefact. op: the format's operator type. weights: elements of its constant
    operands. output: the float artefact's tensor that `tensors` reads for it. label: what its weights are called in the
    model, for people to read; empty where they have no name.
    """

    name: str
    op: str
    weights: int
    output: str
    label: str = ""


def label_weights(name: str) -> str:
    """`encoder.layer.3.attention.query` of a weight's full name; empty where that is no path of modules.

    The wrappers that a model is exported in (`model.`) and the parameter's own name (`.weight`) say nothing.
    """
    path = re.sub(r"^(model\.)+", "", name.strip())
    path = re.sub(r"\.weight(_transposed)?_*$", "", path)
    return path if "." in name and re.fullmatch(r"[\w.-]+", path) else ""


class Unsupported(Exception):
    """This exporter cannot take this model; a row in the report, not a failed build. op: the operator's name."""

    def __init__(self, reason: str, op: str = "") -> None:
        super().__init__(reason)
        self.reason, self.op = reason, op


class Exporter(Protocol):
    """Not a stage: each call below is a store step of its own, so a search only asks and tells."""

    name: str
    version: int
    makes: Kind
    runtime: str
    tools: tuple[str, ...]
    compresses: Literal["float", "source"]
    """What `compress` is given as `model`: the float artefact, or the model it was exported from."""

    def settings(self, device: Device, serve: Mapping[str, int]) -> Mapping[str, Any]:
        """What of the device and the serve shape ({batch, length}) shapes the export: the export step's config."""
        ...

    def export(self, model: Artifact, settings: Mapping[str, Any], out: Path, ctx: Context) -> Facts:
        """Float artefact of `model` (torch-model or onnx). Raises Unsupported."""
        ...

    def ladder(self, device: Device) -> tuple[Variant, ...]:
        """Compressed variants worth trying on this device, cheapest to make first; float is not among them."""
        ...

    def compress(
        self, model: Artifact, variant: Variant, calibration: Arrays | Artifact | None, out: Path, ctx: Context
    ) -> Facts:
        """Compressed artefact; calibration: canonical feeds (n, ...), or the artefact of `calibrate` where the variant
        needs statistics. Raises Unsupported.

        model: as `compresses` says; with "source", `settings` come in variant.options["settings"].
        """
        ...

    def signature(self, model: Artifact) -> Signature:
        """Canonical names to the artefact's own tensors."""
        ...


class Calibrated(Protocol):
    """What an exporter also offers where its static forms follow from statistics of the float model's activations.

    Then a ladder of such forms runs the calibration cases once.
    """

    def calibrate(
        self, model: Artifact, settings: Mapping[str, Any], calibration: Arrays, out: Path, ctx: Context
    ) -> Facts:
        """Statistics of every tensor a static form may need, over all cases, into `out`. Raises Unsupported.

        model: as `compresses` says. settings: as for `export`. Memory does not grow with the number of cases.
        """
        ...


class Searchable(Protocol):
    """What an exporter also offers to a search; one without it is searched over its ladder."""

    def rungs(self, model: Artifact, device: Device) -> tuple[Variant, ...]:
        """Every variant worth trying on this float artefact, cheapest to make first; more than `ladder` has."""
        ...

    def possible_rungs(self, device: Device) -> tuple[Variant, ...]:
        """All that `rungs` may give on this device, whatever the model: what a recipe's `candidates` may name."""
        ...


class Inspectable(Protocol):
    """What an exporter also offers where its format lets single layers stay in float.

    An exporter without these is searched over its ladder alone.
    """

    def layers(self, model: Artifact) -> tuple[Layer, ...]:
        """Layers of the float artefact that `compress` may quantise, in order of execution."""
        ...

    def tensors(self, model: Artifact, layers: tuple[str, ...], feeds: Arrays) -> Iterator[Mapping[str, Any]]:
        """Outputs of layers, float32, of a float or compressed artefact, a batch of canonical feeds at a time.

        Yields layer name -> (batch, ...) array for each batch, so that memory does not grow with the cases.
        """
        ...

    def repairs(self, variant: Variant, device: Device) -> tuple[Variant, ...]:
        """Forms of `variant` that cost less time than a layer in float: other ranges, bias correction, equalisation,
        16-bit activations; cheapest first, each with a name of its own."""
        ...
