"""Whole volumes as a job: windows run and blended where the runtime is, class numbers back, nothing of it trusted."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgeft.artifact import Artifact, Signature, TensorSpec
from edgeft.device.protocol import ArtefactRefused
from edgeft.medical.sliding import Plan, segment
from edgeft.targets import slides
from edgeft.targets.slides import run_slides

RUNTIME = """
import numpy as np
NAME, DISTRIBUTIONS = "fake", ()
def describe(): return {"fake": "1"}
class Session:
    def run(self, feeds):
        x = feeds["own"]
        assert x.shape[0] == 2 and x.dtype == np.uint8, (x.shape, x.dtype)
        values = x[..., 0].astype(np.float32)
        {spoil}
        return {"out": np.stack([np.full_like(values, 100), values, 2 * (values - 90)], 1)}
    def close(self): pass
def load(path, options): return Session()
"""
SIGNATURE = Signature(
    {"pixels": TensorSpec("own", "uint8", (2, 4, 4, 4, 1))}, {"logits": TensorSpec("out", "float32", (2, 3, 4, 4, 4))}
)
PLAN = Plan((4, 4, 4), 0.5, batch=7)


class Device:
    """As much of a device as a job on this machine asks for."""

    name, transport, threads, providers, fallback, affinity = "here", "local", 1, ("cpu",), False, ()
    provider_options: ClassVar[dict[str, Any]] = {}
    how, times_count = "measured", True


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(jobs))
    model = tmp_path / "model.bin"
    model.write_text("weights")

    def ask(cases: list[Any], spoil: str = "pass", tell: Any = lambda *_: None) -> Any:
        runtime = tmp_path / "fake.py"
        runtime.write_text(RUNTIME.replace("{spoil}", spoil))
        monkeypatch.setattr("edgeft.targets.artifact_jobs.runtime_file", lambda name: runtime)
        monkeypatch.setattr(slides, "run_job", lambda device, job, told: _local(job, told))
        wholes = [{"pixels": case[..., None]} for case in cases]
        return run_slides(Device(), "fake", Artifact("onnx", model, "x"), SIGNATURE, wholes, PLAN, tell)  # type: ignore[arg-type]

    return ask


def _local(job: Any, told: Any) -> Any:
    from edgeft.device.local import LocalTransport

    return LocalTransport().run(job, told)


def here(windows: Any) -> Any:
    values = windows[..., 0].astype(np.float32)
    return np.stack([np.full_like(values, 100), values, 2 * (values - 90)], 1)


def test_volumes_of_any_shape_come_back_as_they_are_answered_here(run: Any) -> None:
    random = np.random.default_rng(0)
    cases = [random.integers(0, 255, shape, dtype=np.uint8) for shape in ((9, 5, 4), (2, 6, 7))]
    seen: list[tuple[float, float]] = []
    found = run(cases, tell=lambda *step: seen.append(step))
    for answer, case in zip(found, cases, strict=True):
        expected = segment(case[..., None], PLAN, here)
        assert (answer.classes == expected.classes).all() and len(np.unique(answer.classes)) == 3
        assert np.allclose(answer.mean_logits, expected.mean_logits) and answer.windows == expected.windows
    assert seen[-1] == (2, 2)


def test_other_windows_than_were_asked_for_are_refused(run: Any) -> None:
    with pytest.raises(ArtefactRefused, match="was answered by"):
        run([np.ones((4, 4, 4), np.uint8)], spoil="values = values[:, :2]")


def test_not_a_number_is_told_by_the_mean(run: Any) -> None:
    found = run([np.ones((4, 4, 4), np.uint8)], spoil="values[0, 0, 0, 0] = np.nan")
    assert np.isnan(found[0].mean_logits[1])


def test_a_result_that_does_not_fit_is_refused(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeft.device.protocol import Result

    good = {"mean_logits": [[0.0, 1.0]], "skipped": [0]}
    for arrays, data in (
        ({"0": np.zeros((4, 4, 5), np.uint8)}, good),
        ({"0": np.zeros((4, 4, 4), np.int64)}, good),
        ({"0": np.full((4, 4, 4), 2, np.uint8)}, good),
        ({}, good),
        ({"0": np.zeros((4, 4, 4), np.uint8)}, {"mean_logits": [], "skipped": []}),
        ({"0": np.zeros((4, 4, 4), np.uint8)}, {"mean_logits": ["x"], "skipped": [0]}),
    ):
        monkeypatch.setattr("tests.device.test_slide._local", lambda job, told, a=arrays, d=data: Result(d, a))
        with pytest.raises(ArtefactRefused, match="do not fit"):
            run([np.ones((4, 4, 4), np.uint8)])
