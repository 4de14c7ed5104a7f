"""One process of this machine that does a job: progress lines out, stopped when its time is over, never left behind."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from edgeft.device.protocol import Job, OnProgress
from edgeft.errors import DeviceError

LONGEST_LINE = 1 << 16
GRACE = 10.0
"""Seconds that a process whose input was closed may take to clean up before it is killed."""


def run_process(
    command: Sequence[str],
    job: Job,
    folder: Path,
    on_progress: OnProgress,
    *,
    env: Mapping[str, str] | None = None,
    remote: bool = False,
) -> int:
    """Exit code of `command`, started in `folder` with its errors in stderr.txt there; negative: killed by a signal.

    remote: the command only speaks for one elsewhere (ssh, adb). It gets an input that is closed to stop it, and
    Ctrl-C of the terminal does not reach it. DeviceError when it cannot be started, its time runs out, or it hangs.
    """
    watch = _Watch(job)
    with (folder / "stderr.txt").open("wb") as noise:
        process = _start(command, folder, noise, env, remote)
        threading.Thread(target=watch.over, args=(process,), daemon=True).start()
        try:
            for line in iter(lambda: process.stdout.readline(LONGEST_LINE) if process.stdout else b"", b""):
                watch.heard = time.monotonic()
                _forward(line, on_progress)
            code = process.wait()
        finally:
            watch.ended.set()
            stop(process)
    if watch.hung:
        raise DeviceError(
            f"the {job.kind} job gave no answer for {job.silence:g} s and was stopped",
            hint="its runtime may hang: try again, or leave this candidate out; a smaller serve.batch answers sooner",
        )
    if watch.expired:
        raise DeviceError(
            f"the {job.kind} job did not finish within {job.timeout:g} s and was stopped",
            hint="a smaller search set (measure.search_cases) or a faster candidate takes less",
        )
    return code


class _Watch:
    """Ends a process whose time is over, or of which nothing was heard for too long."""

    def __init__(self, job: Job) -> None:
        self._end, self._silence = time.monotonic() + job.timeout, job.silence
        self.heard = time.monotonic()
        self.ended, self.expired, self.hung = threading.Event(), False, False

    def over(self, process: subprocess.Popen[bytes]) -> None:
        """Until the process has ended by itself, or its end here."""
        while not (self.expired or self.hung):
            if self.ended.wait(max(0.0, min(self._end, self.heard + self._silence) - time.monotonic())):
                return
            now = time.monotonic()
            self.expired, self.hung = now >= self._end, now >= self.heard + self._silence
        _expire(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it: by closing its input where it has one, else, or when that does not help, by SIGKILL. Close its pipes."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _start(
    command: Sequence[str], folder: Path, noise: IO[bytes], env: Mapping[str, str] | None, remote: bool
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(command),
            cwd=folder,
            stdin=subprocess.PIPE if remote else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=noise,
            env=dict(env) if env is not None else None,
            start_new_session=remote,
        )
    except OSError as error:
        raise DeviceError(f"cannot start {command[0]}: {error.strerror}") from error


def _expire(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    process.kill()


def _forward(line: bytes, on_progress: OnProgress) -> None:
    """One progress line; anything else a target might print is not progress and is dropped."""
    try:
        event = json.loads(line)
        done, total = float(event["done"]), float(event["total"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    on_progress(done, total)
