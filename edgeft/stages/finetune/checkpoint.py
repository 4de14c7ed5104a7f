"""Checkpoints that count only when whole: files first, then a marker with their hashes, renamed in last.

The Trainer resumes silently without optimiser or RNG files, to another result. So it is only ever given a checkpoint
whose every file is present and unchanged; a damaged one is refused by name and the one before it is used.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeft.canonical import canonical_json, digest_file, walk_files

MARKER = "complete.json"
SAMPLER = "sampler.json"
BEST = "best.safetensors"
PROJECTIONS = "projections.safetensors"
FORMAT = 1
KEEP = 2
PARTIAL, PREFIX, DOOMED = ".partial", "step-", ".doomed-"
DROPPED = ("training_args.bin", "README.md")
"""Written by the Trainer, needed by no resume: a pickle of machine paths, and a model card."""

REQUIRED: Mapping[str, Callable[[str], bool]] = {
    "weights": lambda name: (
        (name.endswith(".safetensors") and name not in (BEST, PROJECTIONS)) or name.startswith("pytorch_model_fsdp")
    ),
    "optimiser": lambda name: name.startswith("optimizer"),
    "scheduler": lambda name: name.startswith("scheduler"),
    "random numbers": lambda name: name.startswith("rng_state"),
    "trainer state": lambda name: name == "trainer_state.json",
    "sampler": lambda name: name == SAMPLER,
}


def seal(partial: Path, root: Path, step: int, sampler: Mapping[str, Any], best: Path | None) -> Path:
    """Turn a folder the Trainer wrote into checkpoint `step`: complete it, rename it, then put its marker in.

    best: the best weights so far; they travel in the checkpoint (a hard link where possible), so that a resumed run
    can still answer with a model from before the kill.
    """
    for name in DROPPED:
        (partial / name).unlink(missing_ok=True)
    (partial / SAMPLER).write_bytes(canonical_json({**sampler, "step": step}, indent=1))
    if best is not None:
        link(best, partial / BEST)
    files = {}
    for name, path in walk_files(partial):
        _sync(path)
        files[name] = digest_file(path)
    target = root / f"{PREFIX}{step}"
    remove(target)
    partial.rename(target)
    marker = target / (MARKER + ".new")
    marker.write_bytes(canonical_json({"format": FORMAT, "step": step, "files": files}, indent=1))
    _sync(marker)
    marker.replace(target / MARKER)
    _sync(target)
    return target


def refusal(folder: Path, sampler: Mapping[str, Any]) -> str | None:
    """Why this checkpoint may not be resumed from, or None when it may. sampler: this run's own settings."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        files, version = dict(marker["files"]), marker["format"]
    except FileNotFoundError:
        return "it has no marker: its writing was cut short"
    except (OSError, ValueError, KeyError, TypeError):
        return "its marker cannot be read"
    if version != FORMAT:
        return f"its format is {version}, this version writes {FORMAT}"
    for part, matches in REQUIRED.items():
        if not any(matches(name) for name in files):
            return f"it never held its {part}"
    for name, digest in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if digest_file(path) != digest:
            return f"{name} has changed"
    kept = json.loads((folder / SAMPLER).read_text(encoding="utf-8"))
    other = [name for name, value in sampler.items() if kept.get(name) != value]
    return f"it was written with another {other[0]} ({kept.get(other[0])}, now {sampler[other[0]]})" if other else None


def newest(root: Path, sampler: Mapping[str, Any], warn: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint, None to start anew; every newer one that is refused is named with its reason."""
    for leftover in [root / PARTIAL, *root.glob(DOOMED + "*")]:
        shutil.rmtree(leftover, ignore_errors=True)
    for folder in sorted(checkpoints(root), key=step_of, reverse=True):
        reason = refusal(folder, sampler)
        if reason is None:
            return folder
        warn(f"checkpoint {folder.name} is not used: {reason}")
    return None


def checkpoints(root: Path) -> list[Path]:
    """Every checkpoint folder, whole or not."""
    return [path for path in root.glob(PREFIX + "*") if path.name[len(PREFIX) :].isdigit()] if root.is_dir() else []


def step_of(folder: Path) -> int:
    """Number of optimiser steps behind a checkpoint."""
    return int(folder.name[len(PREFIX) :])


def prune(root: Path, keep: int = KEEP) -> None:
    """Remove all but the newest `keep`; two, because the newest may turn out damaged."""
    for folder in sorted(checkpoints(root), key=step_of)[:-keep]:
        remove(folder)


def remove(folder: Path) -> None:
    """Delete a checkpoint; renamed first, so that a kill half way leaves no checkpoint with files missing."""
    if folder.exists():
        doomed = folder.with_name(DOOMED + folder.name)
        shutil.rmtree(doomed, ignore_errors=True)
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def link(source: Path, target: Path) -> None:
    """`target` with the content of `source`, by hard link where the file system has them; replaced in one rename."""
    fresh = target.with_name(target.name + ".new")
    fresh.unlink(missing_ok=True)
    try:
        os.link(source, fresh)
    except OSError:
        shutil.copyfile(source, fresh)
    fresh.replace(target)


def _sync(path: Path) -> None:
    """Bytes on the disk before the marker speaks for them. Where folders cannot be opened, the rename must do."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)
