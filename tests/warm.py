"""`edgeft` run by a fork of a process that has the large libraries imported: a build then begins in milliseconds, not in seconds.

Run as a program it serves: one JSON line in, {argv, cwd, env, out, err}; two lines out, the child's process id and at its
end its wait status. What asks how a new interpreter begins (imports, memory, signals) does not belong here.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MAY_DIFFER = ("EDGEFT_", "PYTEST_", "TMPDIR", "NO_COLOR", "COLUMNS")
"""Variables that nothing reads while it is imported; with another value of any other one a new interpreter is started."""


class Warm:
    """The process that forks, started with `env` and, where given, a niceness."""

    def __init__(self, env: Mapping[str, str], nice: int = 0) -> None:
        self.env = dict(env)
        command = ["nice", "-n", str(nice)] * (nice != 0) + [sys.executable, "-m", "tests.warm"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=self.env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.said: Queue[str] = Queue()
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()
        if self._next(300) != "ready":
            self.close()
            raise SystemExit("the process that forks builds did not start")

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.put(line.strip())
        self.said.put("")

    def _next(self, timeout: float) -> str:
        """What it says next; nothing where it has ended or takes longer."""
        with suppress(Empty):
            return self.said.get(timeout=timeout)
        return ""

    def takes(self, env: Mapping[str, str]) -> bool:
        """Whether a fork with this environment is what a new interpreter with it would be."""
        names = {*env, *self.env}
        return all(env.get(name) == self.env.get(name) for name in names if not name.startswith(MAY_DIFFER))

    def start(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], out: Path, err: Path) -> int:
        """Process id of `edgeft ARGV` in `cwd`, in a session of its own; its output is appended to the two files."""
        assert self.process.stdin is not None
        about = {"argv": list(argv), "cwd": str(cwd), "env": dict(env), "out": str(out), "err": str(err)}
        self.process.stdin.write(json.dumps(about) + "\n")
        self.process.stdin.flush()
        return int(self.said.get(timeout=300))

    def wait(self, pid: int, timeout: float) -> int | None:
        """Its exit code (-9 for a kill), or None where it had to be killed after `timeout` seconds."""
        if status := self._next(timeout):
            return os.waitstatus_to_exitcode(int(status))
        kill_group(pid)
        self._next(60)
        return None

    def close(self) -> None:
        """End the process, whatever it waits for."""
        self.process.kill()
        self.process.wait(30)
        self.listener.join(30)  # it reads to the end that the process just met
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


def kill_group(pid: int) -> None:
    """SIGKILL to all processes that this one leads."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


_here: list[Warm] = []
_free = threading.Lock()


def edgeft(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str] | None:
    """`edgeft ARGV` to its end by a fork, or None where only a new interpreter would do."""
    if not _free.acquire(blocking=False):
        return None  # one is running: another thread of the test asks
    try:
        if not _here:
            _here.append(Warm(env))
            atexit.register(_here[0].close)
        if not _here[0].takes(env):
            return None
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            code = _here[0].wait(_here[0].start(argv, cwd, env, out, err), timeout)
            texts = [path.read_text("utf-8", "replace") for path in (out, err)]
        if code is None:
            raise subprocess.TimeoutExpired(["edgeft", *argv], timeout, *texts)
        return subprocess.CompletedProcess(["edgeft", *argv], code, *texts)
    finally:
        _free.release()


def serve() -> int:
    """Answer requests until there are no more."""
    import accelerate  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import peft  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoModelForSequenceClassification, Trainer  # noqa: F401

    from edgeft.cli import main as command

    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        about = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 70  # no exit code of the command's own
            try:
                _become(about)
                code = command(about["argv"])
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
            finally:
                _end(code)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)
    return 0


def _become(about: dict[str, Any]) -> None:
    """A session of its own, so that a kill of the group reaches the build and what it started, and nothing else."""
    os.setsid()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    null = os.open(os.devnull, os.O_RDONLY)
    for mine, theirs in ((null, 0), (os.open(about["out"], flags, 0o644), 1), (os.open(about["err"], flags, 0o644), 2)):
        os.dup2(mine, theirs)
    os.chdir(about["cwd"])
    os.environ.clear()
    os.environ.update(about["env"])
    sys.argv = ["edgeft", *about["argv"]]
    sys.path[0] = about["cwd"]  # as `python -m` has it
    tempfile.tempdir = None


def _end(code: int) -> None:
    """Leave as an interpreter does, without C++'s destructors: they wait for threads that a fork leaves behind."""
    try:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(serve())
