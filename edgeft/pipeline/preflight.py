"""Refuse in the first second what cannot succeed: devices, runtimes, disk, gates that no result could pass."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from edgeft import plugins
from edgeft.canonical import Facts
from edgeft.device.profile import Device, load_device
from edgeft.errors import EdgeftError, StoreError
from edgeft.gate import LATENCY_METRICS, RESOURCE_METRICS
from edgeft.pipeline.host import gpu_names
from edgeft.pipeline.plan import PlanRow
from edgeft.recipe.load import LoadedRecipe
from edgeft.store import Store
from edgeft.task import Task

DISK_RESERVE_MB = 500.0


def load_devices(loaded: LoadedRecipe) -> dict[str, Device]:
    """Device name -> profile, in the order of the recipe's targets; a device named twice is an error."""
    devices: dict[str, Device] = {}
    for index, target in enumerate(loaded.recipe.targets):
        try:
            device = load_device(target.device)
        except EdgeftError as error:
            raise loaded.error(("targets", index, "device"), error.what, error.hint) from error
        if device.name in devices:
            raise loaded.error(
                ("targets", index, "device"),
                f"{device.name} is named twice",
                "list its exporters in one target: export: [onnx, ...]",
            )
        devices[device.name] = device
    return devices


def check_recipe(loaded: LoadedRecipe, devices: Mapping[str, Device], task: Task) -> None:
    """What recipe and profiles alone can tell. Raises RecipeError at the first thing that cannot work."""
    _check_targets(loaded, devices)
    _check_gates(loaded, devices, task)
    for index, stage in enumerate(loaded.recipe.steps):
        if getattr(stage, "device", None) == "cuda" and not gpu_names():
            raise loaded.error(
                ("steps", index),
                "device: cuda, but this machine has no NVIDIA GPU that its driver shows",
                "leave device: auto to train on the CPU, or run `edgeft doctor` to see what was found",
            )


def _check_targets(loaded: LoadedRecipe, devices: Mapping[str, Device]) -> None:
    for index, (target, device) in enumerate(zip(loaded.recipe.targets, devices.values(), strict=True)):
        if device.how == "emulated" and target.optimise == "latency":
            raise loaded.error(
                ("targets", index, "optimise"),
                f"{device.name} is emulated: latency there means nothing",
                "optimise: size, or name a real device",
            )
        for name in target.export:
            runtime = plugins.load("exporters", name)().runtime
            if runtime not in device.runtimes:
                raise loaded.error(
                    ("targets", index, "export"),
                    f"{device.name} has no {runtime}, which {name} artefacts need",
                    f"its runtimes: {', '.join(device.runtimes)}",
                )
            if device.transport == "local" and find_spec(runtime) is None:
                raise loaded.error(
                    ("targets", index, "export"),
                    f"{runtime} is not installed on this machine",
                    f"pip install 'edgeft[{name}]'",
                )


def _check_gates(loaded: LoadedRecipe, devices: Mapping[str, Device], task: Task) -> None:
    for index, gate in enumerate(loaded.recipe.gates):
        if gate.device is not None and gate.device not in devices:
            raise loaded.error(
                ("gates", index, "device"), f"no target is called '{gate.device}'", f"targets: {', '.join(devices)}"
            )
        held = [gate.device] if gate.device else list(devices)
        if gate.metric in LATENCY_METRICS | {"peak_memory_mb"}:
            for name in held:
                if devices[name].how == "emulated":
                    raise loaded.error(
                        ("gates", index, "metric"),
                        f"{gate.metric} cannot be measured on {name}, which is emulated",
                        "say `device:` with a real target in this gate",
                    )
        elif gate.metric in RESOURCE_METRICS or gate.metric in task.metrics:
            continue
        elif ":" in gate.metric:
            from edgeft.tasks.custom_metric import check_metric

            try:
                check_metric(gate.metric)
            except EdgeftError as error:
                raise loaded.error(("gates", index, "metric"), error.what, error.hint) from error
        else:
            known = ", ".join([*task.metrics, *sorted(RESOURCE_METRICS)])
            raise loaded.error(
                ("gates", index, "metric"),
                f"{task.name} has no metric '{gate.metric}'",
                f"known: {known}, or file.py:function",
            )


def check_gate_set(loaded: LoadedRecipe, dataset: Facts) -> None:
    """Each gate must be able to pass at this n even when nothing flips; the needed n is named otherwise."""
    from edgeft.evaluate.gates import needed_at_best

    about = dataset["splits"]["gate"]
    for index, gate in enumerate(loaded.recipe.gates):
        if not gate.needs_gate_set or gate.severity == "warn":
            continue
        needed = needed_at_best(gate, about["units"])
        if needed is not None:
            unit = "cases" if dataset["unit"] == "row" else f"units ({dataset['unit']})"
            raise loaded.error(
                ("gates", index),
                f"'{gate.describe()}' cannot pass on {about['units']} {unit}: even with no case lost it needs {needed}",
                "give the gate set more rows (data.fractions.gate), or widen the margin if the application allows it",
            )


def check_disk(rows: Sequence[PlanRow], store: Store, where: str) -> None:
    """The store's disk must hold what the steps are estimated to write, with a reserve."""
    wanted = sum(row.disk_mb or 0.0 for row in rows if row.state != "cached") + DISK_RESERVE_MB
    free = shutil.disk_usage(_existing(store)).free / 1e6
    if free < wanted:
        raise StoreError(
            f"{free:,.0f} MB are free at the store, the build is estimated to need {wanted:,.0f} MB",
            where=where,
            hint="make room with `edgeft gc --keep 20GB`, or move the store: EDGEFT_STORE=/larger/disk",
        )


def _existing(store: Store) -> Any:
    path = store.root
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
