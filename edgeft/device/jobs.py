"""A job as a folder: what is written for the worker, and what is read of its answer. Shared by all transports."""

from __future__ import annotations

import ast
import json
import re
import shutil
import signal
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.device.protocol import ArtefactRefused, Job, Result
from edgeft.device.transport import worker_files
from edgeft.errors import DeviceError

if TYPE_CHECKING:
    from edgeft.task import Arrays

RESULT, OUTPUTS, STDERR = "result.json", "outputs.npz", "stderr.txt"
LONGEST_RESULT = 1 << 28
LARGEST_OUTPUTS = 1 << 32
LAST_LINES = 5
REFUSED = 3
"""Exit code of the worker when the runtime raised."""
CPP_PLACE = re.compile(r"/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])")
"""The source line and the C++ signature that ONNX Runtime puts before some of its sentences."""
ABSENT = re.compile(r"(?:ModuleNotFoundError|ImportError): (.*)", re.DOTALL)
NOISE = re.compile(r"^qemu-\S+: warning: TCG doesn't support requested feature|^\w*sh: .*Killed")
"""Lines of standard error that explain nothing."""
ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""No byte-code files in the job's folder, no BLAS threads that would steal the core."""


def write_job(job: Job, folder: Path, places: Mapping[str, str] | None = None) -> None:
    """job.json, feeds, worker and runtime files. DeviceError when they cannot be written.

    places: role -> path of the model as the worker will see it; without them, its path here, since it is only read.
    """
    import numpy as np

    try:
        for path in (*worker_files(), job.runtime):
            shutil.copyfile(path, folder / path.name)
        for role, arrays in job.feeds.items():
            np.savez(folder / f"{role}.npz", *arrays.values())
        (folder / "job.json").write_text(json.dumps(describe_job(job, places)), encoding="utf-8")
    except OSError as error:
        raise DeviceError(f"cannot write the job's folder: {error.strerror}", where=str(folder)) from error


def describe_job(job: Job, places: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What job.json says."""
    seen = {role: str(path.resolve()) for role, path in job.models.items()} if places is None else dict(places)
    feeds = {role: {"file": f"{role}.npz", "names": list(arrays)} for role, arrays in job.feeds.items()}
    return {**job.settings, "kind": job.kind, "runtime": job.runtime.name, **seen, **feeds}


def read_result(job: Job, folder: Path, code: int, *, install: str = "python -m pip install") -> Result:
    """The worker's result, or why there is none: refused by the runtime, killed by a signal, or crashed.

    folder: holds result.json, outputs.npz and stderr.txt, as far as they came to be; none of them is trusted.
    install: what to run for a missing package, for the hint.
    """
    path, last = folder / RESULT, last_lines(folder / STDERR)
    if code not in (0, REFUSED) or not path.is_file():
        if "No space left on device" in last:
            raise full_disk(f"while the {job.kind} job ran", last)
        raise DeviceError(f"the {job.kind} job {_ending(code)}", hint=_hint(code), excerpt=last)
    if path.stat().st_size > LONGEST_RESULT:
        raise DeviceError(f"the {job.kind} job wrote a result of more than {LONGEST_RESULT >> 20} MiB")
    try:
        data = json.loads(path.read_bytes())
        if not isinstance(data, dict):
            raise TypeError("not a mapping")
        if "error" not in data:
            return Result(data, _read_outputs(folder / OUTPUTS, data))
    except (ValueError, KeyError, TypeError, OSError, RecursionError, zipfile.BadZipFile) as error:
        raise DeviceError(f"the {job.kind} job's result cannot be read: {error}", excerpt=last) from error
    raise _refusal(job, CPP_PLACE.sub("", str(data["error"])), last, install)


def full_disk(when: str, last: str = "") -> DeviceError:
    """The device has no room left."""
    return DeviceError(
        f"the device's disk is full {when}", hint="make room there, or give the unit another folder", excerpt=last
    )


def last_lines(path: Path) -> str:
    """The end of what a process wrote to standard error, without the lines that say nothing."""
    text = path.read_bytes()[-16384:].decode("utf-8", "replace") if path.is_file() else ""
    return "\n".join([line for line in text.rstrip().splitlines() if not NOISE.search(line)][-LAST_LINES:])


def distributions(runtime: Path, constant: str = "DISTRIBUTIONS") -> tuple[str, ...]:
    """DISTRIBUTIONS (or its OPTIONAL_ ones) of a runtime file, read without running it; empty where it states none."""
    for node in ast.parse(runtime.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == constant for target in node.targets
        ):
            return tuple(str(name) for name in ast.literal_eval(node.value))
    return ()


def _refusal(job: Job, said: str, last: str, install: str) -> DeviceError:
    """A missing package and a full disk are the device's failure, anything else the artefact's."""
    if found := ABSENT.match(said):
        needed = " ".join((*distributions(job.runtime), "numpy") if "numpy" in found[1] else distributions(job.runtime))
        return DeviceError(f"the runtime is not installed there: {found[1]}", hint=f"{install} {needed}".strip())
    if "No space left on device" in said:
        return full_disk(f"while the {job.kind} job ran", said[-200:])
    return ArtefactRefused(f"the runtime refused the {job.kind} job: {said}", excerpt=last)


def _read_outputs(path: Path, data: Mapping[str, Any]) -> Arrays:
    """Arrays by the names the worker gave; an archive that unpacks to too much is refused unread."""
    import numpy as np

    if not path.is_file():
        return {}
    with zipfile.ZipFile(path) as archive:
        if sum(item.file_size for item in archive.infolist()) > LARGEST_OUTPUTS:
            raise ValueError(f"the outputs are larger than {LARGEST_OUTPUTS >> 30} GiB")
    with np.load(path, allow_pickle=False) as loaded:
        return {str(name): loaded[f"arr_{index}"] for index, name in enumerate(data["outputs"])}


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code} and no result"
    with suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


def _hint(code: int) -> str:
    if code == -9:
        return "the system may have run out of memory: see `dmesg`, or try a smaller batch"
    if code in (-4, -6, -11):  # SIGILL, SIGABRT, SIGSEGV; Windows lacks some of the names
        return "the runtime itself crashed; another version of it may not"
    return ""
