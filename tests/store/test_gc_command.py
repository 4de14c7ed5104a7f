"""`edgeft gc` as a user meets it."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeft.cli import main
from edgeft.cli.gc import days, size
from edgeft.store import StepResult, Store

Put = Callable[..., StepResult]


@pytest.fixture
def filled(tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> Path:
    """EDGEFT_STORE with an old and a new step of 1 MB, closed."""
    root = tmp_path / "filled"
    monkeypatch.setenv("EDGEFT_STORE", str(root))
    store = Store()
    for name, age in (("old-step", 40), ("new-step", 1)):
        result = put(name, {"f": os.urandom(1_000_000)}, into=store)
        then = time.time() - age * 86400
        os.utime(store.layout.step(result.key), (then, then))
    store.close()
    return root


def objects(root: Path) -> int:
    return len([path for path in root.glob("objects/*/*") if path.is_dir()])


def test_without_options_it_only_tells(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc"]) == 0
    said = capsys.readouterr().out
    assert f"store {filled}" in said
    assert "objects       2.0 MB       2  results of steps" in said
    assert "edgeft gc --keep 20GB" in said
    assert objects(filled) == 2


def test_a_dry_run_names_what_would_go(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", "--older-than", "30d", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "would remove 1.0 MB" in said
    assert "old-step" in said
    assert "not used for 40 days" in said
    assert "new-step" not in said
    assert objects(filled) == 2


def test_keep_shrinks_the_store(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", "--keep", "1.5MB"]) == 0
    said = capsys.readouterr().out
    assert "least recently used" in said
    assert "the store now holds 1.0 MB" in said
    assert objects(filled) == 1
    assert main(["gc", "--keep", "0"]) == 0
    assert objects(filled) == 0


def test_a_wrong_size_is_a_usage_error(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--keep", "20 gigs"], ["--keep", "-1GB"], ["--keep", "nanGB"], ["--older-than", "30"]):
        with pytest.raises(SystemExit) as stopped:
            main(["gc", *arguments])
        assert stopped.value.code == 2
        assert "such as" in capsys.readouterr().err or arguments[1] == "-1GB"
    assert objects(filled) == 2


def test_a_store_that_is_none_is_an_error_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("")
    monkeypatch.setenv("EDGEFT_STORE", str(tmp_path))
    assert main(["gc", "--keep", "0"]) == 3
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "hint: point EDGEFT_STORE at an empty or new folder" in said


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("20GB", 20 * 10**9), ("1.5 MB", 1_500_000), ("512MiB", 2**29), ("7b", 7)]
)
def test_sizes(text: str, value: int) -> None:
    assert size(text) == value


@pytest.mark.parametrize(("text", "value"), [("12h", 0.5), ("30d", 30), ("4w", 28)])
def test_times(text: str, value: float) -> None:
    assert days(text) == value


@pytest.mark.parametrize("text", ["", "GB", "1e9", "20PB", "1.2.3MB", "inf"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        size(text)


def test_prepared_runtime_folders_are_counted_and_removed_when_asked(
    filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = filled / "runtimes" / "aarch64-0123456789abcdef"
    (folder / "root").mkdir(parents=True)
    (folder / "root" / "python3").write_bytes(bytes(2_000_000))
    (folder / "manifest.json").write_text('{"files": {}, "python": "usr/bin/python3.11", "bytes": 2000000}')
    assert main(["gc", "--runtimes", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "2.0 MB       1  folders of `edgeft devices prepare`" in said
    assert "would remove 2.0 MB of runtime folders" in said
    assert folder.is_dir()
    assert main(["gc", "--runtimes"]) == 0
    assert "removed 2.0 MB of runtime folders" in capsys.readouterr().out
    assert not folder.exists()
    assert objects(filled) == 2


def test_temporary_folders_of_killed_processes(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Old ones of this user that edgeft made; not those in use, not another program's, not through a link."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    old, others = Path(tempfile.mkdtemp(prefix="edgeft-archive-")), ["edgeft-archive-new_0000", "edgeft-notes", "mine"]
    for folder in (old, *(place / name for name in others)):
        folder.mkdir(exist_ok=True)
        (folder / "model.onnx").write_bytes(bytes(3_000_000))
    (place / "edgeft-check-linked00").symlink_to(place / "mine")
    for name in (old.name, "edgeft-notes", "mine", "edgeft-check-linked00"):
        os.utime(place / name, (0, 0), follow_symlinks=False)
    assert main(["gc"]) == 0
    assert "temporary     3.0 MB       1  folders of killed processes" in capsys.readouterr().out and old.is_dir()
    assert main(["gc", "--older-than", "30d", "--dry-run"]) == 0 and old.is_dir()
    assert main(["gc", "--older-than", "30d"]) == 0
    assert "removed 3.0 MB of temporary folders" in capsys.readouterr().out
    assert sorted(path.name for path in place.iterdir()) == sorted([*others, "edgeft-check-linked00"])
    assert (place / "mine/model.onnx").is_file()
