"""Answers from a device that is broken, or hostile: refused in a sentence, never a traceback."""

from __future__ import annotations

from typing import Any

import pytest

from edgeft.errors import DeviceError
from edgeft.targets.answers import Compared, Operators, Rate, Timed, check
from tests.targets.test_latency import timed


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Timed, {}),
        (Timed, timed() | {"blocks": []}),
        (Timed, timed() | {"blocks": [{"ms": [float("nan")], "void": False, "seconds": 1, "cpu": 1}]}),
        (Timed, timed() | {"blocks": [{"ms": [-1.0], "void": False, "seconds": 1, "cpu": 1}]}),
        (Timed, timed() | {"sentinel_ms": "fast"}),
        (Compared, {"blocks": [[[1.0], []]], "void": [], "throttled": False}),
        (Operators, {"placement": {}, "operators": [{"name": "a", "op": "b", "ms": "soon"}]}),
        (Operators, {"placement": {"CPU": -1}, "operators": []}),
        (Rate, {"gops": 0}),
    ],
)
def test_wrong_answers_are_the_devices_fault(kind: Any, data: dict[str, Any]) -> None:
    with pytest.raises(DeviceError, match="the device's answer is not a"):
        check(kind, data)


def test_a_right_answer_passes() -> None:
    assert len(check(Timed, timed()).blocks) == 24
