"""A model file of any origin, ready to travel: its runtime by suffix, the files that belong to it, its signature."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgeft import plugins
from edgeft.artifact import SIGNATURE, Artifact, Signature, TensorSpec, entry_file, read_signature
from edgeft.canonical import digest_tree, walk_files
from edgeft.device.external import check_inside, external_files
from edgeft.device.profile import Device
from edgeft.device.protocol import ArtefactRefused, Job
from edgeft.device.transport import run_job, runtime_file
from edgeft.errors import DeviceError, RecipeError
from edgeft.targets.artifact_jobs import runtime_options

INSPECT_TIMEOUT = 600.0
MOST_TENSORS = 4096
PACKAGES = (".mlpackage",)
"""Suffixes of folders that are a model."""
WEIGHTS = {".xml": (".bin",), ".param": (".bin",), ".onnx": (".onnx.data", ".onnx_data", ".data")}
"""Suffix -> what the file beside it that holds the weights is called, from the model's name without suffix."""


@dataclass(frozen=True)
class Model:
    """An opened model. artifact: its entry file, alone in a folder with the files that belong to it."""

    label: str
    runtime: str
    artifact: Artifact
    bytes: int


@contextmanager
def open_model(path: Path, runtime: str | None = None) -> Iterator[Model]:
    """A model's file, or a folder with one file `model.*` (an artefact, an opened bundle). runtime: None: by suffix.

    The file is linked, or copied, into a folder of its own with the weights and the signature.json that belong to it,
    since a model's whole folder travels to the device. RecipeError where there is no such file or nothing opens it.
    """
    if not path.exists():
        raise RecipeError("there is no such file", where=str(path))
    try:
        entry = path if path.suffix in PACKAGES else entry_file(path)
    except ValueError as error:
        raise RecipeError(str(error), where=str(path), hint="name the model's file itself") from error
    name = runtime or find_runtime(entry)
    with TemporaryDirectory(prefix="edgeft-model-") as temporary:
        folder = Path(temporary)
        for source in (entry, *_weights(entry)):
            _take(source, folder / source.relative_to(entry.parent))
        digest = digest_tree(folder)
        size = sum(item.stat().st_size for _, item in walk_files(folder))
        if entry.stem == "model" and (entry.parent / SIGNATURE).is_file():
            _take(entry.parent / SIGNATURE, folder / SIGNATURE)
        yield Model(path.name or str(path), name, Artifact(name, folder / entry.name, digest), size)


def find_runtime(entry: Path) -> str:
    """The runtime plug-in that opens files of this suffix. RecipeError with the known suffixes."""
    known: dict[str, str] = {}
    for name in plugins.names("runtimes"):
        try:
            suffixes: Sequence[str] = plugins.load("runtimes", name).SUFFIXES
        except plugins.PluginError:
            continue
        for suffix in suffixes:
            known.setdefault(suffix, name)
    suffix = entry.suffix.lower()
    if suffix not in known:
        raise RecipeError(
            f"no runtime opens a '{entry.suffix or entry.name}' file",
            where=str(entry),
            hint=f"known: {', '.join(known)}",
        )
    return known[suffix]


def require_runtime(device: Device, runtime: str) -> None:
    """DeviceError where the device's profile does not have the runtime."""
    if runtime not in device.runtimes:
        raise DeviceError(
            f"{device.name} has no {runtime}",
            hint=f"its runtimes: {', '.join(device.runtimes)}; a file of your own may state others",
        )


def inspect_model(device: Device, model: Model) -> Signature:
    """Inputs and outputs: from signature.json beside the model, else as the device's runtime tells.

    Canonical names are the runtime's own where there is no signature.json. ArtefactRefused, DeviceError.
    """
    folder = model.artifact.path.parent
    if (folder / SIGNATURE).is_file():
        try:
            return read_signature(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecipeError("this is no signature", where=str(folder / SIGNATURE)) from error
    job = Job(
        "inspect", runtime_file(model.runtime), {"model": model.artifact.path}, {},
        {"options": runtime_options(device)}, INSPECT_TIMEOUT,
    )  # fmt: skip
    try:
        return read_inspection(run_job(device, job).data["signature"])
    except ArtefactRefused as refusal:
        hint = f"is the file whole, and made for {model.runtime}? `edgeft devices probe {device.name}` says its version"
        raise ArtefactRefused(refusal.what, where=model.artifact.path.name, hint=refusal.hint or hint) from refusal


def read_inspection(found: Mapping[str, Any]) -> Signature:
    """A signature from an inspect job's answer, which an unknown model's text shaped: everything is checked."""
    return Signature(_specs(found["inputs"]), _specs(found["outputs"]))


def _specs(rows: Sequence[Mapping[str, Any]]) -> dict[str, TensorSpec]:
    if len(rows) > MOST_TENSORS:
        raise RecipeError(f"the model has {len(rows)} inputs or outputs, more than {MOST_TENSORS}")
    specs = {}
    for row in rows:
        shape = tuple(extent if isinstance(extent, int) and extent > 0 else str(extent) for extent in row["shape"])
        specs[str(row["name"])] = TensorSpec(str(row["name"]), str(row["dtype"]), shape)
    return specs


def _weights(entry: Path) -> list[Path]:
    """Files beside an entry file that hold its weights; for ONNX also those that the graph itself names."""
    stem = entry.name[: -len(entry.suffix)] if entry.suffix else entry.name
    named = [entry.with_name(stem + ending) for ending in WEIGHTS.get(entry.suffix.lower(), ())]
    for path in named:
        check_inside(entry, path, path.name)
    return sorted({path for path in (*named, *external_files(entry)) if path.is_file() and path != entry})


def _take(source: Path, place: Path) -> None:
    """A copy. A hard link would be cheaper, but whoever verifies a bundle meanwhile refuses a file with two names."""
    if source.is_dir():
        shutil.copytree(source, place)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)
