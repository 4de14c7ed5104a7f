"""A finished build of a tiny recipe, copies of it that are set back to some step, and what a rerun must come to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.material import MEASURED, TINY_DATA, write_texts, write_tiny_bert
from tests.warm import Warm

RECIPE = (
    TINY_DATA
    + """\
steps:
  - finetune: {{method: full, epochs: 2, batch_size: 16, learning_rate: 0.003, eval_steps: 10, checkpoint_steps: 5}}
targets:
  - {{device: {device}, export: [onnx], candidates: [int8-dynamic], optimise: size}}
gates:
  - {{metric: accuracy, no_worse_than: source, margin: 0.08}}
  - {{metric: artifact_mb, at_most: 25}}
"""
)
LONGEST = 300.0


@dataclass
class Run:
    """A started build. log: its output, one JSON object a line."""

    pid: int
    log: Path
    wait: Any

    def lines(self) -> list[dict[str, Any]]:
        """The events so far; what is no JSON (a traceback, an error) is left to `text`."""
        found = []
        for line in self.text().splitlines():
            with suppress(ValueError):
                item = json.loads(line)
                if isinstance(item, dict):
                    found.append(item)
        return found

    def text(self) -> str:
        """All output so far."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def said(self) -> str:
        """The last of it that a person would read."""
        lines = [line for line in self.text().splitlines() if not line.startswith(('{"event": "pro', '{"schema'))]
        return "\n".join(lines)[-1500:]


class Server:
    """Starts builds: forked from a process that has the libraries (`warm`), or from a new interpreter."""

    def __init__(self, nice: int = 5) -> None:
        self.nice = nice
        self.warm = Warm({**os.environ, **quiet_env()}, nice)

    def start(self, argv: Sequence[str], folder: Path, env: Mapping[str, str], warm: bool = True) -> Run:
        """`edgeft ARGV` in `folder`, its output beside that folder: the folder's disk may be full."""
        log = folder.parent / f"log-{time.monotonic_ns()}"
        if warm:
            pid = self.warm.start(argv, folder, {**self.warm.env, **env}, log, log)
            return Run(pid, log, lambda: self._end_of(pid))
        with log.open("ab") as stream:
            process = subprocess.Popen(
                ["nice", "-n", str(self.nice), sys.executable, "-m", "edgeft", *argv], cwd=folder,
                env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                start_new_session=True,
            )  # fmt: skip
        return Run(process.pid, log, lambda: process.wait(LONGEST))

    def _end_of(self, pid: int) -> int:
        """Exit code of a forked build; one that does not come to an end is killed, which shows as -9."""
        code = self.warm.wait(pid, LONGEST)
        return -signal.SIGKILL if code is None else code

    def close(self) -> None:
        """End the process that forks, whatever it waits for."""
        self.warm.close()


def quiet_env() -> dict[str, str]:
    """One thread: several builds share this machine, and a forked child cannot take over a pool of threads."""
    return {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass
class World:
    """base: folder of the finished build. steps: its steps in order. code: its exit code."""

    base: Path
    server: Server
    more_env: dict[str, str] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    code: int = 0
    tail: float = 1.0

    def env(self, folder: Path) -> dict[str, str]:
        """Store and temporary files of a run in `folder`."""
        (folder / "tmp").mkdir(exist_ok=True)
        return {**quiet_env(), "EDGEFT_STORE": str(folder / "store"), "TMPDIR": str(folder / "tmp"), **self.more_env}

    def finish(self) -> None:
        """The undisturbed build that all trials are compared with, and the time of a build that finds all cached."""
        run = self.start(self.base)
        self.code = run.wait()
        if self.code not in (0, 1, 5):
            raise SystemExit(f"the undisturbed build ended with {self.code}:\n{run.said()}")
        self.steps = record_of(self.base)["steps"]
        began = time.monotonic()
        self.start(self.base).wait()
        self.tail = time.monotonic() - began

    def start(self, folder: Path, warm: bool = True) -> Run:
        """`edgeft build` in `folder`."""
        return self.server.start(["build", "recipe.yaml", "--json"], folder, self.env(folder), warm)

    def digests(self, folder: Path) -> dict[str, str]:
        """Step -> digest, measurements apart."""
        rows = record_of(folder)["steps"]
        return {row["id"]: row["digest"] for row in rows if not row["id"].endswith(MEASURED)}

    @contextmanager
    def copy(self, name: str, first: int, count: int) -> Iterator[Path]:
        """A copy of the finished build in which `count` steps from `first` on were never done; removed at the end."""
        folder = self.base.with_name(name)
        shutil.copytree(self.base, folder, ignore=shutil.ignore_patterns("log-*", "tmp"))
        set_back(folder / "store", self.steps[first : first + count])
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def set_back(store: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Forget steps as if they had never run: their records, and the objects that no other step has."""
    for row in rows:
        (store / "steps" / f"{row['key']}.json").unlink(missing_ok=True)
    kept = {json.loads(path.read_text())["digest"] for path in (store / "steps").glob("*.json")}
    for digest in {row["digest"] for row in rows} - kept:
        home = store / "objects" / digest[:2]
        shutil.rmtree(home / digest, ignore_errors=True)
        (home / f"{digest}.files.json").unlink(missing_ok=True)
    for row in rows:
        for path in (store / "scratch").glob(f"{row['key']}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def record_of(folder: Path) -> dict[str, Any]:
    """The outcome's record."""
    content: dict[str, Any] = json.loads((folder / "out/tiny/record.json").read_text())
    return content


def make_world(folder: Path, server: Server, device: str = "local-cpu", env: Mapping[str, str] | None = None) -> World:
    """The tiny recipe on real short texts, built once."""
    base = folder / "base"
    base.mkdir(parents=True)
    data = folder / "texts.csv"
    write_texts(data)
    write_tiny_bert(folder / "model", data)
    (base / "recipe.yaml").write_text(RECIPE.format(model=folder / "model", data=data, device=device))
    world = World(base, server, dict(env or {}))
    world.finish()
    return world


def left_running(folder: Path) -> list[int]:
    """Processes that work in a folder of the trial although its build is over; they are given ten seconds to end."""
    import psutil

    until = time.monotonic() + 10
    while True:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if Path(process.cwd()).is_relative_to(folder):
                    found.append(process.pid)
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.1)
