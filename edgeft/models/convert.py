"""Pickle checkpoints to safetensors, in a child process that can do nothing else. No torch in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeft.canonical import canonical_json
from edgeft.errors import RecipeError, StepError
from edgeft.models.header import read_header

MEMORY_FACTOR, MEMORY_BASE = 3, 1 << 30
"""The child may map three times the file's size plus 1 GiB beyond what importing torch took: the mapped file, the
tensors that need memory of their own, and the writer's copy."""
SECONDS_BASE, BYTES_PER_SECOND = 120.0, 10e6
INDEX_LIMIT = 64 << 20
INDEX_SUFFIX = ".safetensors.index.json"
_CHILD = Path(__file__).with_name("convert_child.py")


@dataclass
class Conversion:
    """What was written. under: key of the checkpoint the weights were found under, empty at the top.

    dropped: entries that are no tensors. tied: (name, other name) that were one tensor; both are written.
    """

    output: Path
    files: int = 0
    tensors: int = 0
    bytes: int = 0
    under: str = ""
    dropped: list[str] = field(default_factory=list)
    tied: list[tuple[str, str]] = field(default_factory=list)


def convert_checkpoint(
    source: Path, output: Path | None = None, key: str = "", timeout: float | None = None
) -> Conversion:
    """Write the tensors of `source` (a pickle checkpoint, or the .index.json of a sharded one) as safetensors.

    key: dotted place of the weights inside the checkpoint, found by itself when there is only one. timeout: seconds
    for one file; default 120 s plus one second for every 10 MB. Existing files are not overwritten. Raises RecipeError
    for paths that cannot be used and StepError, with the reason, for a checkpoint that is refused.
    """
    if not source.is_file():
        what = "is a folder: name the checkpoint file in it" if source.is_dir() else "there is no such file"
        raise RecipeError(what, where=str(source))
    sharded = source.name.endswith(".index.json")
    output = output or _default_output(source, sharded)
    suffix = INDEX_SUFFIX if sharded else ".safetensors"
    if not output.name.endswith(suffix):
        raise RecipeError(f"the output of this checkpoint must end in {suffix}", where=str(output))
    if output.exists():
        raise RecipeError("exists already", where=str(output), hint="name another with --output, or remove it")
    if not output.parent.is_dir():
        raise RecipeError("there is no such folder", where=str(output.parent))
    result = Conversion(output)
    try:
        with tempfile.TemporaryDirectory(prefix=".edgeft-convert-", dir=output.parent) as folder:
            if sharded:
                _convert_shards(source, result, Path(folder), key, timeout)
            else:
                made = _convert_file(source, Path(folder), key, timeout, result)
                made.replace(output)
    except OSError as error:
        raise StepError(f"cannot be written: {error.strerror or error}", where=str(output)) from error
    return result


def _default_output(source: Path, sharded: bool) -> Path:
    if sharded:
        stem = source.name.removesuffix(".index.json").removesuffix(".bin").replace("pytorch_model", "model")
        return source.with_name(stem + INDEX_SUFFIX)
    return source.with_name(source.stem.replace("pytorch_model", "model") + ".safetensors")


def _convert_shards(source: Path, result: Conversion, work: Path, key: str, timeout: float | None) -> None:
    """Every shard by itself, so that memory stays that of one; the index is written last."""
    weight_map = _weight_map(source)
    shards = sorted(set(weight_map.values()))
    stem = result.output.name.removesuffix(INDEX_SUFFIX)
    placed: dict[str, str] = {}
    made = []
    for number, shard in enumerate(shards, 1):
        name = f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors"
        target = result.output.with_name(name)
        if target.exists():
            raise RecipeError("exists already", where=str(target), hint="remove it, or name another --output")
        found = _convert_file(source.with_name(shard), work, key, timeout, result)
        placed.update(dict.fromkeys(read_header(found) or {}, name))
        made.append((found.rename(work / name), target))
    missing = sorted(set(weight_map) - set(placed))
    if missing:
        raise StepError(f"names {len(missing)} tensors that its shards do not hold: {missing[0]}", where=str(source))
    for draft, target in made:
        draft.replace(target)
    index = {"metadata": {"total_size": result.bytes}, "weight_map": placed}
    (work / "index").write_bytes(canonical_json(index, indent=1))
    (work / "index").replace(result.output)


def _weight_map(source: Path) -> Mapping[str, str]:
    """Tensor -> shard of an index; shards are plain names beside it."""
    try:
        if source.stat().st_size > INDEX_LIMIT:
            raise ValueError("it is too large")
        weight_map = json.loads(source.read_bytes())["weight_map"]
        if not weight_map or not all(isinstance(name, str) for name in weight_map.values()):
            raise ValueError("weight_map is empty or not made of texts")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StepError(f"is no index of a sharded checkpoint: {error}", where=str(source)) from error
    for name in sorted(set(weight_map.values())):
        if not name or Path(name).name != name or "\\" in name or name in (".", ".."):
            raise StepError(f"names the shard {name[:80]!a}, which is not beside it: refused", where=str(source))
        if not source.with_name(name).is_file():
            raise StepError(f"names the shard '{name}', which is missing", where=str(source))
    return dict(weight_map)


def _convert_file(source: Path, work: Path, key: str, timeout: float | None, result: Conversion) -> Path:
    """One file in one child; adds to `result` and returns the draft."""
    target = work / "draft.safetensors"
    size = source.stat().st_size
    report = work / "report.json"
    report.unlink(missing_ok=True)
    paths = {"source": source, "target": target, "report": report}
    request: dict[str, Any] = {name: str(path.absolute()) for name, path in paths.items()}
    request |= {"key": key, "memory": MEMORY_FACTOR * size + MEMORY_BASE}
    answer = _run_child(request, source, report, timeout or SECONDS_BASE + size / BYTES_PER_SECOND)
    if "refused" in answer:
        raise StepError(str(answer["refused"]), where=str(source), hint=str(answer.get("hint", "")))
    header = read_header(target) or {}
    if sorted(header) != answer["names"]:
        raise StepError("came out with other tensors than were read", where=str(source))
    result.files += 1
    result.tensors += len(header)
    result.bytes += target.stat().st_size
    result.under = result.under or answer["under"]
    result.dropped += answer["dropped"]
    result.tied += [(first, second) for first, second in answer["tied"]]
    return target


def _run_child(request: Mapping[str, Any], source: Path, report: Path, timeout: float) -> Any:
    # -I: no PYTHON* variables, no user site, no current folder. No GPU, no torch switches, one thread.
    keep = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "TMPDIR", "TEMP", "TMP")
    environment = {name: os.environ[name] for name in keep if name in os.environ}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "TORCH_DISABLE_ADDR2LINE": "1"}
    command = [sys.executable, "-I", "-B", str(_CHILD), json.dumps(request)]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        what = f"was not read within {timeout:.0f} seconds: stopped"
        raise StepError(what, where=str(source), hint="allow more with --timeout if you trust it") from None
    try:
        return json.loads(report.read_bytes())
    except (OSError, ValueError):
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        last = said[-1][:300] if said else f"exit code {done.returncode}"
        hint = "it may need more memory than this machine has" if done.returncode < 0 else ""
        raise StepError(f"the child process that read it ended early: {last}", where=str(source), hint=hint) from None
