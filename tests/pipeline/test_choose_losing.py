"""The build's own choice among the small ladder: what loses too much in too many cases is passed over for the next."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from edgeft.device.profile import Device
from edgeft.gate import Gate
from edgeft.pipeline.judging.choosing import choose_artefacts
from edgeft.record import CandidateRow
from tests.pipeline.test_likely import LOSING, dice


def trial(name: str, size: int, values: Any) -> Any:
    """A candidate that ran: its bytes, and its Dice per search case against a source of 0.8 each."""
    row = CandidateRow(name=name, exporter="onnx", runtime="onnxruntime", variant={"name": name}, status="eligible",
                       why="", bytes=size)  # fmt: skip
    return SimpleNamespace(row=row, score=dice(values), baselines={None: dice(np.full(100, 0.8))}, unlikely=None)


def chosen(gates: list[Gate]) -> tuple[str, str]:
    """(what is chosen, why the smallest is not) of two candidates, the smaller of which loses 0.2 in 10 of 100 cases."""
    hurt = np.full(100, 0.83)
    hurt[:10] = 0.6
    trials = [trial("onnx/int8-static", 10, hurt), trial("onnx/int8-dynamic", 20, np.full(100, 0.8))]
    recipe = SimpleNamespace(
        targets=[SimpleNamespace(optimise="size", searches=False)],
        gates=gates,
        steps=[],
        model=SimpleNamespace(onnx=None),
    )
    plan: Any = SimpleNamespace(loaded=SimpleNamespace(recipe=recipe), devices={"here": Device(name="here")})
    return choose_artefacts(plan, {"here": trials}).chosen["here"].row.name, trials[0].row.why


def test_the_smallest_is_passed_over_where_single_cases_lose_too_much() -> None:
    name, why = chosen([LOSING])
    assert name == "onnx/int8-dynamic" and why.startswith("10.0% of the search cases lose more than 0.1")
    assert chosen([])[0] == "onnx/int8-static", "without that gate it is the smallest that is taken"
