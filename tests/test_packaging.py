"""The wheel and the sdist hold every sub-package, recipe, device and template of the tree."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAPPED = {"edgeft": "edgeft", "exporters": "edgeft_exporters", "recipes": "edgeft_recipes", "devices": "edgeft_devices"}


def shipped_files() -> set[str]:
    """Every file that must be in the wheel, by its installed name."""
    found = set()
    for folder, package in MAPPED.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found.add(f"{package}/{path.relative_to(ROOT / folder).as_posix()}")
    return found


@pytest.fixture(scope="module")
def source_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked and new files, so that a build leaves nothing in the tree."""
    copy = tmp_path_factory.mktemp("tree")
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in listing.splitlines():
        source = ROOT / name
        if source.is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes(source.read_bytes())
    return copy


def test_wheel_holds_every_file_of_the_packages(source_copy: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        ".",
    ]
    subprocess.run(command, cwd=source_copy, check=True)
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    assert shipped_files() - names == set()


def test_sdist_builds_the_same_wheel_content(source_copy: Path, tmp_path: Path) -> None:
    code = "import setuptools.build_meta as b, sys; print(b.build_sdist(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=source_copy, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    unpacked = {
        f"{MAPPED[name.split('/')[0]]}/{name.partition('/')[2]}" for name in names if name.split("/")[0] in MAPPED
    }
    assert shipped_files() - unpacked == set()
