"""Jobs carried to a machine nobody can connect to: packed, run by hand in a fresh folder, collected; fakes refused."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.device.carried import BACK, CarriedResults, collect, pack
from edgeft.device.profile import Device, load_device
from edgeft.device.protocol import ArtefactRefused, Job
from edgeft.device.transport import run_job, runtime_file
from edgeft.errors import DeviceError, Exit, RecipeError

pytestmark = pytest.mark.ml
MakeJob = Callable[..., Job]


def run_there(job_zip: Path, folder: Path) -> Path:
    """What the person does: unpack, `python run.py`; without edgeft in reach."""
    with zipfile.ZipFile(job_zip) as archive:
        archive.extractall(folder)
    done = subprocess.run([sys.executable, "run.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "result.zip"


@pytest.fixture
def trip(make_job: MakeJob, tmp_path: Path) -> tuple[Path, Path]:
    """job.zip and its true result.zip."""
    pack({"answers": make_job()}, tmp_path / "job.zip", {"model": "m", "device": "clinic"})
    return tmp_path / "job.zip", run_there(tmp_path / "job.zip", tmp_path / "there")


def rewrite(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(source) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target


def test_a_real_model_goes_there_and_back(exported: Any, tmp_path: Path) -> None:
    from tests.exporters.tiny import make_feeds

    runtime, model = runtime_file("onnxruntime"), {"model": exported.path / "model.onnx"}
    feeds = {"feeds": make_feeds(5)}
    predict = Job("predict", runtime, model, feeds, {"batch": 2})
    timed = Job("latency", runtime, model, feeds, {"batch": 1, "runs": 8, "seconds": 0.1})
    jobs = {"answers": predict, "times": timed, "machine": Job("describe", runtime)}
    pack(jobs, tmp_path / "job.zip", {"model": "tiny"})
    with zipfile.ZipFile(tmp_path / "job.zip") as archive:
        names = archive.namelist()
    assert len([name for name in names if name.endswith("model.onnx")]) == 1, "a model travels once"
    results = collect(tmp_path / "job.zip", run_there(tmp_path / "job.zip", tmp_path / "there"))
    here = run_job(Device(name="here"), predict)
    assert list(results) == ["answers", "times", "machine"] and results.about == {"model": "tiny"}
    for name, value in here.arrays.items():
        assert np.array_equal(results["answers"].arrays[name], value)
    assert sum(len(block["ms"]) for block in results["times"].data["blocks"]) >= 8
    assert results["machine"].data["facts"]["machine"] == results.machine["machine"]


def test_what_failed_there_raises_when_it_is_looked_up(make_job: MakeJob, tmp_path: Path) -> None:
    good, jobs = make_job(), {}
    for name, more in {
        "refused": {"load": "raise ValueError('no kernel for Foo')"},
        "missing": {"load": "import abacus"},
        "slow": {"run": "time.sleep(30)", "timeout": 1.5},
    }.items():
        job = make_job(**more)  # type: ignore[arg-type]
        own = tmp_path / name / "fake.py"
        own.parent.mkdir()
        own.write_text(job.runtime.read_text())
        jobs[name] = Job(job.kind, own, job.models, job.feeds, job.settings, job.timeout)
    make_job()
    pack({**jobs, "good": good}, tmp_path / "job.zip", {})
    results = collect(tmp_path / "job.zip", run_there(tmp_path / "job.zip", tmp_path / "there"))
    assert results["good"].arrays["y"].tolist() == [[0], [2], [4], [6], [8]]
    with pytest.raises(ArtefactRefused, match="no kernel for Foo"):
        results["refused"]
    with pytest.raises(DeviceError, match="not installed there") as caught:
        results["missing"]
    assert "pip install fake-runtime" in caught.value.hint
    with pytest.raises(DeviceError, match=r"did not finish within 1\.5 s"):
        results["slow"]


def test_a_changed_job_does_not_run(trip: tuple[Path, Path], tmp_path: Path) -> None:
    folder = trip[1].parent
    model = next((folder / "models").rglob("model.bin"))
    model.write_text("others")
    done = subprocess.run([sys.executable, "run.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "is not the file that was packed" in done.stderr and "Traceback" not in done.stderr
    model.unlink()
    done = subprocess.run([sys.executable, "run.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert "is missing: unpack the whole job.zip" in done.stderr


def test_results_that_are_not_the_jobs_are_refused(trip: tuple[Path, Path], make_job: MakeJob, tmp_path: Path) -> None:
    job_zip, result = trip
    assert collect(job_zip, result)["answers"].data["n"] == 5

    def refused(what: str, change: Callable[[dict[str, bytes]], None]) -> None:
        with pytest.raises(DeviceError, match=what) as caught:
            collect(job_zip, rewrite(result, tmp_path / "fake.zip", change))
        assert caught.value.exit_code == Exit.DEVICE and caught.value.where

    def swap(files: dict[str, bytes]) -> None:
        files["jobs/000/result.json"] = json.dumps({"n": 5, "outputs": []}).encode()

    def about(**changes: Any) -> Callable[[dict[str, bytes]], None]:
        return lambda files: files.update({BACK: json.dumps({**json.loads(files[BACK]), **changes}).encode()})

    refused("is not the file that was written there", swap)
    refused("is the result of another job", about(id="0" * 32))
    refused("is the result of another job", about(plan="0" * 64))
    refused("it lacks the job 'answers'", about(codes={}))
    refused("cannot be read", about(files=[]))
    refused("has no id", about(id="../.."))
    refused("is not a result", lambda files: files.pop(BACK))
    refused("is not a whole result", lambda files: files.pop("jobs/000/result.json"))
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(DeviceError, match="is not a result"):
        collect(job_zip, tmp_path / "no.zip")
    pack({"answers": make_job()}, tmp_path / "again.zip", {})
    with pytest.raises(DeviceError, match="is the result of another job"):
        collect(tmp_path / "again.zip", result)


def test_a_damaged_archive_an_edited_plan_and_a_missing_file(trip: tuple[Path, Path], tmp_path: Path) -> None:
    job_zip, result = trip
    with zipfile.ZipFile(tmp_path / "squeezed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(BACK, bytes(range(256)) * 9)
    content = bytearray((tmp_path / "squeezed.zip").read_bytes())
    content[60:90] = b"\xff" * 30
    (tmp_path / "squeezed.zip").write_bytes(content)
    with pytest.raises(DeviceError, match="is not a result"):
        collect(job_zip, tmp_path / "squeezed.zip")
    for row in (3, {}, {"name": ["x"], "kind": "describe", "timeout": 1.0, "needs": []}):
        plan = {**json.loads(zipfile.ZipFile(job_zip).read("carried.json")), "jobs": {"jobs/000": row}}
        edited = rewrite(
            job_zip, tmp_path / "edited.zip", lambda files, plan=plan: files.update({"carried.json": json.dumps(plan).encode()})
        )  # fmt: skip
        with pytest.raises(DeviceError, match="a job's row is not one that was packed"):
            collect(edited, result)
    with pytest.raises(RecipeError, match="there is no such file") as caught:
        collect(tmp_path / "nowhere.zip", result)
    assert caught.value.exit_code == Exit.USAGE and "--pack names the packed job" in caught.value.hint


def test_an_archive_that_unpacks_to_too_much_is_stopped_early(
    trip: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeft.device.carried.LIMITS", {"result.json": 1 << 16})
    bomb = b"0" * (1 << 22)
    fake = rewrite(trip[1], tmp_path / "fake.zip", lambda files: files.update({"jobs/000/result.json": bomb}))
    with pytest.raises(DeviceError, match="unpacks to more than") as caught:
        collect(trip[0], fake)
    assert caught.value.where == str(fake)


def test_nothing_is_written_outside(trip: tuple[Path, Path], tmp_path: Path) -> None:
    """Names in the archive never become paths: only the expected ones are ever asked for."""
    before = sorted(tmp_path.iterdir())
    fake = rewrite(
        trip[1], tmp_path / "there" / "fake.zip", lambda files: files.update({"../../owned": b"x", "/owned": b"x"})
    )
    assert isinstance(collect(trip[0], fake), CarriedResults)
    assert sorted(tmp_path.iterdir()) == before and not Path("/owned").exists()


def test_running_there_from_here_is_refused(make_job: MakeJob) -> None:
    with pytest.raises(DeviceError, match="only by carrying a job there") as caught:
        run_job(Device(name="clinic", transport="carried"), make_job())
    assert "--device clinic.yaml --pack" in caught.value.hint and "--collect" in caught.value.hint
    with pytest.raises(DeviceError) as caught:
        run_job(load_device("windows-clinic-pc"), make_job())
    assert "--device windows-clinic-pc --pack" in caught.value.hint
