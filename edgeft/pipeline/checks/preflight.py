"""Refuse in the first second what cannot succeed: devices, runtimes, packages, columns, disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from edgeft import plugins
from edgeft.device.pick import resolve_device
from edgeft.device.profile import Device
from edgeft.errors import EdgeftError, RecipeError, StoreError
from edgeft.pipeline.checks.by_hand import check_by_hand
from edgeft.pipeline.checks.gate_checks import check_gates
from edgeft.pipeline.checks.image_checks import check_images
from edgeft.pipeline.checks.unlabelled import check_unlabelled, data_of
from edgeft.pipeline.host import gpu_names
from edgeft.pipeline.plan import PlanRow
from edgeft.recipe.load import LoadedRecipe
from edgeft.store import Store
from edgeft.task import Task

DISK_RESERVE_MB = 500.0
MARKER = "record.json"
"""The file by which an outcome's folder is known as one."""


def load_devices(loaded: LoadedRecipe) -> dict[str, Device]:
    """Device name -> profile, in the order of the recipe's targets; a device named twice is an error."""
    devices: dict[str, Device] = {}
    for index, target in enumerate(loaded.recipe.targets):
        try:
            device = resolve_device(target.device)
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
    check_unlabelled(loaded, task)
    check_gates(loaded, devices, task)
    check_images(loaded, task)
    _check_columns(loaded, task)
    gpus = gpu_names()
    for index, stage in enumerate(loaded.recipe.steps):
        for module, extra in getattr(stage, "packages", {}).items():
            if find_spec(module) is None:
                raise loaded.error(
                    ("steps", index),
                    f"{stage.name} needs {module}, which is not installed",
                    f"pip install 'edgeft[{extra}]'",
                )
        refusal = stage.refusal(task, gpus)
        if refusal is not None:
            key, what, hint = refusal
            raise loaded.error(("steps", index, key), what, hint)


def _check_columns(loaded: LoadedRecipe, task: Task) -> None:
    """A column that is not there, where the source can tell without reading the rows."""
    from edgeft.data import source as sources
    from edgeft.data.rows import wanted_columns

    data = data_of(loaded.recipe.data, task)
    source = sources.source_for(data)
    if not (data.path or data.paths) or type(source).columns is sources.Source.columns:
        return
    for _, path in sources.stated_paths(data):
        present = source.columns(path)
        if present is None:
            continue
        for index, gate in enumerate(loaded.recipe.gates):
            if gate.by is not None and gate.by not in present:
                hint = sources.did_you_mean(gate.by, present, "columns")
                raise loaded.error(("gates", index, "by"), f"{path.name} has no column '{gate.by}'", hint)
        for index, stage in enumerate(loaded.recipe.steps):
            for column in stage.columns:
                if column not in present:
                    hint = sources.did_you_mean(column, present, "columns")
                    raise loaded.error(("steps", index, "only"), f"{path.name} has no column '{column}'", hint)
        for column in wanted_columns(data, task.columns[0]):
            if column not in present:
                keys = ("text", "label", "group", "unit", "split")
                key = next((name for name in keys if getattr(data, name) == column), "source")
                hint = f"{sources.did_you_mean(column, present, 'columns')}; name it by data.text, data.label, ..."
                raise loaded.error(("data", key), f"{path.name} has no column '{column}'", hint)


def check_out(folder: Path) -> None:
    """The outcome's folder must be new, empty or an earlier outcome, and its place writable: never replace a thesis."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise RecipeError(f"{folder} is no folder", where="--out", hint="name another folder with --out")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise RecipeError(
            f"{folder} exists and is not a build's outcome",
            where="--out",
            hint="name another folder with --out, or empty it",
        )
    place = existing(folder.absolute().parent)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise RecipeError(f"nothing can be written in {place}", where="--out", hint="name another folder with --out")


def _check_targets(loaded: LoadedRecipe, devices: Mapping[str, Device]) -> None:
    for index, (target, device) in enumerate(zip(loaded.recipe.targets, devices.values(), strict=True)):
        if device.by_hand:
            check_by_hand(loaded, index, device)
        if device.how == "emulated" and target.optimise != "size":
            what = "latency" if target.optimise == "latency" else "processor time"
            raise loaded.error(
                ("targets", index, "optimise"),
                f"{device.name} is emulated: {what} there means nothing",
                "optimise: size, or name a real device",
            )
        if not loaded.recipe.measure.times and target.optimise != "size":
            raise loaded.error(
                ("targets", index, "optimise"),
                "nothing is timed: measure.protocol is none, and the fastest cannot be told",
                "optimise: size, or measure: {protocol: quick}",
            )
        for name in target.export:
            runtime = plugins.load("exporters", name)().runtime
            if runtime not in device.runtimes:
                raise loaded.error(
                    ("targets", index, "export"),
                    f"{device.name} has no {runtime}, which {name} artefacts need",
                    f"its runtimes: {', '.join(device.runtimes)}",
                )
            missing = [module for module in runtime_imports(runtime) if find_spec(module) is None]
            if device.transport == "local" and missing:
                raise loaded.error(
                    ("targets", index, "export"),
                    f"{missing[0]}, which {runtime} needs, is not installed on this machine",
                    f"pip install 'edgeft[{name}]'",
                )


def runtime_imports(runtime: str) -> tuple[str, ...]:
    """Modules a runtime needs; looked for, never imported."""
    modules: tuple[str, ...] = plugins.load("runtimes", runtime).IMPORTS
    return modules


def check_disk(rows: Sequence[PlanRow], store: Store, where: str) -> None:
    """The store's disk must hold what the steps are estimated to write, with a reserve."""
    wanted = sum(row.disk_mb or 0.0 for row in rows if row.state != "cached") + DISK_RESERVE_MB
    free = shutil.disk_usage(existing(store.root)).free / 1e6
    if free < wanted:
        raise StoreError(
            f"{free:,.0f} MB are free at the store, the build is estimated to need {wanted:,.0f} MB",
            where=where,
            hint="make room with `edgeft gc --keep 20GB`, or move the store: EDGEFT_STORE=/larger/disk",
        )


def existing(path: Path) -> Path:
    """The nearest folder above `path` that exists, or `path` itself."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
