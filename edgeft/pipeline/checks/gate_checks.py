"""Gates before anything runs: measurable where they hold, decidable at this n, one at least for every target."""

from __future__ import annotations

from collections.abc import Mapping

from edgeft.data.source import source_for
from edgeft.device.profile import Device
from edgeft.errors import EdgeftError
from edgeft.metric_names import LATENCY_METRICS, RESOURCE_METRICS, SPACED_METRICS
from edgeft.pipeline.checks.gate_sizes import check_label, check_possible, spacing_problem
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.problems import did_you_mean
from edgeft.task import DenseTask, SelfSupervisedTask, Task, has_metric


def check_gates(loaded: LoadedRecipe, devices: Mapping[str, Device], task: Task) -> None:
    """Each gate is measurable on its devices and decidable by some number of cases, and each target has one."""
    _check_every_target_is_gated(loaded, devices)
    _check_points(loaded)
    for index, gate in enumerate(loaded.recipe.gates):
        if gate.severity == "block":
            check_possible(loaded, index)
        if loaded.recipe.data.labels is not None:
            check_label(loaded, index, loaded.recipe.data.labels)
        if gate.metric.startswith(SPACED_METRICS) and _lacks_spacing(loaded):
            raise loaded.error(("gates", index, "metric"), *(spacing_problem(gate, 0) or ("", "")))
        held = [gate.device] if gate.device else list(devices)
        if gate.metric in LATENCY_METRICS | {"peak_memory_mb"}:
            if not loaded.recipe.measure.times:
                raise loaded.error(
                    ("gates", index, "metric"),
                    f"{gate.metric} is not measured: measure.protocol is none",
                    "measure: {protocol: quick}, or leave this gate out",
                )
            for name in held:
                if devices[name].how == "emulated":
                    raise loaded.error(
                        ("gates", index, "metric"),
                        f"{gate.metric} cannot be measured on {name}, which is emulated",
                        "say `device:` with a real target in this gate",
                    )
        elif gate.metric in RESOURCE_METRICS or has_metric(task, gate.metric):
            continue
        elif ":" in gate.metric and isinstance(task, DenseTask | SelfSupervisedTask):
            kept, more = ("classes", ", dice_LABEL, ...") if isinstance(task, DenseTask) else ("next tokens", "")
            what = f"a metric of your own is given a case's logits, and of {task.name} only {kept} are kept"
            raise loaded.error(("gates", index, "metric"), what, f"gate {', '.join(task.metrics)}{more}")
        elif ":" in gate.metric:
            from edgeft.tasks.custom_metric import check_metric

            try:
                check_metric(gate.metric)
            except EdgeftError as error:
                raise loaded.error(("gates", index, "metric"), error.what, error.hint) from error
        else:
            known = [
                *task.metrics,
                *task.gated,
                *(f"{name}LABEL" for name in task.families),
                *sorted(RESOURCE_METRICS),
                "file.py:function",
            ]
            raise loaded.error(
                ("gates", index, "metric"),
                f"{task.name} has no metric '{gate.metric}'",
                did_you_mean(gate.metric, known, "known"),
            )


def _check_every_target_is_gated(loaded: LoadedRecipe, devices: Mapping[str, Device]) -> None:
    """What no gate can refuse would ship unseen."""
    blocking = [gate for gate in loaded.recipe.gates if gate.severity == "block"]
    for index, name in enumerate(devices):
        if not any(gate.device in (None, name) for gate in blocking):
            raise loaded.error(
                ("targets", index),
                f"no gate can stop what is made for {name}",
                "add a gate without `device:`, or one for this target, that is not `severity: warn`",
            )


def _lacks_spacing(loaded: LoadedRecipe) -> bool:
    """Whether the source can tell, without reading the rows, that it states no size of a pixel."""
    return source_for(loaded.recipe.data).says_spacing(loaded.recipe.data) is False


def _check_points(loaded: LoadedRecipe) -> None:
    """A target's bundle answers with one threshold for each label: two gates that hold on it may not fix two."""
    pointed = [(index, gate, gate.point) for index, gate in enumerate(loaded.recipe.gates) if gate.point is not None]
    for place, (index, gate, point) in enumerate(pointed):
        for other, before, its in pointed[:place]:
            together = gate.device is None or before.device in (None, gate.device)
            if together and its.label == point.label and its != point:
                raise loaded.error(
                    ("gates", index, f"at_{point.rate}"),
                    f"gates[{other}] fixes another threshold of '{point.label}', and a bundle answers with one",
                    "hold both sensitivity and specificity at the same point: give both gates the same at_ key; "
                    "or give each target its own: device: in both",
                )
