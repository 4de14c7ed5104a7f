"""Gates on one label, on changed answers, on probabilities and on cases that lose too much."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from edgeft.errors import RecipeError
from edgeft.evaluate.custom import CustomValues
from edgeft.evaluate.gates import decide_data_gate, needed_at_best
from edgeft.evaluate.values import metric_value
from edgeft.gate import Gate, Verdict
from edgeft.task import Score
from edgeft.tasks.classification import score_logits
from tests.evaluate.gate_builders import score_of

LABELS = ("benign", "malignant")
N = 2000
TRUTH = (np.arange(N) % 5 == 0).astype(np.int64)
"""400 malignant of 2,000."""


def scored(predictions: np.ndarray, sure: float = 4.0) -> Score:
    """As a classifier whose logits are `sure` apart gives it."""
    logits = np.where(np.arange(2)[None, :] == predictions[:, None], sure, 0.0)
    return score_logits({"logits": logits}, pa.table({"label": TRUTH}), LABELS)


def flip(truth: int, count: int) -> np.ndarray:
    """Right answers but for `count` cases of one label."""
    found = TRUTH.copy()
    places = np.flatnonzero(truth == TRUTH)[:count]
    found[places] = 1 - found[places]
    return found


def decide(gate: Gate, predictions: np.ndarray, sure: float = 4.0) -> Verdict:
    return decide_data_gate(gate, "t", scored(predictions, sure), scored(TRUTH), np.arange(N), truth=TRUTH)


def test_sensitivity_counts_the_cases_of_its_label_only() -> None:
    gate = Gate(metric="sensitivity_malignant", no_worse_than="source", margin=0.05)
    missed = flip(truth=1, count=40)
    assert decide(Gate(metric="accuracy", no_worse_than="source", margin=0.05), missed).status == "PASS"
    verdict = decide(gate, missed)
    assert verdict.status == "FAIL"
    assert verdict.n == 400 and "on 400 cases labelled 'malignant': 40 lost" in verdict.why
    assert decide(gate, flip(truth=0, count=40)).status == "PASS"


def test_sensitivity_is_accuracy_among_the_units_of_its_label() -> None:
    """Two malignant cases to a unit, every other case a unit of its own."""
    units, missed, kept = np.arange(N), flip(truth=1, count=10), TRUTH == 1
    units[kept] = 10 * N + np.arange(400) // 2
    gate = Gate(metric="sensitivity_malignant", no_worse_than="source", margin=0.05)
    found = decide_data_gate(gate, "t", scored(missed), scored(TRUTH), units, truth=TRUTH)
    accuracy, ones = gate.model_copy(update={"metric": "accuracy"}), np.ones(400, np.int64)
    alone = [score_of(ones, predictions[kept], 2) for predictions in (missed, TRUTH)]
    assert found.interval == decide_data_gate(accuracy, "t", *alone, units[kept]).interval


def test_a_share_that_may_not_be_high_says_how_many_cases_would_show_it() -> None:
    gate, source, units = Gate(metric="flip_rate", at_most=0.02), scored(TRUTH), np.arange(N)
    verdict = decide_data_gate(gate, "t", scored(flip(truth=0, count=32)), source, units)
    assert verdict.status == "INCONCLUSIVE"
    assert verdict.needed_n is not None and N < verdict.needed_n < 5 * N


def test_specificity_counts_the_others() -> None:
    gate = Gate(metric="specificity_malignant", at_least=0.95)
    assert decide(gate, flip(truth=0, count=200)).status == "FAIL"
    verdict = decide(gate, flip(truth=1, count=200))
    assert verdict.status == "PASS" and "on 1,600 cases not labelled 'malignant'" in verdict.why


def test_a_label_that_does_not_exist_fails_closed() -> None:
    assert decide(Gate(metric="sensitivity_malignat", at_least=0.5), TRUTH).status == "INCONCLUSIVE"


def test_flips_count_though_they_cancel() -> None:
    """As many gained as lost: no loss of accuracy, and yet one answer in ten is another."""
    before, after = flip(1, 100), flip(0, 100)
    source, artefact, units = scored(before), scored(after), np.arange(N)
    assert source.metrics["accuracy"] == artefact.metrics["accuracy"]
    for limit, status in ((0.05, "FAIL"), (0.1, "INCONCLUSIVE"), (0.13, "PASS")):
        verdict = decide_data_gate(Gate(metric="flip_rate", at_most=limit), "t", artefact, source, units, truth=TRUTH)
        assert verdict.status == status
        assert verdict.why.startswith("flip_rate 10.0% on 2,000 cases")
    assert decide_data_gate(Gate(metric="flip_rate", at_most=0.5), "t", artefact, None, units).status == "INCONCLUSIVE"


def test_one_wrong_answer_for_another_is_a_flip_too() -> None:
    truth = np.arange(N) % 4
    source, artefact = (score_of(truth, np.where(np.arange(N) < 200, truth + by, truth) % 4, 4) for by in (1, 2))
    assert (source.correct == artefact.correct).all()
    verdict = decide_data_gate(Gate(metric="flip_rate", at_most=0.05), "t", artefact, source, np.arange(N))
    assert verdict.status == "FAIL" and verdict.value == pytest.approx(0.1)


def test_brier_is_better_when_lower() -> None:
    """The same answers, less sure: the Brier score rises from 0.0003 to 0.036."""
    gate = Gate(metric="brier", no_worse_than="source", margin=0.02)
    assert decide(gate, TRUTH, sure=1.45).status == "FAIL"
    assert decide(gate, TRUTH, sure=6.0).status == "PASS"
    limit = Gate(metric="brier", at_most=0.02)
    assert decide(limit, TRUTH, sure=1.45).status == "FAIL"
    assert decide(limit, TRUTH).status == "PASS"


def test_brier_of_two_labels_is_the_usual_one() -> None:
    score = scored(TRUTH, sure=1.0)
    assert score.probabilities is not None
    assert score.cases["brier"] == pytest.approx((score.probabilities[:, 1] - TRUTH) ** 2)


def test_the_mean_may_hold_while_single_cases_collapse() -> None:
    """Twenty of 2,000 lose 0.6 Dice: 0.006 in the mean, 1% of the cases."""
    before, after = np.full(N, 0.9), np.full(N, 0.9)
    after[:20] -= 0.6
    source, artefact = (
        Score({}, np.ones(N, bool), np.zeros(N, np.int64), np.zeros((2, 2), np.int64), {"mean_dice": values})
        for values in (before, after)
    )

    def status(**keys: float | str) -> str:
        gate = Gate.model_validate({"metric": "mean_dice", **keys})
        return decide_data_gate(gate, "t", artefact, source, np.arange(N)).status

    assert status(no_worse_than="source", margin=0.03) == "PASS"
    assert status(cases_losing=0.1, at_most=0.005) == "FAIL"
    assert status(cases_losing=0.1, at_most=0.02) == "PASS"
    assert status(cases_losing=0.7, at_most=0.005) == "PASS"


def test_a_case_loses_brier_where_it_rises() -> None:
    """60 of 2,000 cases are answered wrongly and surely; the other way round nothing is lost."""
    gate = Gate(metric="brier", cases_losing=0.5, at_most=0.02)
    right, wrong, units = scored(TRUTH), scored(flip(truth=0, count=60)), np.arange(N)
    verdict = decide_data_gate(gate, "t", wrong, right, units, truth=TRUTH)
    assert verdict.status == "FAIL" and verdict.value == pytest.approx(0.03)
    assert decide_data_gate(gate, "t", right, wrong, units, truth=TRUTH).status == "PASS"


def test_cases_of_an_own_metric_lose_only_where_it_has_a_value_per_case() -> None:
    gate, score, units = Gate(metric="score.py:f", cases_losing=0.1, at_most=0.01), scored(TRUTH), np.arange(N)
    before, after = np.full(N, 0.9), np.full(N, 0.9)
    after[:60] -= 0.6
    verdict = decide_data_gate(gate, "t", score, score, units, custom=CustomValues(after, before))
    assert verdict.status == "FAIL" and verdict.value == pytest.approx(0.03)
    one = CustomValues(lambda rows: float(after[rows].mean()), lambda rows: float(before[rows].mean()))
    verdict = decide_data_gate(gate, "t", score, score, units, custom=one)
    assert verdict.status == "INCONCLUSIVE" and "one number for all cases" in verdict.why


def test_the_area_falls_with_the_ranks_of_the_label_s_own_probability() -> None:
    """A tenth of the malignant cases sink among the benign ones, level with them: half of a tenth of the area."""
    gate = Gate(metric="auroc_malignant", no_worse_than="source", margin=0.02)
    hurt = decide(gate, flip(truth=1, count=40))
    assert hurt.status == "FAIL" and "(400 of them labelled 'malignant')" in hurt.why
    assert hurt.value == pytest.approx(0.05)
    assert decide(gate, TRUTH).status == "PASS"
    assert decide(Gate(metric="auroc_benign", at_least=0.9), TRUTH).status == "PASS"
    rare = Gate(metric="average_precision_malignant", no_worse_than="source", margin=0.05)
    assert decide(rare, flip(truth=1, count=60)).status == "FAIL"
    assert decide(rare, TRUTH).status == "PASS"


def test_overconfidence_is_seen_by_the_calibration_error() -> None:
    """A tenth wrong at 98% confidence: calibration is off by 0.08, at 89% confidence by little."""
    wrong = flip(truth=0, count=200)
    gate = Gate(metric="ece", at_most=0.06)
    assert decide(gate, wrong, sure=4.0).status == "FAIL"
    assert decide(gate, wrong, sure=2.1).status == "PASS"
    rise = Gate(metric="ece", no_worse_than="source", margin=0.02)
    assert decide(rise, wrong, sure=4.0).status == "FAIL"
    assert decide(rise, TRUTH, sure=6.0).status == "PASS"


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("accuracy", 0.98), ("sensitivity_malignant", 0.9), ("specificity_malignant", 1.0), ("flip_rate", 0.02),
        ("auroc_malignant", 0.95), ("auroc_no_such_label", None), ("score.py:f", None),
    ],
)  # fmt: skip
def test_plain_values_on_the_search_set(metric: str, value: float | None) -> None:
    limit = {"at_most": 0.5} if metric == "flip_rate" else {"at_least": 0.5}
    gate = Gate(metric=metric, **limit, at_worst=1.0 if metric == "score.py:f" else None)
    found = metric_value(gate, scored(flip(truth=1, count=40)), scored(TRUTH), TRUTH)
    assert found == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("gate", "short", "enough"),
    [
        (Gate(metric="flip_rate", at_most=0.02), 148, 149),
        (Gate(metric="mean_dice", cases_losing=0.1, at_most=0.02), 148, 149),
        (Gate(metric="sensitivity_malignant", at_least=0.95), 58, 59),
        (Gate(metric="sensitivity_malignant", no_worse_than="source", margin=0.02), 148, 149),
    ],
)
def test_needed_at_best(gate: Gate, short: int, enough: int) -> None:
    assert needed_at_best(gate, short) == enough
    assert needed_at_best(gate, enough) is None


def test_a_share_of_nothing_is_never_shown() -> None:
    with pytest.raises(RecipeError, match="a single unseen one"):
        needed_at_best(Gate(metric="flip_rate", at_most=0.0), 10**6)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"metric": "brier", "at_least": 0.1}, "better when lower"),
        ({"metric": "flip_rate", "no_worse_than": "source", "margin": 0.1}, "use at_most"),
        ({"metric": "mean_dice", "cases_losing": 0.1, "no_worse_than": "source", "margin": 0.1}, "needs at_most"),
        ({"metric": "accuracy", "cases_losing": 0.1, "at_most": 0.1}, "no value per case"),
        ({"metric": "artifact_mb", "at_most": 3, "by": "site"}, "does not depend on the case"),
    ],
)
def test_gates_that_make_no_sense_are_refused(keys: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Gate.model_validate(keys)


def test_a_margin_without_an_owner_says_so() -> None:
    bare = Gate(metric="accuracy", no_worse_than="source", margin=0.02)
    assert bare.unaccounted == ("owner", "justification")
    whole = bare.model_copy(update={"owner": "QA", "justification": "below reader variability"})
    assert whole.unaccounted == ()
    assert Gate(metric="accuracy", at_least=0.9).unaccounted == ()
    verdict = decide(whole, TRUTH)
    assert (verdict.owner, verdict.justification) == ("QA", "below reader variability")
