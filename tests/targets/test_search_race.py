"""Promises on what a search spends: few cases rank, nothing is run twice, what cannot win is not scored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

from edgeft.exporter import Variant
from edgeft.targets.search.asking import Answer, Ask, Settings, spaced
from edgeft.targets.search.ladder import TRIES
from edgeft.targets.search.search import Search
from tests.targets.search_oracle import Oracle, run

LADDER = [
    Variant(f"int8-static-{index}", {"mode": "static", "factor": factor})
    for index, factor in enumerate((3.0, 1.0, 5.0, 2.0, 0.5))
]


def asked(search: Search, purpose: str) -> list[tuple[int, str]]:
    """(cases, variant) of each question asked for that purpose."""
    return [(done.ask.cases, done.ask.variant.name) for done in search.evaluations if done.ask.purpose == purpose]


def test_where_the_ladder_is_clear_a_first_look_decides_and_nothing_is_run_twice() -> None:
    search = run(Oracle({"layer0": 0.1}, {"layer0": 1.0}, limit=0.2), *LADDER)
    assert asked(search, "ladder") == [(4, f"int8-static-{index}") for index in (1, 2, 3, 4)], "the first was scored"
    assert [name for _, name in asked(search, "finalist")] == ["int8-static-0", "int8-static-4"]


@dataclass
class Noisy(Oracle):
    """Single cases tell a tenth of the damage to twice as much: few of them do not tell close variants apart."""

    chance: float | None = None

    def answer(self, ask: Ask) -> Answer:
        answer = super().answer(ask)
        if not answer.each:
            return answer
        each = {
            case: lost * Random(f"{ask.variant.name} {case}").uniform(0.1, 1.9) for case, lost in answer.each.items()
        }
        return replace(answer, each=each, chance=self.chance if answer.slack is not None and answer.slack < 0 else None)


def close(count: int) -> list[Variant]:
    return [Variant(f"close-{index}", {"mode": "static", "factor": 3.0 + index / 100}) for index in range(count)]


def test_what_a_first_look_leaves_open_is_looked_at_closer_by_the_better_half() -> None:
    search = run(Noisy({"layer0": 0.1}, {"layer0": 1.0}, limit=0.2), *close(5))
    rounds = [cases for cases, _ in asked(search, "ladder")]
    assert rounds[:4] == [4] * 4 and set(rounds[4:]) == {16} and 1 <= len(rounds[4:]) <= 3


def test_after_a_narrow_failure_others_get_a_turn_but_no_more_than_three_are_scored() -> None:
    oracle = Noisy({"layer0": 0.1}, {"layer0": 0.0}, limit=0.2, chance=0.4)
    assert len(asked(run(oracle, *close(6)), "finalist")) == TRIES
    oracle.chance = 0.01
    assert len(asked(run(oracle, *close(6)), "finalist")) <= 2, "a plain failure: only the best of the race"


def test_a_variant_that_answers_as_another_does_is_not_scored() -> None:
    oracle = Noisy({"layer0": 0.1}, {"layer0": 0.0}, limit=0.2, chance=0.4)
    twins = [Variant("twin", {"mode": "static", "factor": 3.0, "form": index}) for index in range(3)]
    assert len(asked(run(oracle, *twins), "finalist")) == 1


def test_what_diverges_no_less_than_what_failed_is_not_scored() -> None:
    """Nothing passes, and layers 4 to 11 change nothing: leaving them in float too is looked at, and never scored."""
    damage = {f"layer{index}": 1.0 if index < 4 else 0.0 for index in range(12)}
    search = run(Oracle(damage, dict.fromkeys(damage, 0.1), limit=-1.0))
    scored = [done for done in search.evaluations if done.ask.purpose in ("prefix", "backward")]
    assert [len(done.ask.variant.keep_float) for done in scored] == [1, 3, 7] and search.best is None


def test_scores_look_at_a_part_first_and_few_cases_lie_within_many() -> None:
    search = run(Oracle({"layer0": 0.1, "layer1": 1.0}, {"layer0": 1.0, "layer1": 1.0}, limit=0.2))
    parts = {done.ask.purpose: done.ask.part for done in search.evaluations}
    assert parts["prefix"] == 16 and parts["finalist"] == 0, "the first of a family is timed, and so run in full"
    for cases, first in ((45, 11), (586, 32), (64, 16), (33, 32), (20, 32), (7, 4)):
        sizes = Settings(cases, first)
        chain = [sizes.glance, sizes.few, *([sizes.part] if sizes.part >= sizes.few else []), cases]
        for few, many in pairwise(chain):
            assert set(spaced(cases, few)) <= set(spaced(cases, many)), (cases, first, few, many)
