"""Real texts with a classifier that answers most of them, as bundles; measuring in tenths of a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft import cli
from edgeft.targets import sessions
from tests.check import kit

Ask = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="session")
def texts(text_csv: Path) -> kit.Texts:
    """Naive Bayes on every other docstring."""
    return kit.learn_texts(text_csv)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interleaved protocol as it is, in short blocks."""
    monkeypatch.setitem(sessions.PLANS, "quick", sessions.Plan(sessions=3, blocks=2, seconds=0.6))


@pytest.fixture
def world(tmp_path: Path, texts: kit.Texts, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `base` and `same` (nearly its weights), and test.csv; it is the current folder."""
    kit.text_bundle(tmp_path / "base", texts)
    kit.text_bundle(tmp_path / "same", texts, texts.weights * 1.001)
    kit.write_table(tmp_path / "test.csv", texts.test)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """`edgeft check WORDS --json`: its exit code and record."""

    def run(words: str) -> tuple[int, dict[str, Any]]:
        code = cli.main(["check", *words.split(), "--json"])
        found = capsys.readouterr()
        assert found.out, found.err
        return code, json.loads(found.out)

    return run
