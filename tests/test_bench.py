"""`python -m bench`: what runs without being named."""

from __future__ import annotations

import pytest

from bench import __main__ as bench
from bench.build import Built
from bench.matrix import count_seconds


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
