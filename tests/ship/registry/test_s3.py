"""What an S3 store says no to, in words, and what it holds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeft.cli import main
from edgeft.ship.registry.core import Registry
from tests.ship.registry.conftest import Make

Spoil = Callable[[pytest.MonkeyPatch], str]


def list_at(place: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: fsspec keeps a connection that once worked."""
    return subprocess.run(
        [sys.executable, "-m", "edgeft", "registry", "log", "--registry", place], capture_output=True, text=True, timeout=120
    )  # fmt: skip


def test_missing_keys_are_said_and_no_traceback(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # nor in ~/.aws
    done = list_at(f"{bucket}/models")
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    assert "Unable to locate credentials" in done.stderr and "your keys" in done.stderr


def test_a_server_that_does_not_answer(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    done = list_at(f"{bucket}/models")
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    assert "Could not connect" in done.stderr


def test_a_bucket_that_does_not_exist_takes_nothing(
    bucket: str, signed: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["registry", "add", str(signed(1)), "--registry", "s3://there-is-none/models"]) == 3
    assert "bucket does not exist" in capsys.readouterr().err


def test_another_machine_finds_what_was_added(bucket: str, signed: Make, tmp_path: Path) -> None:
    """Through the server, byte for byte; with an index of its own."""
    folder = signed(1)
    Registry(f"{bucket}/models").add(folder)
    out = tmp_path / "copy"
    done = subprocess.run(
        [sys.executable, "-m", "edgeft", "registry", "get", "tiny:1", "--registry", f"{bucket}/models", "--out", str(out)],
        capture_output=True, text=True, env={**os.environ, "EDGEFT_STORE": str(tmp_path / "other")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files == {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_file_exchanged_in_the_store_is_named(bucket: str, signed: Make, capsys: pytest.CaptureFixture[str]) -> None:
    import s3fs

    place = f"{bucket}/models"
    Registry(place).add(signed(1))
    store = s3fs.S3FileSystem()
    (victim,) = [path for path in store.find(place) if path.endswith("model.onnx")]
    data = bytearray(store.cat_file(victim))
    data[-1] ^= 1
    store.pipe_file(victim, bytes(data))
    assert main(["registry", "show", "tiny:1", "--registry", place]) == 3
    assert "model.onnx" in capsys.readouterr().out
