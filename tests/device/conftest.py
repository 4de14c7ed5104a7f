"""The exporter tests' tiny classifier and its float export; jobs with a runtime that does what a test says."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeft.device.protocol import Job
from tests.exporters.conftest import classifier, exported

__all__ = ["classifier", "exported", "make_job", "temporary"]

RUNTIME = """
import os, signal, sys, time
NAME = "fake"
DISTRIBUTIONS = ("fake-runtime",)
def describe(): return {"fake": "1"}
class Session:
    def __init__(self, path): self.text = open(path).read()
    def run(self, feeds):
        {run}
        return {"y": feeds["x"] * 2, "file": feeds["x"]}
    def placement(self): return {"fake": 1}
    def operators(self, runs): raise ValueError("the fake has no profiler")
    def close(self): pass
def load(path, options):
    {load}
    return Session(path)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary folders of jobs go here, so that what is left behind can be counted."""
    where = tmp_path / "jobs"
    where.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(where))
    return where


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    """A job of five cases; `run` and `load` are lines of Python inside the runtime."""

    def make(run: str = "pass", load: str = "pass", kind: str = "predict", timeout: float = 60.0) -> Job:
        runtime, model = tmp_path / "fake.py", tmp_path / "model.bin"
        runtime.write_text(RUNTIME.replace("{run}", run).replace("{load}", load))
        model.write_text("weights")
        feeds = {"x": np.arange(5, dtype=np.float32).reshape(5, 1)}
        settings = {"batch": 2, "runs": 8, "seconds": 0.1}
        return Job(kind, runtime, {"model": model}, {"feeds": feeds}, settings, timeout)  # type: ignore[arg-type]

    return make
