"""The bundle of one target: the model, what turns raw input into feeds, the card, and a manifest of hashes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeft.artifact import Artifact, entry_file
from edgeft.canonical import canonical_json, digest_file, walk_files
from edgeft.errors import EdgeftError, RecipeError
from edgeft.pipeline.candidates import Candidate
from edgeft.record import RunRecord, TargetRow

MANIFEST = "manifest.json"
FORMAT = 1
MAX_MANIFEST_BYTES = 4 << 20
MOST_THREADS = 1024
LARGEST_SIZE = 1 << 16
"""Largest fixed dimension of an input or output."""
NOT_SHIPPED = "NOT-FOR-SHIPPING.txt"


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
    for source in (artifact.path, prepared.path):
        for name, path in walk_files(source):
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    (folder / "model_card.md").write_text(card, encoding="utf-8")
    if not passed:
        (folder / NOT_SHIPPED).write_text(
            f"This artefact did not pass its gates ({record.status}); see ../../report.html.\n", encoding="utf-8"
        )
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
        "model": _model_file(artifact),
        "artifact_digest": artifact.digest,
        "labels": record.data.labels if record.data else [],
        "inputs": {name: asdict(spec) for name, spec in signature.inputs.items()},
        "outputs": {name: asdict(spec) for name, spec in signature.outputs.items()},
        "status": record.status,
        "files": {
            name: {"sha256": digest_file(path), "bytes": path.stat().st_size} for name, path in walk_files(folder)
        },
    }
    (folder / MANIFEST).write_bytes(canonical_json(manifest, indent=1))


def _model_file(artifact: Artifact) -> str:
    if artifact.path.is_file():
        return artifact.path.name
    return entry_file(artifact.path).name


def open_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle: every file present, of its size and hash, none besides; else BundleError.

    A build's outcome folder with a single shipped target is accepted too.
    """
    folder = _find(folder)
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise BundleError("the manifest is too large to be one", where=str(path))
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files = {str(name): (str(row["sha256"]), int(row["bytes"])) for name, row in manifest["files"].items()}
        if manifest["format"] != FORMAT:
            raise BundleError(f"format {manifest['format']!r}; this edgeft reads {FORMAT}", where=str(path))
        if missing := sorted({"task", "runtime", "threads", "labels", "inputs", "outputs"} - set(manifest)):
            raise KeyError(missing[0])
        if manifest["model"] not in files:
            raise ValueError("the model is none of the files whose hashes are stated")
        _check_types(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            "this is not a bundle's manifest", where=str(path), hint="give a folder that `edgeft build` wrote"
        ) from error
    present = {name: file for name, file in walk_files(folder) if name != MANIFEST}
    for name, (sha256, size) in sorted(files.items()):
        file = present.pop(name, None)
        if file is None:
            raise BundleError(f"{name} is missing", where=str(folder), hint="copy the bundle again, whole")
        if file.is_symlink() or file.stat().st_size != size or digest_file(file) != sha256:
            raise BundleError(
                f"{name} is not the file that was bundled",
                where=str(folder),
                hint="copy the bundle again, or build it anew",
            )
    if present:
        raise BundleError(
            f"{min(present)} does not belong to the bundle",
            where=str(folder),
            hint="remove it, or copy the bundle again",
        )
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


def _find(folder: Path) -> Path:
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
