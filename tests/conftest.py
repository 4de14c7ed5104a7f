"""Shared fixtures: real short texts read from installed packages, and a tiny BERT with a tokenizer trained on them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.material import write_texts, write_tiny_bert, write_tiny_llama

# Two workers with two threads each on two cores spend their time in OpenMP's barriers, not in the tests.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
# A test module that looks whether openvino is there imports it, and openvino reports that. The project's own code keeps
# this module out by itself (edgeft/runtimes/ov.py), which a test watches in a process of its own.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs hardware is skipped with its reason, never faked and never silently left out."""
    from edgeft.pipeline.host import gpu_names

    absent = {
        "gpu": None if gpu_names() else "needs a CUDA GPU; this machine has none",
        "device": "needs a device that is not this machine",
        "macos": None if sys.platform == "darwin" else "needs macOS",
    }
    for item in items:
        for mark, reason in absent.items():
            if reason and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's store."""
    if "EDGEFT_STORE" not in os.environ or "pytest" not in os.environ["EDGEFT_STORE"]:
        monkeypatch.setenv("EDGEFT_STORE", str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="session")
def text_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CSV with columns text, label, group: 960 real docstrings of three libraries."""
    path = tmp_path_factory.mktemp("data") / "docstrings.csv"
    write_texts(path)
    return path


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory, text_csv: Path) -> Path:
    """Folder of a randomly initialised 2-layer BERT (hidden 32) with a WordPiece tokenizer trained on `text_csv`."""
    folder = tmp_path_factory.mktemp("tiny-bert")
    write_tiny_bert(folder, text_csv)
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory, text_csv: Path) -> Path:
    """Folder of a randomly initialised 2-layer Llama (hidden 32) with a byte-level BPE trained on `text_csv`."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    write_tiny_llama(folder, text_csv)
    return folder
