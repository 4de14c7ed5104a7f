"""`edgeft report` as a user calls it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeft.cli import report as command
from edgeft.errors import EdgeftError
from edgeft.report import render_html, render_json
from tests.report import sample


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args(words))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    build = tmp_path / "out" / "docs-router"
    build.mkdir(parents=True)
    (build / "record.json").write_bytes(render_json(sample.failed()))
    return build


def test_text_is_the_default_and_a_failed_build_is_reported_with_success(
    folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert call(str(folder)) == 0
    assert capfdbinary.readouterr().out.startswith(b"FAIL: docs-router")


def test_without_a_name_the_newest_build_is_taken(folder: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    newer = folder.parent / "other"
    newer.mkdir()
    (newer / "record.json").write_bytes(render_json(sample.record(name="other")))
    os.utime(folder / "record.json", (1, 1))
    assert call() == 0
    assert capfdbinary.readouterr().out.startswith(b"PASS: other")


def test_the_suffix_of_the_output_decides(folder: Path) -> None:
    for name in ("r.html", "r.json", "r.md", "r.txt"):
        assert call(str(folder / "record.json"), "--output", name) == 0
    assert Path("r.html").read_text(encoding="utf-8") == render_html(sample.failed())
    assert Path("r.json").read_bytes() == render_json(sample.failed())
    assert Path("r.md").read_text(encoding="utf-8").startswith('---\nlicense: "unknown"')
    assert Path("r.txt").read_text(encoding="utf-8").startswith("FAIL")
    assert not list(Path().glob(".*.part"))


def test_mistakes_have_a_hint(folder: Path) -> None:
    (folder / "record.json").write_bytes(render_json(sample.stopped_by_error()))
    for words in (
        [str(folder / "nothing")],
        [str(folder), "-f", "markdown"],
        [str(folder), "-o", "no/such/folder/r.html"],
    ):
        with pytest.raises(EdgeftError) as caught:
            call(*words)
        assert caught.value.hint
    (folder / "record.json").unlink()
    with pytest.raises(EdgeftError, match="no record below"):
        call()


def test_every_option_has_help() -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    assert all(action.help for action in parser._actions)
    assert command.HELP
    assert command.DESCRIPTION
    assert "edgeft report" in command.EPILOG


def test_configuring_imports_nothing_heavy() -> None:
    code = (
        "import argparse, sys; from edgeft.cli import report; report.configure(argparse.ArgumentParser());"
        "print([m for m in ('pydantic', 'jinja2', 'numpy', 'torch', 'edgeft.record') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
