"""Promises of the search, held against a synthetic oracle: layers with a known damage and cost, nothing is run."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeft.exporter import Variant
from edgeft.targets.search.asking import Answer, Ask, Branch, Budget, Evaluation, Noise, Settings, keep
from edgeft.targets.search.mix import by_gain
from edgeft.targets.search.search import Search, bound
from tests.targets.search_oracle import CASES, STATIC, Oracle, run

amounts = st.lists(
    st.tuples(st.floats(0, 1, allow_subnormal=False), st.floats(0.01, 1, allow_subnormal=False)),
    min_size=1,
    max_size=24,
)


def oracle_of(pairs: list[tuple[float, float]], share: float) -> Oracle:
    damage = {f"layer{index}": lost for index, (lost, _) in enumerate(pairs)}
    cost = {f"layer{index}": price for index, (_, price) in enumerate(pairs)}
    return Oracle(damage, cost, share * sum(damage.values()))


@given(amounts, st.floats(0, 1.2), st.integers(1, 40))
@settings(deadline=None)
def test_the_budget_is_never_exceeded_and_what_passed_is_returned(
    pairs: list[tuple[float, float]], share: float, most: int
) -> None:
    oracle = oracle_of(pairs, share)
    search = run(oracle, most=most)
    assert len(search.evaluations) <= most
    passing = [done for done in search.evaluations if done.passes and search.worth(done)]
    assert (search.best is not None) == bool(passing)
    if search.best is not None:
        assert search.best.cost == min(done.cost for done in passing)
    if len(search.evaluations) == most and search.stopped:
        assert f"{most} evaluations" in search.stopped


@given(amounts, st.floats(0, 1))
@settings(deadline=None)
def test_the_prefix_is_the_shortest_that_passes_when_gains_are_monotone(
    pairs: list[tuple[float, float]], share: float
) -> None:
    """And the backward pass leaves no layer in float whose compression alone would still pass."""
    oracle = oracle_of(pairs, share)
    search = run(oracle)
    order = [done for done in search.evaluations if done.ask.purpose == "prefix"]
    if search.best is None or not order:
        return
    passing = [done.ask.variant.keep_float for done in order if done.passes]
    longest = max((done.ask.variant.keep_float for done in order if not done.passes), key=len, default=frozenset())
    if passing:
        assert longest < min(passing, key=len)
    kept = min((d for d in search.evaluations if d.passes), key=lambda d: len(d.ask.variant.keep_float))
    for layer in kept.ask.variant.keep_float:
        without = keep(STATIC, kept.ask.variant.keep_float - {layer})
        assert not oracle.answer(Ask("prefix", "onnx", without, CASES)).slack >= 0  # type: ignore[operator]


@given(amounts, st.floats(0.05, 1))
@settings(deadline=None)
def test_where_a_mix_passes_one_is_found(pairs: list[tuple[float, float]], share: float) -> None:
    """All layers in float lose nothing; where one of them may be compressed, the search ends in a mix."""
    oracle = oracle_of(pairs, share)
    search = run(oracle)
    assert (search.best is not None) == (min(oracle.damage.values()) <= oracle.limit)


@given(amounts, st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_the_same_answers_give_the_same_questions(pairs: list[tuple[float, float]], share: float) -> None:
    first, second = (run(oracle_of(pairs, share)) for _ in range(2))
    assert [done.ask for done in first.evaluations] == [done.ask for done in second.evaluations]


def test_a_few_outlier_layers_are_found_in_few_evaluations() -> None:
    damage = {f"layer{index}": 0.001 for index in range(74)} | {"layer17": 0.6, "layer52": 0.3}
    oracle = Oracle(damage, dict.fromkeys(damage, 0.1), limit=0.1)
    search = run(oracle)
    assert search.best is not None
    assert search.best.ask.variant.keep_float == {"layer17", "layer52"}
    assert search.best.cost == pytest.approx(1.2)
    assert len(search.evaluations) <= 16, [done.ask.purpose for done in search.evaluations]


def test_gain_per_cost_decides_not_gain_alone() -> None:
    """Two layers each cure the net: the cheap one is kept in float though the dear one takes more of the damage away."""
    damage = {"layer0": 0.4, "layer1": 0.45, "layer2": 0.05}
    oracle = Oracle(damage, {"layer0": 0.1, "layer1": 2.0, "layer2": 0.1}, limit=0.55)
    search = run(oracle)
    assert search.best is not None and search.best.ask.variant.keep_float == {"layer0"}


def test_a_layer_that_seems_to_cost_nothing_does_not_come_before_one_that_takes_the_damage_away() -> None:
    """Costs below a tenth of their mean are not told apart: there the gain alone decides."""
    noise = {"culprit": Noise(1.0, 1.0), "free": Noise(1.0, 1e-6), "cheap": Noise(1.0, 0.5)}
    gains = {"culprit": 1.0, "free": 0.01, "cheap": 0.4}
    assert by_gain(list(noise), gains, noise) == ["culprit", "cheap", "free"]


def test_a_broken_variant_is_dropped_in_the_first_round() -> None:
    ladder = [Variant(name, {"mode": "static", "form": name, "factor": 9}) for name in ("a", "b", "c", "d")]
    oracle = Oracle({"layer0": 0.1}, {"layer0": 1.0}, limit=0.5, broken=frozenset({"b", "c", "d"}))
    search = run(oracle, *ladder)
    asked = [done.ask.variant.name for done in search.evaluations if done.ask.purpose == "ladder" and done.rank == inf]
    assert asked == ["b", "c", "d"], "each once: what failed is not asked for again on more cases"


def test_nothing_is_mixed_where_a_cheap_variant_passes() -> None:
    oracle = Oracle({"layer0": 0.1}, {"layer0": 1.0}, limit=0.2)
    search = run(oracle)
    assert [done.ask.purpose for done in search.evaluations] == ["finalist"]
    assert search.best is not None and search.best.ask.variant == STATIC


def test_a_cheaper_failing_variant_is_repaired_though_a_slow_one_passes() -> None:
    forms = {"static": (1.0, 1.0), "weights": (0.0, 3.0)}
    oracle = Oracle({"layer0": 1.0, "layer1": 0.0}, {"layer0": 0.5, "layer1": 3.0}, 0.1, forms)
    search = run(oracle, STATIC, Variant("int8-weights", {"mode": "weights"}))
    assert search.best is not None
    assert search.best.ask.variant.keep_float == {"layer0"} and search.best.cost == pytest.approx(1.5)


def test_where_the_first_of_a_family_passes_the_others_are_not_asked_for() -> None:
    ladder = [Variant(f"v{index}", {"mode": "static", "factor": index}) for index in range(1, 6)]
    search = run(Oracle({"layer0": 0.1}, {"layer0": 1.0}, limit=0.2), *ladder)
    assert [done.ask.variant.name for done in search.evaluations] == ["v1"]


def test_a_repair_is_tried_before_a_layer_goes_to_float() -> None:
    fixed = Variant("int8-static-per-channel", {"mode": "static", "factor": 0.01}, needs_calibration=True)
    oracle = Oracle({"layer0": 1.0, "layer1": 1.0}, {"layer0": 0.5, "layer1": 0.5}, limit=0.1)
    search = run(oracle, repairs=lambda variant: (fixed,))
    assert [done.ask.purpose for done in search.evaluations] == ["finalist", "look", "repair"]
    assert search.best is not None and search.best.estimated, "a repair is timed only once it is proposed"
    assert search.best is not None and search.best.ask.variant == fixed


@pytest.mark.parametrize("bad", ["broken", "nan_scores"])
def test_a_variant_that_fails_or_answers_nan_is_a_row_not_a_crash(bad: str) -> None:
    ladder = [Variant(name, {"mode": "static", "form": name}) for name in ("a", "b", "c")]
    oracle = Oracle({"layer0": 0.1}, {"layer0": 1.0}, limit=1.0, **{bad: frozenset({"a", "b"})})  # type: ignore[arg-type]
    search = run(oracle, *ladder)
    assert search.best is not None and search.best.ask.variant.name == "c"
    assert {done.ask.variant.name for done in search.evaluations if done.rank == inf} == {"a", "b"}


def test_where_every_variant_fails_there_is_no_best() -> None:
    oracle = Oracle({"layer0": 0.1}, {"layer0": 1.0}, 1.0, broken=frozenset({"int8-static"}))
    search = run(oracle)
    assert search.best is None and len(search.evaluations) == 1


def test_what_is_not_cheaper_than_float_is_not_taken() -> None:
    oracle = Oracle({"layer0": 0.0}, {"layer0": 1.0}, 1.0, forms={"static": (1.0, 9.0)})
    search = run(oracle)
    assert search.evaluations[0].passes and search.best is None


def test_minutes_count_as_the_answers_state_them() -> None:
    oracle = oracle_of([(1.0, 0.1)] * 20, 0.3)
    oracle.seconds = 30.0
    search = run(oracle, minutes=2)
    assert len(search.evaluations) == 4 and "2 minutes" in search.stopped


def test_an_answer_without_a_question_is_refused() -> None:
    search = run(Oracle({"layer0": 0.1}, {"layer0": 1.0}, limit=0.2))
    with pytest.raises(ValueError, match="no question"):
        search.tell(Answer())


def test_the_stated_bound_holds() -> None:
    ladder = tuple(Variant(f"v{index}", {"mode": "static", "factor": 9 - index}) for index in range(7))
    branch = Branch("onnx", ladder, float_cost=10.0)
    most = bound([branch], Settings(CASES, first=16, budget=Budget(500)))
    oracle = Oracle({"layer0": 0.1}, {"layer0": 1.0}, limit=0.0)
    search = Search([branch], Settings(CASES, first=16, budget=Budget(500)))
    done: list[Evaluation] = []
    while (ask := search.ask()) is not None:
        done.append(search.tell(oracle.answer(ask)))
    assert len(done) <= most < 20
    assert bound([branch], Settings(CASES, budget=Budget(5))) == 5


def test_a_mix_is_named_by_what_it_keeps() -> None:
    one, other = keep(STATIC, frozenset({"a"})), keep(STATIC, frozenset({"b"}))
    assert one.name != other.name and one.name.startswith("int8-static-mixed-")
    assert keep(one, frozenset({"b"})) == keep(other, frozenset({"a"}))
    assert keep(one, frozenset({"a"})) == one


def test_a_repair_that_computes_otherwise_is_timed_and_left_where_it_is_slower_than_float() -> None:
    other = Variant("int8-static-bias-corrected", {"mode": "nncf"}, needs_calibration=True)
    forms = {"static": (1.0, 1.0), "nncf": (0.0, 99.0)}
    oracle = Oracle({"layer0": 1.0, "layer1": 0.0}, {"layer0": 0.5, "layer1": 0.5}, 0.1, forms)
    search = run(oracle, repairs=lambda variant: (other,))
    repair = next(done for done in search.evaluations if done.ask.purpose == "repair")
    assert repair.passes and not repair.estimated and repair.cost == 99.0
    assert search.best is not None and search.best.ask.variant.keep_float == {"layer0"}
    assert search.best.ask.variant.options == STATIC.options
