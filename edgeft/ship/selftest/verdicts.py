"""Gates on made cases whose verdict can be worked out by hand, and the exit codes they lead to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeft.errors import Exit, worst
from edgeft.ship.selftest.items import Item, same

if TYPE_CHECKING:
    from edgeft.gate import Verdict

GROUP = "Gates and exit codes"


def items() -> Iterator[Item]:
    """In the order of the report."""
    rows = [
        (
            "No case of 1,000 lost, margin 0.01",
            "by hand: at most 1 - 0.025^(1/1000) = 0.37% lost",
            _pass,
        ),
        ("100 cases of 1,000 lost, margin 0.01", "10% lost; its lower bound of 7.8% lies above the margin", _fail),
        ("No case of 100 lost, margin 0.01", "by hand: up to 1 - 0.025^(1/100) = 3.6% may be lost", _few),
        ("Size of exactly the limit, and a byte more", "7 MB at most 7 MB; 7.000001 MB", _size),
        ("A latency that was emulated", "says nothing about the device", _emulated),
        ("Latency on its interval, not its value", "5.9 (5.5 to 6.3) ms at most 6 ms", _latency),
        ("Exit codes in order", "130 > 2 > 3 > 4 > 1 > 5 > 0", _order),
    ]
    return (Item(GROUP, name, source, ask) for name, source, ask in rows)


def _pass() -> str:
    return _outcome(_accuracy(1000, 0), "PASS", Exit.OK)


def _fail() -> str:
    return _outcome(_accuracy(1000, 100), "FAIL", Exit.GATE_FAILED)


def _few() -> str:
    return _outcome(_accuracy(100, 0), "INCONCLUSIVE", Exit.INCONCLUSIVE)


def _accuracy(n: int, lost: int) -> Verdict:
    """Non-inferiority of accuracy, the source right on every case, the artefact wrong on the first `lost`."""
    import numpy as np

    from edgeft.evaluate.gates import decide_data_gate
    from edgeft.gate import Gate
    from edgeft.task import Score

    truth = np.arange(n) % 2
    ours = np.where(np.arange(n) < lost, 1 - truth, truth)
    scores = []
    for answers in (ours, truth):
        confusion = np.zeros((2, 2), dtype=np.int64)
        np.add.at(confusion, (truth, answers), 1)
        right = answers == truth
        scores.append(Score({"accuracy": float(right.mean())}, right, answers, confusion))
    gate = Gate(
        metric="accuracy", no_worse_than="source", margin=0.01, owner="self-test", justification="a known answer"
    )  # fmt: skip
    return decide_data_gate(gate, "here", scores[0], scores[1], np.arange(n), truth=truth)


def _size() -> str:
    _outcome(_resource("artifact_mb", 7.0, None, 7.0), "PASS", Exit.OK)
    return _outcome(_resource("artifact_mb", 7.000001, None, 7.0), "FAIL", Exit.GATE_FAILED)


def _emulated() -> str:
    verdict = _resource("latency_p50_ms", 1.0, (0.9, 1.1), 6.0, how="emulated")
    return _outcome(verdict, "INCONCLUSIVE", Exit.INCONCLUSIVE)


def _latency() -> str:
    _outcome(_resource("latency_p50_ms", 5.9, (5.5, 6.0), 6.0), "PASS", Exit.OK)
    _outcome(_resource("latency_p50_ms", 6.5, (6.1, 6.9), 6.0), "FAIL", Exit.GATE_FAILED)
    return _outcome(_resource("latency_p50_ms", 5.9, (5.5, 6.3), 6.0), "INCONCLUSIVE", Exit.INCONCLUSIVE)


def _resource(
    metric: str, value: float, interval: tuple[float, float] | None, limit: float, how: str = "measured"
) -> Verdict:
    from edgeft.evaluate.gates import decide_resource_gate
    from edgeft.gate import Gate
    from edgeft.measurement import Measurement

    unit = "MB" if metric.endswith("_mb") else "ms"
    row = {"metric": metric, "value": value, "unit": unit, "n": 64, "how": how, "where": "here", "interval": interval}
    return decide_resource_gate(Gate(metric=metric, at_most=limit), "here", Measurement.from_json(row))


def _outcome(verdict: Verdict, status: str, code: Exit) -> str:
    from edgeft.evaluate.gates import overall

    found = overall([verdict])
    same((status, status, int(code)), (str(verdict.status), str(found[0]), int(found[1])))
    return f"{status}, exit code {int(code)}: {verdict.why}"


def _order() -> str:
    left = [Exit.OK, Exit.INCONCLUSIVE, Exit.GATE_FAILED, Exit.DEVICE, Exit.STEP_FAILED, Exit.USAGE, Exit.INTERRUPTED]
    order = [int(worst(*left[: end + 1])) for end in range(len(left))]
    return same([0, 5, 1, 4, 3, 2, 130], order).strip("[]")
