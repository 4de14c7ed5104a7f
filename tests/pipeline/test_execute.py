"""What may stand for a step: results of this machine, made elsewhere, damaged."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeft import plugins
from edgeft.artifact import Artifact, Kind
from edgeft.errors import StepError
from edgeft.exporter import Unsupported
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.follow import _until, rank
from edgeft.pipeline.progress import Quiet
from edgeft.pipeline.spec import Spec
from edgeft.stage import Context
from edgeft.store import Store


def spec_of(makes: Kind, name: str = "made") -> Spec:
    """A step whose key holds the host's instruction set."""

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Mapping[str, Any]:
        (out / "result.txt").write_text("same everywhere")
        return {}

    return Spec(id=name, title=name, name=name, version=1, makes=makes, run=run, host="numeric")


def executor_on(store: Store, pins: Mapping[str, str] | None = None) -> Executor:
    """An executor that says nothing."""
    task = plugins.load("tasks", "text-classification")()
    return Executor(store, "recipe", 0, task, Quiet(io.StringIO()), threads=1, pins=pins or {})


@pytest.mark.parametrize(("makes", "state"), [("torch-model", "cached"), ("outputs", "ran"), ("record", "ran")])
def test_a_model_of_another_machine_stands_but_its_evidence_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, makes: Kind, state: str
) -> None:
    store, spec = Store(tmp_path / "store"), spec_of(makes)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx512")
    there = executor_on(store)
    there.perform(spec)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    here = executor_on(store, {spec.id: there.keys[spec.id]})
    here.perform(spec)
    assert here.rows[spec.id].state == state
    assert store.find(here.keys[spec.id]) is not None, "the key kept is one that has a result, so it can be exported"
    store.close()


def test_a_damaged_result_does_not_stand(tmp_path: Path) -> None:
    store, spec = Store(tmp_path / "store"), spec_of("outputs")
    file = executor_on(store).perform(spec).path / "result.txt"
    file.chmod(0o644)
    file.write_text("damaged in place")
    executor = executor_on(store)
    assert executor.find(spec, *executor.address(spec)) is None
    executor.perform(spec)
    assert executor.rows[spec.id].state == "ran"
    store.close()


def test_other_processes_go_as_far_as_the_first_one() -> None:
    specs = [spec_of("dataset", "data"), spec_of("torch-model", "finetune"), spec_of("torch-model", "merge")]
    assert [spec.id for spec in _until(specs, "data")] == ["data"]
    assert _until(specs, None) == _until(specs, "search") == specs


def test_a_step_that_cannot_be_taken_is_left_out_and_not_called_failed(tmp_path: Path) -> None:
    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Mapping[str, Any]:
        raise Unsupported("no such operator", "Erf")

    store = Store(tmp_path / "store")
    executor = executor_on(store)
    spec = Spec(id="export", title="export", name="export", version=1, makes="onnx", run=run)
    with pytest.raises(Unsupported):
        executor.perform(spec)
    assert executor.current == "export"
    executor.leave_out("Erf: no such operator")
    assert (executor.rows["export"].state, executor.current) == ("skipped", "")
    assert executor.find(spec, *executor.address(spec)) is None, "nothing of it is cached"
    store.close()


def test_an_exit_in_a_step_is_its_failure(tmp_path: Path) -> None:
    """`sys.exit(0)` in what a step calls must not end the build as if every gate had passed."""

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Mapping[str, Any]:
        sys.exit(0)

    store = Store(tmp_path / "store")
    executor = executor_on(store)
    with pytest.raises(StepError, match="step made: SystemExit: 0"):
        executor.perform(Spec(id="made", title="made", name="made", version=1, makes="onnx", run=run))
    assert executor.rows["made"].state == "failed"
    store.close()


def test_a_left_over_rank_of_a_single_process_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert rank() == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert rank() == 1
