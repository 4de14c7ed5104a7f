"""`python -m bench`: what runs without being named, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import __main__ as bench
from bench.build import Built
from bench.crash import count_trials
from bench.matrix import count_seconds
from bench.prune_images import FRONTS, write
from edgeft.recipe.load import load_recipe


def test_what_writes_gigabytes_runs_only_where_it_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(bench, "NAMES", {name: lambda name=name: ran.append(name) for name in bench.NAMES})
    assert bench.main([]) == 0
    assert "medical-stream" not in ran and len(ran) == len(bench.NAMES) - len(bench.ON_PURPOSE)
    assert "medical-stream: skipped, it writes 10 GB" in capsys.readouterr().out
    assert bench.main(["medical-stream"]) == 0 and ran[-1] == "medical-stream"
    assert bench.main(["medical-streams"]) == 2 and "there are: startup" in capsys.readouterr().err


def test_the_matrix_counts_the_steps_that_were_measured_again() -> None:
    steps = [("local-cpu/onnx/float/latency", "ran", 11.5), ("local-cpu/litert/float/latency", "ran", 12.0),
             ("local-cpu/onnx/float/operators", "ran", 2.0), ("local-cpu/probe", "cached", 9.0),
             ("local-cpu/onnx/float", "ran", 30.0)]  # fmt: skip
    rows = [{"id": id, "state": state, "seconds": seconds} for id, state, seconds in steps]
    assert count_seconds(Built({"steps": rows}, {})) == {"latency": 23.5, "operators": 2.0, "probe": 0.0}


@pytest.mark.parametrize(
    ("answers", "code"), [([None], 0), ([True], 0), ([0], 0), ([False], 1), ([1], 1), ([False, True], 1)], ids=str
)
def test_a_bench_that_fails_ends_in_an_error_after_the_others_ran(
    answers: list[object], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[int] = []

    def make(place: int) -> object:
        return lambda: ran.append(place) or answers[place]

    monkeypatch.setattr(bench, "NAMES", {f"b{place}": make(place) for place in range(len(answers))})
    assert bench.main([f"b{place}" for place in range(len(answers))]) == code
    assert len(ran) == len(answers) and ("b0: failed" in capsys.readouterr().err) == bool(code)


def test_the_crash_bench_kills_two_hundred_times_and_does_the_rest_in_proportion() -> None:
    assert count_trials(200) == {"kill": 200, "term": 33, "damage": 67, "disk": 17, "device": 17}


@pytest.mark.parametrize("task", list(FRONTS))
def test_pruned_and_unpruned_share_all_but_the_pruning(task: str, tmp_path: Path) -> None:
    """One training for both, and equal accuracy at the margin that the recipe states."""
    front = FRONTS[task]
    whole, thin = (
        load_recipe(write(tmp_path / f"{pruned}.yaml", front, front.recipe, pruned=pruned)).recipe
        for pruned in (False, True)
    )
    assert whole.steps == thin.steps[:1] and [step.name for step in thin.steps[1:]].count("prune") >= 1
    assert (whole.data, whole.model, whole.seed, whole.targets) == (thin.data, thin.model, thin.seed, thin.targets)
    stated = [gate for gate in load_recipe(front.recipe).recipe.gates if gate.no_worse_than == "source"]
    assert stated and list(whole.gates) == list(thin.gates) == stated
