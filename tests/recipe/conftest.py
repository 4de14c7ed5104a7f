"""A folder with everything that the recipe of `mistakes.GOOD` names, as the current folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.recipe.mistakes import GOOD

Write = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Model, adapter, data, code and weights as empty files: recipes check that they are there, not what they hold."""
    for folder in ("model", "adapter"):
        (tmp_path / folder).mkdir()
    for file in ("train.csv", "net.onnx", "net.py", "w.safetensors", "w.bin", "model.pt", "base.yaml"):
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(project: Path) -> Write:
    """write("demo.yaml", text) or write() for a good recipe; gives the path relative to the current folder."""

    def put(name: str = "demo.yaml", text: str = GOOD) -> Path:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return Path(name)

    return put
