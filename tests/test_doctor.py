"""`edgeft doctor` on this machine, and on machines made broken by their real package metadata."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from edgeft.cli import main


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from edgeft.cli import main; sys.exit(main(['doctor', *sys.argv[1:]]))"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=120, check=False, cwd="/",  # not the checkout, whose egg-info would be found first
    )  # fmt: skip


@pytest.fixture
def found(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["doctor", "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_the_core_is_listed_with_what_is_installed(found: dict[str, Any]) -> None:
    core = {row["name"]: row for row in found["core"]}
    assert core["torch"]["version"] == version("torch")
    assert core["torch"]["wants"].startswith(">=")
    assert all(row["ok"] for row in core.values())
    assert "pytest" not in core
    assert found["python"]["ok"]
    assert found["ok"]


def test_extras_say_what_they_would_add(found: dict[str, Any]) -> None:
    extras = {row["name"]: row for row in found["extras"]}
    assert {"litert", "openvino", "medical", "dev"} <= extras.keys()
    assert "all" not in extras
    assert extras["dev"]["ok"]
    assert [item["name"] for item in extras["openvino"]["packages"]] == ["openvino", "nncf"]


def test_the_machine_is_described(found: dict[str, Any]) -> None:
    assert found["host"]["cores"] >= 1
    assert found["host"]["memory_total"] > 100_000_000
    assert found["store"]["from"] == "EDGEFT_STORE"
    assert found["store"]["free"] > 0
    assert isinstance(found["gpu"]["devices"], list)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from edgeft.cli import main; assert main(['doctor']) == 0\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'pydantic', 'pyarrow'} & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr.strip() == "[]"
    assert "all that edgeft always needs is in order" in done.stdout


def metadata(folder: Path, name: str, lines: str) -> None:
    info = folder / f"{name}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 0.1.0\n{lines}")


def test_a_missing_and_an_old_package_break_the_core(tmp_path: Path) -> None:
    """The folder on PYTHONPATH comes before the installed metadata, as a half-upgraded installation would."""
    metadata(
        tmp_path, "edgeft", "Requires-Python: >=3.11\nRequires-Dist: no-such-package>=2\nRequires-Dist: numpy>=99\n"
    )
    done = doctor(PYTHONPATH=str(tmp_path))
    assert done.returncode == 3
    assert "no-such-package" in done.stdout
    assert "missing" in done.stdout
    assert "not in order: no-such-package, numpy" in done.stdout
    assert "pip install 'no-such-package>=2' 'numpy>=99'" in done.stdout
    assert "Traceback" not in done.stderr
    found = json.loads(doctor("--json", PYTHONPATH=str(tmp_path)).stdout)
    assert found["ok"] is False


def test_a_python_out_of_range_breaks_the_core(tmp_path: Path) -> None:
    metadata(tmp_path, "edgeft", "Requires-Python: >=3.99\n")
    done = doctor(PYTHONPATH=str(tmp_path))
    assert done.returncode == 3
    assert "edgeft wants >=3.99" in done.stdout


def program(folder: Path, body: str) -> str:
    """A PATH on which `nvidia-smi` is this script: what real drivers print, without the driver."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for nvidia-smi")
def test_gpus_are_read_from_nvidia_smi(tmp_path: Path) -> None:
    path = program(tmp_path, 'echo "NVIDIA H200, 143771, 570.86.15, 9.0"; echo "NVIDIA L4, 23034, 570.86.15, 8.9"')
    devices = json.loads(doctor("--json", PATH=path).stdout)["gpu"]["devices"]
    assert devices[1] == {
        "name": "NVIDIA L4",
        "memory_mib": "23034",
        "driver": "570.86.15",
        "compute_capability": "8.9",
    }
    assert "NVIDIA H200, 143771 MiB" in doctor(PATH=path).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for nvidia-smi")
def test_a_broken_driver_is_said_not_raised(tmp_path: Path) -> None:
    path = program(tmp_path, 'echo "NVIDIA-SMI has failed because it could not communicate with the driver."; exit 9')
    done = doctor(PATH=path)
    assert done.returncode == 0
    assert "NVIDIA-SMI has failed" in done.stdout


@pytest.mark.gpu
def test_a_real_gpu_is_found(found: dict[str, Any]) -> None:
    assert found["gpu"]["devices"]
    assert int(found["gpu"]["devices"][0]["memory_mib"]) > 1000
