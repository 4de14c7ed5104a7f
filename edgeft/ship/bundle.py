"""The bundle of one target: the model, what turns raw input into feeds, the card, and a manifest of hashes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact, entry_file
from edgeft.canonical import digest_file, walk_files
from edgeft.errors import EdgeftError, RecipeError
from edgeft.ship import verify
from edgeft.ship.verify import FORMATS, MANIFEST, NOT_SHIPPED

if TYPE_CHECKING:
    from edgeft.pipeline.steps.candidates import Candidate
    from edgeft.record import RunRecord, TargetRow

FORMAT = FORMATS[-1]
MOST_THREADS = 1024
LARGEST_SIZE = 1 << 16
"""Largest fixed dimension of an input or output."""


class BundleError(EdgeftError):
    """A folder is no bundle, or not the one that was written."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: every file's hash was checked against the manifest."""

    folder: Path
    manifest: dict[str, Any]


def write_bundle(
    folder: Path,
    candidate: Candidate,
    artifact: Artifact,
    prepared: Artifact,
    record: RunRecord,
    row: TargetRow,
    *,
    card: str,
    passed: bool,
    add: Callable[[Path], None] | None = None,
) -> None:
    """Copy the artefact and its preprocessing into `folder` and seal them with a manifest. add: writes more into it."""
    folder.mkdir(parents=True)
    copy_files(artifact.path, folder)
    copy_files(prepared.path, folder)
    (folder / "model_card.md").write_text(card, encoding="utf-8")
    if not passed:
        (folder / NOT_SHIPPED).write_text(
            f"This artefact did not pass its gates ({record.status}); see ../../report.html.\n", encoding="utf-8"
        )
    shutil.copyfile(verify.__file__, folder / "verify.py")
    if add is not None:
        add(folder)
    signature = candidate.exporter.signature(artifact)
    manifest = {
        "format": FORMAT,
        "name": record.name,
        "edgeft": record.edgeft,
        "device": row.device,
        "task": record.task,
        "candidate": candidate.name,
        "runtime": candidate.exporter.runtime,
        "threads": candidate.device.threads,
        "model": entry_file(artifact.path).name,
        "artifact_digest": artifact.digest,
        "labels": record.data.labels if record.data else [],
        "inputs": {name: asdict(spec) for name, spec in signature.inputs.items()},
        "outputs": {name: asdict(spec) for name, spec in signature.outputs.items()},
        "status": record.status,
        "files": {
            name: {"sha256": digest_file(path), "bytes": path.stat().st_size} for name, path in walk_files(folder)
        },
    }
    raw = verify.canonical(manifest)
    try:
        verify.parse_manifest(raw)
    except verify.Refused as refusal:
        raise BundleError(f"cannot be bundled: {refusal}", where=str(folder)) from refusal
    (folder / MANIFEST).write_bytes(raw)


def copy_files(source: Path, folder: Path) -> None:
    """The file, or every file below it, into `folder`: contents alone, since the store's are read-only."""
    for name, path in walk_files(source):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def open_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle: every file present, of its size and hash, none besides; else BundleError.

    A build's outcome folder with a single shipped target is accepted too.
    """
    folder = find_bundle(folder)
    path = folder / MANIFEST
    try:
        raw = verify.read_small(path, verify.MAX_MANIFEST_BYTES, "manifest")
        manifest = verify.parse_manifest(raw)
        if missing := sorted({"task", "runtime", "threads", "labels", "inputs", "outputs"} - set(manifest)):
            raise KeyError(missing[0])
        model = manifest["model"]
        if not any(name == model or name.startswith(f"{model}/") for name in manifest["files"]):
            raise ValueError("the model is none of the files whose hashes are stated")
        _check_types(manifest)
    except (verify.Refused, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"this is not a bundle's manifest: {error}",
            where=str(path),
            hint="give a folder that `edgeft build` wrote",
        ) from error
    if faults := verify.file_faults(folder, manifest["files"]):
        hint = "copy the bundle again, whole, or build it anew"
        raise BundleError(faults[0], where=str(folder), hint=hint)
    return Bundle(folder, manifest)


def has_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle or a build's outcome, so that `open_bundle` is the one to say what is in it."""
    return any((folder / name).exists() for name in (MANIFEST, "targets", "rejected"))


def _check_types(manifest: Mapping[str, Any]) -> None:
    """ValueError where a value is not of the kind that `write_bundle` wrote: a bundle can come from anywhere."""
    sound = {
        "task": isinstance(manifest["task"], str),
        "runtime": isinstance(manifest["runtime"], str),
        "threads": type(manifest["threads"]) is int and 1 <= manifest["threads"] <= MOST_THREADS,
        "labels": isinstance(manifest["labels"], list) and all(isinstance(name, str) for name in manifest["labels"]),
        "inputs": _are_tensors(manifest["inputs"]),
        "outputs": _are_tensors(manifest["outputs"]),
    }
    if wrong := [name for name, fits in sound.items() if not fits]:
        raise ValueError(f"{wrong[0]} is not what it should be")


def _are_tensors(rows: Any) -> bool:
    """Canonical name -> {name, dtype, shape of numbers and names}."""
    return isinstance(rows, dict) and all(
        isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and isinstance(row.get("dtype"), str)
        and isinstance(row.get("shape"), list)
        and all(isinstance(size, str) or (type(size) is int and 0 < size <= LARGEST_SIZE) for size in row["shape"])
        for row in rows.values()
    )


def find_bundle(folder: Path) -> Path:
    """A bundle's folder, or the only one in a build's outcome. RecipeError where there is none, or more than one."""
    if (folder / MANIFEST).is_file():
        return folder
    shipped = sorted(path.parent for path in (folder / "targets").glob(f"*/{MANIFEST}"))
    if len(shipped) == 1:
        return shipped[0]
    if shipped:
        raise RecipeError(
            f"{folder} holds {len(shipped)} bundles", where="BUNDLE", hint=f"name one: {', '.join(map(str, shipped))}"
        )
    rejected = sorted((folder / "rejected").glob(f"*/{MANIFEST}"))
    hint = (
        f"the last build was refused; its artefact is {rejected[0].parent}"
        if rejected
        else "give a folder that `edgeft build` wrote"
    )
    raise RecipeError(f"no bundle in {folder}", where="BUNDLE", hint=hint)
