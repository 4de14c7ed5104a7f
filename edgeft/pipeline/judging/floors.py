"""How fast each candidate could be at best on its device: its roofline, estimated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeft.artifact import Artifact, entry_file
from edgeft.device.profile import Device
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.judging.trial import Trial
from edgeft.pipeline.steps.candidates import FLOAT
from edgeft.record import ProbeRow, RooflineRow
from edgeft.task import declared_inputs

EXACT = "float32"
NARROW = "int8"


def add_floors(executor: Executor, device: Device, trials: Sequence[Trial], probe: ProbeRow, batch: int) -> None:
    """Each timed candidate's roofline, from the layers of this target's float ONNX where it has one."""
    layers = _layers(executor, device, batch)
    for trial in trials:
        p50 = next((item.value for item in trial.measurements if item.metric == "latency_p50_ms"), None)
        if layers and p50 is not None:
            variant = trial.candidate.variant
            dtype = NARROW if variant is not None and variant.name.startswith(NARROW) else EXACT
            trial.row = trial.row.model_copy(update={"roofline": _floor(layers, probe, dtype, p50)})


def _floor(layers: Sequence[Any], probe: ProbeRow, dtype: str, p50: float | None) -> RooflineRow | None:
    from edgeft.targets.roofline import estimate_floor

    return estimate_floor(layers, probe, dtype=dtype, p50_ms=p50)


def _layers(executor: Executor, device: Device, batch: int) -> list[Any]:
    """Layer costs at the serve shape; none where the target exports no ONNX or its shapes cannot be inferred."""
    from edgeft.targets.layer_counts import count_layers

    artifact = executor.done.get(f"{device.name}/onnx/{FLOAT}")
    if artifact is None:
        return []
    served = _served_shapes(executor)
    shapes = {
        spec.name: [batch, *served[name]]
        for name, spec in _onnx_signature(artifact).inputs.items()
        if name in served
    }  # fmt: skip
    try:
        return list(count_layers(entry_file(artifact.path), shapes))
    except ValueError:
        return []


def _onnx_signature(artifact: Artifact) -> Any:
    from edgeft import plugins

    return plugins.load("exporters", "onnx")().signature(artifact)


def _served_shapes(executor: Executor) -> dict[str, tuple[int, ...]]:
    """Canonical input -> shape of one served case, without the batch, as preprocessing declares it.

    Read, not made from a row: that would load the tokenizer in a rebuild that has nothing else to do.
    """
    import json

    if executor.prepared is None:
        return {}
    folder = executor.prepared.path
    about = json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))
    shapes = {}
    for spec in declared_inputs(folder):
        extents = [extent if isinstance(extent, int) else about.get(extent) for extent in spec.shape[1:]]
        if all(isinstance(extent, int) for extent in extents):
            shapes[spec.name] = tuple(extents)
    return shapes
