"""The contract of an exporter: float artefact, a ladder of compressed variants, and how to make each."""

from __future__ import annotations

from collections.abc import Mapping
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
    """A compressed form: its name in reports (`int8-dynamic`), typed options, layers kept in float."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_float: frozenset[str] = frozenset()
    needs_calibration: bool = False

    def to_json(self) -> dict[str, Any]:
        """For the cache key and the report."""
        return {"name": self.name, "options": dict(self.options), "keep_float": sorted(self.keep_float)}


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

    def compress(self, model: Artifact, variant: Variant, calibration: Arrays | None, out: Path, ctx: Context) -> Facts:
        """Compressed artefact; calibration: canonical feeds (n, ...). Raises Unsupported.

        model: as `compresses` says; with "source", `settings` come in variant.options["settings"].
        """
        ...

    def signature(self, model: Artifact) -> Signature:
        """Canonical names to the artefact's own tensors."""
        ...
