"""Bundles that take medical images, made from real builds, and the validator of dicom3tools."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft.ship import verify
from tests.bundle.conftest import build
from tests.pipeline.image_nets import CONV, UNET, write_digits, write_shapes
from tests.pipeline.test_images import CLASSES, MASKS

WINDOW = {"window": [0.0, 255.0], "orientation": "", "spacing": None, "invert": True}
Validator = Callable[[Path], list[str]]


def restate(bundle: Path, copy: Path, medical: dict[str, Any] | None, **more: Any) -> Path:
    """A copy of a bundle whose preprocess.json has other keys, in a manifest that agrees with it."""
    shutil.copytree(bundle, copy)
    path = copy / "preprocess.json"
    stated = json.loads(path.read_text())
    path.write_text(json.dumps({**stated, **({} if medical is None else {"medical": medical}), **more}))
    reseal(copy)
    return copy


def reseal(bundle: Path, **changes: Any) -> None:
    """Bring the manifest's hashes up to date; `changes` replace keys of it."""
    manifest = json.loads((bundle / verify.MANIFEST).read_text())
    files = {
        path.relative_to(bundle).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in sorted(bundle.rglob("*"))
        if path.is_file() and path.name != verify.MANIFEST
    }
    (bundle / verify.MANIFEST).write_bytes(verify.canonical({**manifest, "files": files, **changes}))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles as the builds wrote them: `masks` of squares and discs, `classes` of digits."""
    root, found = tmp_path_factory.mktemp("dicom-out"), {}
    for name, recipe, code in (("masks", MASKS, UNET), ("classes", CLASSES, CONV)):
        folder = root / name
        folder.mkdir()
        (folder / "net.py").write_text(code)
        if name == "masks":
            write_shapes(folder / "shapes")
        else:
            write_digits(folder / "images")
        found[name] = build(folder, root / "store", recipe).bundle
    return found


@pytest.fixture(scope="session")
def masks(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmentation that takes values from 0 to 255 as grey levels."""
    return restate(built["masks"], tmp_path_factory.mktemp("bundles") / "masks", WINDOW)


@pytest.fixture(scope="session")
def classes(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that takes the same."""
    return restate(built["classes"], tmp_path_factory.mktemp("bundles") / "classes", WINDOW)


@pytest.fixture(scope="session")
def errors_of() -> Validator:
    """errors_of(file): the lines of dciodvfy that begin with Error."""
    if shutil.which("dciodvfy") is None:
        reason = "needs dciodvfy (Debian's dicom3tools)"
        pytest.fail(reason) if "CI" in os.environ else pytest.skip(reason)

    def look(path: Path) -> list[str]:
        run = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", timeout=60)
        said = run.stderr.splitlines()
        # The name of the object's kind stands among its lines: without it the validator saw no object.
        assert any(line in ("Segmentation", "Comprehensive3DSR") for line in said), said[:5]
        return [line for line in said if line.startswith("Error")]

    return look
