"""One process of this machine that does a job: progress lines out, stopped when its time is over, never left behind."""

from __future__ import annotations

import json
import subprocess
import threading
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
    Ctrl-C of the terminal does not reach it. DeviceError when it cannot be started or its time runs out.
    """
    expired = threading.Event()
    with (folder / "stderr.txt").open("wb") as noise:
        process = _start(command, folder, noise, env, remote)
        timer = threading.Timer(job.timeout, _expire, (process, expired))
        timer.daemon = True
        timer.start()
        try:
            for line in iter(lambda: process.stdout.readline(LONGEST_LINE) if process.stdout else b"", b""):
                _forward(line, on_progress)
            code = process.wait()
        finally:
            timer.cancel()
            stop(process)
    if expired.is_set():
        raise DeviceError(
            f"the {job.kind} job did not finish within {job.timeout:g} s and was stopped",
            hint="a smaller search set (measure.search_cases) or a faster candidate takes less",
        )
    return code


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


def _expire(process: subprocess.Popen[bytes], expired: threading.Event) -> None:
    expired.set()
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
