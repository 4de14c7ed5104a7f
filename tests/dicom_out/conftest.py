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
from tests.dicom_out.material import write_digit_study, write_mask_study
from tests.pipeline.image_nets import CONV, UNET
from tests.pipeline.test_images import CLASSES, MASKS

SOURCE = "source: dicom\n  path: study"
DENSE = MASKS.replace("source: image-masks\n  path: shapes", SOURCE).replace("  group: patient\n", "")
DENSE = DENSE.replace("serve:", "preprocess: {window: [0, 255]}\nserve:")
DENSE = DENSE.replace("  labels:", "  codes: {disc: {value: '91772007', scheme: SCT, meaning: Disc}}\n  labels:")
DENSE = DENSE.replace("  labels:", "  expect: {modalities: [CT], spacing: [0.5, 2.0]}\n  labels:")
FINDINGS = CLASSES.replace("source: image-folder\n  path: images", SOURCE)
FINDINGS = FINDINGS.replace("serve:", "preprocess: {window: [0, 255]}\nserve:")
Validator = Callable[[Path], list[str]]


def restate(bundle: Path, copy: Path, **changes: Any) -> Path:
    """A copy of a bundle whose preprocess.json has other values of some keys, None for none at all, and a manifest that
    agrees with it."""
    shutil.copytree(bundle, copy)
    path = copy / "preprocess.json"
    stated = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in stated.items() if value is not None}))
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
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a segmentation, trained on CT images from DICOM files."""
    root = tmp_path_factory.mktemp("masks")
    write_mask_study(root / "study")
    (root / "net.py").write_text(UNET)
    return build(root, tmp_path_factory.mktemp("masks-store"), DENSE).bundle


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a classifier, trained on radiographs from DICOM files."""
    root = tmp_path_factory.mktemp("classes")
    write_digit_study(root / "study")
    (root / "net.py").write_text(CONV)
    return build(root, tmp_path_factory.mktemp("classes-store"), FINDINGS).bundle


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
