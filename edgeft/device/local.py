"""This machine as a device: each job a fresh process in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgeft.device.protocol import ArtefactRefused, Job, OnProgress, Result
from edgeft.device.transport import worker_files
from edgeft.errors import DeviceError

LAST_LINES = 5
LONGEST_RESULT = 1 << 28
CPP_PLACE = re.compile(r"/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])")
"""The source line and the C++ signature that ONNX Runtime puts before some of its sentences."""
REFUSED = 3
"""Exit code of the worker when the runtime raised."""


class LocalTransport:
    """Runs jobs with this interpreter. python: another one (tests, a device's own environment)."""

    def __init__(self, python: str | None = None) -> None:
        self.python = python or sys.executable

    def run(self, job: Job, on_progress: OnProgress) -> Result:
        """Write the job's folder, run the worker in it, read what it left; the folder is removed in any case."""
        with TemporaryDirectory(prefix="edgeft-job-") as name:
            folder = Path(name)
            try:
                write_job(job, folder)
            except OSError as error:
                raise DeviceError(f"cannot write the job's folder: {error.strerror}", where=name) from error
            with (folder / "stderr.txt").open("wb") as noise:
                code, expired = self._start(job, folder, noise, on_progress)
            if expired:
                raise DeviceError(
                    f"the {job.kind} job did not finish within {job.timeout:g} s and was stopped",
                    hint="a smaller search set (measure.search_cases) or a faster candidate takes less",
                )
            return read_result(job, folder, code)

    def _start(self, job: Job, folder: Path, noise: Any, on_progress: OnProgress) -> tuple[int, bool]:
        """(exit code, whether time ran out). The worker is dead when this returns, whatever happens."""
        command = [self.python, "-P", "-u", "worker.py", "job.json"]
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=noise,
                env=environment(),
            )
        except OSError as error:
            raise DeviceError(f"cannot start {self.python}: {error.strerror}") from error
        expired = threading.Event()
        timer = threading.Timer(job.timeout, _stop, (process, expired))
        timer.daemon = True
        timer.start()
        try:
            with process:
                for line in process.stdout or ():
                    _forward(line, on_progress)
                return process.wait(), expired.is_set()
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()


def _stop(process: subprocess.Popen[bytes], expired: threading.Event) -> None:
    expired.set()
    process.kill()


def environment() -> dict[str, str]:
    """The caller's, without byte-code files in the job's folder and without BLAS threads that would steal the core."""
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def write_job(job: Job, folder: Path) -> None:
    """job.json, feeds, worker and runtime files. Models stay where they are: the worker only reads them."""
    import numpy as np

    for path in (*worker_files(), job.runtime):
        shutil.copyfile(path, folder / path.name)
    for role, arrays in job.feeds.items():
        np.savez(folder / f"{role}.npz", *arrays.values())
    about: dict[str, Any] = {
        **job.settings,
        "kind": job.kind,
        "runtime": job.runtime.name,
        **{role: str(path.resolve()) for role, path in job.models.items()},
        **{role: {"file": f"{role}.npz", "names": list(arrays)} for role, arrays in job.feeds.items()},
    }
    (folder / "job.json").write_text(json.dumps(about), encoding="utf-8")


def read_result(job: Job, folder: Path, code: int) -> Result:
    """The worker's result, or why there is none: refused by the runtime, killed by a signal, or crashed."""
    import numpy as np

    path = folder / "result.json"
    last = _last_lines(folder / "stderr.txt")
    if code not in (0, REFUSED) or not path.is_file():
        raise DeviceError(f"the {job.kind} job {_ending(code)}", hint=_hint(code), excerpt=last)
    if path.stat().st_size > LONGEST_RESULT:
        raise DeviceError(f"the {job.kind} job wrote a result of more than {LONGEST_RESULT >> 20} MiB")
    data: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "error" in data:
        said = CPP_PLACE.sub("", str(data["error"]))
        raise ArtefactRefused(f"the runtime refused the {job.kind} job: {said}", excerpt=last)
    arrays = {}
    if (folder / "outputs.npz").is_file():
        with np.load(folder / "outputs.npz", allow_pickle=False) as archive:
            arrays = {name: archive[f"arr_{index}"] for index, name in enumerate(data["outputs"])}
    return Result(data, arrays)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code} and no result"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _hint(code: int) -> str:
    if code == -signal.SIGKILL:
        return "the system may have run out of memory: see `dmesg`, or try a smaller batch"
    if code in (-signal.SIGILL, -signal.SIGSEGV, -signal.SIGABRT):
        return "the runtime itself crashed; another version of it may not"
    return ""


def _last_lines(path: Path) -> str:
    text = path.read_bytes()[-16384:].decode("utf-8", "replace") if path.is_file() else ""
    return "\n".join(text.rstrip().splitlines()[-LAST_LINES:])


def _forward(line: bytes, on_progress: OnProgress) -> None:
    """One progress line; anything else a target might print is not progress and is dropped."""
    try:
        event = json.loads(line)
        done, total = float(event["done"]), float(event["total"])
    except (ValueError, KeyError, TypeError):
        return
    on_progress(done, total)
