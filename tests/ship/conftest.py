"""A bundle in the form that `edgeft build` writes, made in a moment, and keys."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft.ship import verify
from edgeft.ship.keys import Signer, new_key
from edgeft.ship.signature import sign_folder

TENSOR = {"name": "x", "dtype": "float32", "shape": ["batch", 3]}
FILES = {
    "model.onnx": bytes(range(256)) * 9,
    "model_card.md": "# tiny\n\nGrüße\n".encode(),
    "preprocess.json": b'{"length": 32}\n',
    "golden/inputs/x.npy": b"\x93NUMPY" + bytes(64),
    "empty.txt": b"",
}


def seal(folder: Path, **changes: Any) -> Path:
    """Write manifest.json over what lies in `folder`; `changes` replace keys of it."""
    (folder / verify.MANIFEST).unlink(missing_ok=True)
    (folder / verify.SIGNATURE).unlink(missing_ok=True)
    files = {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {
        "format": 2, "name": "tiny", "device": "local-cpu", "task": "text-classification", "runtime": "onnxruntime",
        "threads": 1, "labels": ["a", "b"], "inputs": {"x": TENSOR}, "outputs": {"y": TENSOR}, "model": "model.onnx",
        "status": "passed", "files": files, **changes,
    }  # fmt: skip
    (folder / verify.MANIFEST).write_bytes(verify.canonical(manifest))
    return folder


def make_bundle(folder: Path, **changes: Any) -> Path:
    """An unsigned bundle with files of several kinds and the real verify.py."""
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    shutil.copyfile(verify.__file__, folder / "verify.py")
    return seal(folder, **changes)


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    """A key whose public half receivers trust."""
    return new_key(tmp_path_factory.mktemp("keys") / "release.pem")


@pytest.fixture(scope="session")
def trusted(signer: Signer) -> dict[str, bytes]:
    """What `read_keys` gives of the public half."""
    return {signer.id: signer.public}


@pytest.fixture
def bundle(tmp_path: Path, signer: Signer) -> Path:
    """A signed bundle."""
    folder = make_bundle(tmp_path / "bundle")
    sign_folder(folder, signer)
    return folder


@pytest.fixture
def refused(trusted: dict[str, bytes]) -> Callable[[Path, str, str], None]:
    """refused(folder, check, words): verification ends in exit code 1, and that check says those words."""

    def see(folder: Path, check: str, words: str) -> None:
        found = verify.verify_folder(folder, trusted)
        said = [row.said for row in found.findings if row.check == check and row.verdict == "fail"]
        assert found.exit_code == 1, found.lines()
        assert said and words in said[0], found.lines()

    return see
