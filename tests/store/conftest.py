"""Stores in temporary folders, results in them, and real second processes that use them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeft.store import StepResult, Store, step_key

PRELUDE = """
import os, sys, time
from pathlib import Path
from edgeft.store import Store, step_key
store = Store(Path(sys.argv[1]))
def say(text): print(text, flush=True)
def wait(): return sys.stdin.readline()
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store")
    yield made
    made.close()


@pytest.fixture
def put(store: Store) -> Callable[..., StepResult]:
    """put(name, files) commits a step called `name` with these files."""

    def commit(name: str, files: dict[str, bytes] | None = None, into: Store | None = None, **more: Any) -> StepResult:
        material = {"id": name, "config": more}
        target = into or store
        with target.workspace() as folder:
            for path, data in (files or {"data.bin": name.encode() * 100}).items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
            return target.commit(step_key(material), material, "record", folder, {"of": name}, 1.0)

    return commit


class Other:
    """A second process with a store open: lines out by `say`, lines in by `wait`."""

    def __init__(self, root: Path, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + code, str(root)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONWARNINGS": "error"},
        )  # fmt: skip

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, text: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def end(self) -> int:
        self.process.communicate(timeout=60)
        return self.process.returncode


@contextmanager
def other_process(root: Path, code: str) -> Iterator[Other]:
    other = Other(root, code)
    try:
        yield other
    finally:
        if other.process.poll() is None:
            other.process.kill()
        other.process.communicate()


@pytest.fixture
def other(store: Store) -> Callable[[str], Any]:
    """other(code): context manager running code in a real second process on the same store."""
    return lambda code: other_process(store.root, code)
