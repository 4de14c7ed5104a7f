"""Only PASS ships, and only evidence makes a PASS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeft.errors import Exit, RecipeError, StepError
from edgeft.evaluate.custom import CustomValues
from edgeft.evaluate.flips import flips
from edgeft.evaluate.gates import decide_data_gate, decide_resource_gate, needed_at_best, overall
from edgeft.gate import Gate, Verdict
from edgeft.measurement import Measurement
from edgeft.task import Score
from tests.evaluate.gate_builders import flipped, score_of

NO_WORSE = Gate(metric="accuracy", no_worse_than="source", margin=0.02)
P90 = Gate(metric="latency_p90_ms", at_most=6)


def decide(gate: Gate, n: int, lost: int, gained: int, rows_per_unit: int = 1) -> Verdict:
    truth, source, artefact = flipped(n, lost, gained)
    return decide_data_gate(gate, "local-cpu", artefact, source, np.arange(n) // rows_per_unit, truth=truth)


def latency(value: float, interval: tuple[float, float] | None, **changes: object) -> Measurement:
    plain = Measurement("latency_p90_ms", value, "ms", 1024, "measured", "local-cpu", interval)
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_few_flips_pass_and_the_sentence_has_every_number() -> None:
    verdict = decide(NO_WORSE, 1480, 14, 10)
    assert verdict.status == "PASS"
    assert verdict.why == (
        "accuracy 89.7% against 90.0% of the source on 1,480 cases: 14 lost, 10 gained; "
        "with 95% confidence at most 0.9 points worse (margin 2.0)"
    )
    assert verdict.value == pytest.approx(4 / 1480)
    assert verdict.interval is not None
    assert verdict.interval[1] <= 0.02 == verdict.limit


def test_many_flips_fail_and_something_between_is_inconclusive() -> None:
    failed, between = decide(NO_WORSE, 1480, 90, 5), decide(NO_WORSE, 1480, 30, 8)
    assert (failed.status, between.status) == ("FAIL", "INCONCLUSIVE")
    assert "at least" in failed.why
    assert between.needed_n is not None
    assert f"{between.needed_n:,} cases" in between.why


def test_needed_n_is_honest() -> None:
    """The same flip rates on the needed number of cases pass; on three quarters of it they do not (steps of 200
    cases, so that 1% lost and 0.5% gained are whole cases)."""
    needed = decide(NO_WORSE, 200, 2, 1).needed_n
    assert needed is not None
    enough, short = -(-needed // 200) * 200, int(needed * 0.75) // 200 * 200
    assert decide(NO_WORSE, enough, enough // 100, enough // 200).status == "PASS"
    assert decide(NO_WORSE, short, short // 100, short // 200).status == "INCONCLUSIVE"


def test_equal_models_on_too_few_cases_are_not_a_pass() -> None:
    verdict = decide(NO_WORSE, 148, 0, 0)
    assert verdict.status == "INCONCLUSIVE"
    assert verdict.needed_n == 149
    assert decide(NO_WORSE, 149, 0, 0).status == "PASS"
    pairs = decide(NO_WORSE, 182 * 2, 0, 0, rows_per_unit=2)
    assert pairs.status == "INCONCLUSIVE" and decide(NO_WORSE, 183 * 2, 0, 0, rows_per_unit=2).status == "PASS"


def test_units_count_not_rows() -> None:
    """No flip in 2,000 rows: a pass if each is a unit, not if they are 20 patients."""
    assert decide(NO_WORSE, 2000, 0, 0).status == "PASS"
    clustered = decide(NO_WORSE, 2000, 0, 0, rows_per_unit=100)
    assert clustered.status == "INCONCLUSIVE"
    assert "2,000 cases in 20 units" in clustered.why


def test_gains_offset_losses() -> None:
    assert decide(NO_WORSE, 1480, 30, 30).status != "FAIL"
    better = decide(Gate(metric="accuracy", no_worse_than="source", margin=0.0), 1480, 0, 60)
    assert better.status == "PASS"
    assert "better" in better.why


@pytest.mark.parametrize(("at_least", "status"), [(0.85, "PASS"), (0.89, "INCONCLUSIVE"), (0.95, "FAIL")])
def test_absolute_accuracy_is_decided_on_the_bound(at_least: float, status: str) -> None:
    assert decide(Gate(metric="accuracy", at_least=at_least), 1000, 0, 0).status == status


def test_macro_f1_needs_the_truth_and_fails_closed_without() -> None:
    gate = Gate(metric="macro_f1", no_worse_than="source", margin=0.03)
    truth, source, artefact = flipped(800, 4, 3)
    units = np.arange(800)
    assert decide_data_gate(gate, "t", artefact, source, units, truth=truth).status == "PASS"
    verdict = decide_data_gate(gate, "t", artefact, source, units)
    assert verdict.status == "INCONCLUSIVE"
    assert "labels were not given" in verdict.why
    assert decide_data_gate(gate, "t", artefact, source, units, truth=truth).method.startswith("approximate")


def test_a_rare_class_lost_shows_in_macro_f1_and_hardly_in_accuracy() -> None:
    truth = np.where(np.arange(1000) < 20, 1, 0)
    source, artefact = score_of(truth, truth, 2), score_of(truth, np.zeros(1000, dtype=np.int64), 2)
    macro = Gate(metric="macro_f1", no_worse_than="source", margin=0.1)
    assert decide_data_gate(macro, "t", artefact, source, np.arange(1000), truth=truth).status == "FAIL"
    loose = Gate(metric="accuracy", no_worse_than="source", margin=0.1)
    assert decide_data_gate(loose, "t", artefact, source, np.arange(1000)).status == "PASS"


def test_custom_values_per_case_and_by_function_agree() -> None:
    _, source, artefact = flipped(600, 6, 4)
    gate = Gate(metric="score.py:f", no_worse_than="source", margin=0.04, at_worst=1)
    ours, theirs = artefact.correct.astype(float), source.correct.astype(float)
    per_case = CustomValues(ours, theirs)
    by_function = CustomValues(lambda rows: float(ours[rows].mean()), lambda rows: float(theirs[rows].mean()))
    first, second = (
        decide_data_gate(gate, "t", artefact, source, np.arange(600), custom=custom)
        for custom in (per_case, by_function)
    )
    assert first.status == second.status == "PASS"
    assert first.interval == pytest.approx(second.interval, abs=0.006)
    assert first.method.startswith("betting bound")
    assert "approximate" in second.method


def test_custom_nan_fails_closed_and_a_crash_is_named() -> None:
    _, source, artefact = flipped(100, 0, 0)
    gate = Gate(metric="score.py:f", at_least=0.1, at_worst=1)
    values = np.ones(100)
    values[3] = np.nan
    for custom in (CustomValues(values), CustomValues(lambda rows: float("nan")), None):
        verdict = decide_data_gate(gate, "t", artefact, source, np.arange(100), custom=custom)
        assert verdict.status == "INCONCLUSIVE"

    def broken(rows: np.ndarray) -> float:
        raise ValueError("only one class")

    with pytest.raises(StepError, match="only one class"):
        decide_data_gate(gate, "t", artefact, source, np.arange(100), custom=CustomValues(broken))
    with pytest.raises(StepError, match="shape"):
        decide_data_gate(gate, "t", artefact, source, np.arange(100), custom=CustomValues(np.ones(99)))


def test_nan_scores_missing_source_and_empty_sets_fail_closed() -> None:
    truth, source, artefact = flipped(500, 0, 0)
    units = np.arange(500)
    spoiled = Score({"accuracy": float("nan")}, artefact.correct, artefact.predictions, artefact.confusion)
    lying = Score({"accuracy": 0.99}, artefact.correct, artefact.predictions, artefact.confusion)
    empty = score_of(truth[:0], truth[:0], 4)
    for ours, given, rows in (
        (spoiled, source, units),
        (lying, source, units),
        (artefact, None, units),
        (empty, empty, units[:0]),
    ):
        assert decide_data_gate(NO_WORSE, "t", ours, given, rows).status == "INCONCLUSIVE"


def test_arrays_of_different_cases_are_a_bug_not_a_verdict() -> None:
    _, source, artefact = flipped(100, 0, 0)
    with pytest.raises(ValueError, match="different cases"):
        decide_data_gate(NO_WORSE, "t", artefact, source, np.arange(99))


@pytest.mark.parametrize(
    ("measurement", "status", "says"),
    [
        (latency(4.3, (4.2, 4.4)), "PASS", "4.30 ms"),
        (latency(5.9, (5.7, 6.1)), "INCONCLUSIVE", "across the limit"),
        (latency(6.6, (6.4, 6.8)), "FAIL", "above the limit"),
        (latency(4.3, None), "INCONCLUSIVE", "without an interval"),
        (latency(4.3, (4.2, 4.4), how="emulated", where="a76"), "INCONCLUSIVE", "emulated"),
        (latency(4.3, (4.2, 4.4), how="estimated"), "INCONCLUSIVE", "estimated"),
        (latency(float("nan"), None), "INCONCLUSIVE", "not a finite"),
        (latency(4.3, (4.2, float("inf"))), "INCONCLUSIVE", "not a finite"),
        (latency(4.3, (4.2, 4.4), confidence=0.5), "INCONCLUSIVE", "too little"),
        (latency(4.3, (4.2, 4.4), metric="latency_p50_ms"), "INCONCLUSIVE", "measurement of latency_p50_ms"),
        (None, "INCONCLUSIVE", "not measured"),
    ],
)
def test_resource_gates(measurement: Measurement | None, status: str, says: str) -> None:
    verdict = decide_resource_gate(P90, "local-cpu", measurement)
    assert verdict.status == status
    assert says in verdict.why


def test_a_file_size_is_exact_also_under_emulation() -> None:
    gate = Gate(metric="artifact_mb", at_most=25)
    size = Measurement("artifact_mb", 22.9, "MB", 1, "emulated", "a76")
    assert decide_resource_gate(gate, "a76", size).status == "PASS"
    assert decide_resource_gate(gate, "a76", replace(size, value=25.01)).status == "FAIL"


def test_needed_at_best() -> None:
    assert needed_at_best(NO_WORSE, 148) == 149
    assert needed_at_best(NO_WORSE, 149) is None
    assert needed_at_best(NO_WORSE, 182, alone=False) == 183
    assert needed_at_best(NO_WORSE, 183, alone=False) is None
    assert needed_at_best(Gate(metric="accuracy", at_least=0.95), 58) == 59
    assert needed_at_best(Gate(metric="accuracy", at_least=0.95), 59) is None
    assert needed_at_best(P90, 1) is None
    assert needed_at_best(Gate(metric="score.py:f", at_least=3, at_worst=9), 1) is None
    for never in (Gate(metric="accuracy", at_least=1.0), Gate(metric="accuracy", no_worse_than="source", margin=0)):
        with pytest.raises(RecipeError) as caught:
            needed_at_best(never, 10_000)
        assert caught.value.hint


@pytest.mark.parametrize(("metric", "enough"), [("accuracy", 1.0), ("macro_f1", 1.6)])
def test_preflight_and_gate_agree(metric: str, enough: float) -> None:
    """What preflight calls enough at best does pass with no flip, and one unit fewer does not. Macro F1 needs more
    where classes are uneven, which preflight does not know: here, of four drawn at random, the rarest has 11 of 59."""
    gate = Gate(metric=metric, no_worse_than="source", margin=0.05)
    n = needed_at_best(gate, 1)
    assert n is not None
    assert decide(gate, round(n * enough), 0, 0).status == "PASS"
    assert decide(gate, n - 1, 0, 0).status == "INCONCLUSIVE"


def test_the_usual_tests_are_told_and_decide_nothing() -> None:
    """269 cases without a flip: Tango's interval would show a loss of at most 0.01, the gate does not pass."""
    _, source, artefact = flipped(269, 0, 0)
    gate = Gate(metric="accuracy", no_worse_than="source", margin=0.01)
    verdict = decide_data_gate(gate, "here", artefact, source, np.arange(269))
    assert verdict.status == "INCONCLUSIVE"
    assert "Tango's interval -0.0100 to 0.0100, McNemar's mid-p 1" in verdict.method
    paired = decide_data_gate(gate, "here", artefact, source, np.arange(269) // 2)
    assert "Tango" not in paired.method, "it takes rows of one unit as independent"


def test_overall_takes_the_worst_of_what_blocks() -> None:
    good = Verdict("g", "accuracy", "t", "PASS", "")
    bad, unsure = replace(good, status="FAIL"), replace(good, status="INCONCLUSIVE")
    assert overall([good, good]) == ("PASS", Exit.OK)
    assert overall([good, unsure]) == ("INCONCLUSIVE", Exit.INCONCLUSIVE)
    assert overall([unsure, bad, good]) == ("FAIL", Exit.GATE_FAILED)
    assert overall([good, replace(bad, severity="warn")]) == ("PASS", Exit.OK)
    assert overall([]) == ("INCONCLUSIVE", Exit.INCONCLUSIVE)
    assert overall([replace(good, severity="warn")]) == ("INCONCLUSIVE", Exit.INCONCLUSIVE), (
        "nothing could have refused"
    )


def test_flips_add_up() -> None:
    _, source, artefact = flipped(300, 7, 3)
    counts = flips(source, artefact)
    assert counts == {"both_right": 263, "both_wrong": 27, "lost": 7, "gained": 3}
    with pytest.raises(ValueError, match="different cases"):
        flips(source, score_of(np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64), 1))
