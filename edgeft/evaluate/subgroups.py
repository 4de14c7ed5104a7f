"""A gate with `by`: it holds where it holds in the whole and in every subgroup, each decided by itself.

That is an intersection-union test (Berger 1982, Technometrics 24): to reject "some subgroup is worse than the limit"
every part must be rejected, so each is tested at the full confidence and nothing is corrected for their number. The
worst subgroup decides; a small one that shows nothing leaves the gate INCONCLUSIVE, and none is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any

from edgeft.data.rows import MISSING
from edgeft.evaluate.custom import CustomValues
from edgeft.gate import Gate, Verdict
from edgeft.task import Score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]

MAX_SUBGROUPS = 50
"""A column of more values than this in the gate set is no subgroup but an identity."""
RANKS = {"FAIL": 0, "INCONCLUSIVE": 1, "PASS": 2}


@dataclass(frozen=True)
class Cases:
    """What a data gate is decided on: n cases in one order."""

    artefact: Score
    source: Score | None
    units: NDArray[Any]
    truth: Indices | None = None
    custom: CustomValues | None = None

    def take(self, index: Indices) -> Cases:
        """The cases at these places."""
        return Cases(
            take_cases(self.artefact, index),
            take_cases(self.source, index) if self.source is not None else None,
            self.units[index],
            self.truth[index] if self.truth is not None else None,
            _take_values(self.custom, index) if self.custom is not None else None,
        )


def decide_each(
    gate: Gate, target: str, cases: Cases, groups: NDArray[Any], decide: Callable[[Gate, str, Cases], Verdict]
) -> Verdict:
    """The verdict over the whole and every value in `groups` (n,), with all of them in `parts`.

    Its numbers are those of the part that decides: the worst status, and among equals the least room to the limit.
    """
    if len(groups) != len(cases.units):
        raise ValueError(f"arrays of different cases: {[len(cases.units), len(groups)]}")
    found = list(split_cases(groups))
    if len(found) > MAX_SUBGROUPS:
        why = f"the column '{gate.by}' has {len(found)} values, at most {MAX_SUBGROUPS} can be subgroups"
        return gate.answer(target, "INCONCLUSIVE", why)
    plain = gate.model_copy(update={"by": None})
    parts = [decide(plain, target, cases)]
    parts += [replace(decide(plain, target, cases.take(index)), subgroup=name) for name, index in found]
    worst = min(parts, key=lambda part: (RANKS[part.status], _room(gate, part)))
    return replace(worst, gate=gate.describe(), why=_explain(gate, worst, parts), parts=tuple(parts))


def split_cases(groups: NDArray[Any]) -> Iterator[tuple[str, Indices]]:
    """(value, places of its cases) in the order of the values; what has no value comes last."""
    import numpy as np

    names = np.asarray(groups).astype(str)
    for name in sorted(set(names.tolist()), key=lambda text: (text == MISSING, text)):
        yield name, np.flatnonzero(names == name).astype(np.int64)


def take_cases(score: Score, index: Indices) -> Score:
    """The score of some of its cases. Metrics of the whole do not carry over; confusion keeps its shape only."""
    import numpy as np

    def part(array: Any) -> Any:
        return None if array is None else array[index]

    return Score(
        metrics={},
        correct=score.correct[index],
        predictions=score.predictions[index],
        confusion=np.zeros_like(score.confusion),
        cases={name: values[index] for name, values in score.cases.items()},
        labels=score.labels,
        probabilities=part(score.probabilities),
        present=part(score.present),
        called=part(score.called),
        thresholds=score.thresholds,
    )


def _take_values(custom: CustomValues, index: Indices) -> CustomValues:
    def part(values: Any) -> Any:
        return (lambda rows: values(index[rows])) if callable(values) else values[index]

    return CustomValues(part(custom.artefact), None if custom.source is None else part(custom.source))


def _room(gate: Gate, part: Verdict) -> float:
    """From the bound to the limit; negative beyond it. Where nothing could be bounded there is none at all."""
    if part.interval is None or part.limit is None:
        return -inf
    low, high = part.interval
    return low - part.limit if gate.at_least is not None else part.limit - high


def _explain(gate: Gate, worst: Verdict, parts: list[Verdict]) -> str:
    passed = sum(part.status == "PASS" for part in parts if part.subgroup)
    where = f"{gate.by} '{worst.subgroup}'" if worst.subgroup else "the whole"
    told = f"{passed} of {len(parts) - 1} subgroups by {gate.by} pass"
    return f"{'least room in' if worst.status == 'PASS' else 'in'} {where}: {worst.why} ({told})"
