"""A gate with `by` passes only if the whole and every subgroup pass by themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from edgeft.data.rows import MISSING
from edgeft.evaluate.custom import CustomValues
from edgeft.evaluate.gates import decide_data_gate
from edgeft.evaluate.subgroups import MAX_SUBGROUPS
from edgeft.gate import Gate, Verdict
from edgeft.task import Score
from edgeft.tasks.classification import score_logits
from tests.evaluate.gate_builders import score_of

N = 3000
TRUTH = np.arange(N) % 4
SITES = np.array(["north", "south", "west"])[np.arange(N) % 3]
BY_SITE = Gate(metric="accuracy", no_worse_than="source", margin=0.04, by="site")


def spoil(site: str, share: float) -> np.ndarray:
    """Predictions that are right but for this share of one site's cases."""
    found = TRUTH.copy()
    places = np.flatnonzero(site == SITES)
    wrong = places[: round(share * len(places))]
    found[wrong] = (found[wrong] + 1) % 4
    return found


def decide(gate: Gate, predictions: np.ndarray, sites: np.ndarray = SITES) -> Verdict:
    source, artefact = score_of(TRUTH, TRUTH, 4), score_of(TRUTH, predictions, 4)
    return decide_data_gate(gate, "t", artefact, source, np.arange(N), truth=TRUTH, groups=sites)


def answered(truth: np.ndarray, logits: np.ndarray) -> Score:
    """As a classifier gives it, with a Dice per case besides."""
    score = score_logits({"logits": logits}, pa.table({"label": truth}), ("a", "b"))
    assert score.probabilities is not None
    return replace(score, cases={**score.cases, "mean_dice": score.probabilities[np.arange(len(truth)), truth]})


def part(verdict: Verdict, name: str) -> Verdict:
    return next(item for item in verdict.parts if item.subgroup == name)


def test_one_subgroup_that_got_worse_fails_the_gate_though_the_whole_passes() -> None:
    hurt = spoil("south", 0.09)
    assert decide(BY_SITE.model_copy(update={"by": None}), hurt).status == "PASS"
    verdict = decide(BY_SITE, hurt)
    assert verdict.status == "FAIL"
    assert verdict.subgroup == "south" and "in site 'south'" in verdict.why and "2 of 3 subgroups" in verdict.why
    assert [item.status for item in verdict.parts] == ["PASS", "PASS", "FAIL", "PASS"]
    assert [item.subgroup for item in verdict.parts] == ["", "north", "south", "west"]
    assert verdict.n == 1000 and part(verdict, "").n == N
    assert verdict.gate == "accuracy no worse than source by 0.04 in every site"


def test_a_pass_names_the_subgroup_with_the_least_room() -> None:
    verdict = decide(BY_SITE, spoil("west", 0.01))
    assert verdict.status == "PASS"
    assert verdict.subgroup == "west" and verdict.why.startswith("least room in site 'west'")


def test_the_least_room_of_a_value_that_may_not_be_low_is_above_the_limit() -> None:
    verdict = decide(Gate(metric="accuracy", at_least=0.9, by="site"), spoil("west", 0.02))
    assert verdict.status == "PASS" and verdict.subgroup == "west"


def test_a_failing_subgroup_outranks_one_that_shows_nothing() -> None:
    sites = SITES.astype(object)
    sites[-30:] = "island"
    verdict = decide(BY_SITE, spoil("south", 0.2), sites.astype(str))
    assert verdict.status == "FAIL" and verdict.subgroup == "south"
    assert part(verdict, "island").status == "INCONCLUSIVE"


def test_a_subgroup_without_a_case_of_the_label_comes_before_one_that_is_nearly_enough() -> None:
    truth = np.where(SITES == "north", 0, TRUTH % 2)
    logits = np.eye(2)[truth] * 4.0
    gate = Gate(metric="sensitivity_b", at_least=0.995, by="site")
    source = answered(truth, logits)
    verdict = decide_data_gate(gate, "t", source, source, np.arange(N), truth=truth, groups=SITES)
    assert part(verdict, "south").status == "INCONCLUSIVE" and part(verdict, "south").interval is not None
    assert verdict.status == "INCONCLUSIVE" and verdict.subgroup == "north" and "no case" in verdict.why


COMPARED = {"no_worse_than": "source", "margin": 0.1}


@pytest.mark.parametrize(
    "keys",
    [
        {"metric": "accuracy", **COMPARED}, {"metric": "accuracy", "at_least": 0.6}, {"metric": "macro_f1", **COMPARED},
        {"metric": "sensitivity_b", **COMPARED}, {"metric": "flip_rate", "at_most": 0.2}, {"metric": "ece", **COMPARED},
        {"metric": "brier", **COMPARED}, {"metric": "auroc_b", **COMPARED}, {"metric": "mean_dice", **COMPARED},
        {"metric": "mean_dice", "cases_losing": 0.1, "at_most": 0.3}, {"metric": "score.py:f", **COMPARED, "at_worst": 1},
        {"metric": "score.py:f", "cases_losing": 0.1, "at_most": 0.3},
    ],
    ids=lambda keys: "-".join(map(str, keys.values())),
)  # fmt: skip
def test_each_part_is_what_the_gate_says_of_those_cases_alone(keys: dict[str, object]) -> None:
    """Of real scores, with three rows to a unit at one site; the sites' cases are mixed, truth and answers uneven."""
    random = np.random.default_rng(3)
    sites = np.where(random.random(400) < 0.4, "north", "south")
    truth = (random.random(400) < np.where(sites == "north", 0.3, 0.6)).astype(np.int64)
    units = np.where(sites == "north", np.arange(400), 1000 + np.cumsum(sites == "south") // 3)
    before = np.eye(2)[truth] + random.normal(0, 0.8, (400, 2))
    after = before + random.normal(0, np.where(sites == "north", 0.1, 0.6)[:, None], (400, 2))

    def verdict(keys: dict[str, object], at: np.ndarray, groups: np.ndarray | None) -> Verdict:
        ours, theirs = (answered(truth[at], logits[at]) for logits in (after, before))
        custom = CustomValues(ours.cases["mean_dice"], theirs.cases["mean_dice"])
        gate = Gate.model_validate(keys)
        return decide_data_gate(gate, "t", ours, theirs, units[at], truth=truth[at], custom=custom, groups=groups)

    found = verdict({**keys, "by": "site"}, np.arange(400), sites)
    assert [item.subgroup for item in found.parts] == ["", "north", "south"]
    for item in found.parts:
        places = np.flatnonzero(sites == item.subgroup) if item.subgroup else np.arange(400)
        alone = verdict(keys, places, None)
        assert alone.interval is not None
        assert replace(item, subgroup="") == alone


def test_an_absolute_gate_needs_no_source() -> None:
    artefact, gate = score_of(TRUTH, TRUTH, 4), Gate(metric="accuracy", at_least=0.9, by="site")
    assert decide_data_gate(gate, "t", artefact, None, np.arange(N), groups=SITES).status == "PASS"


def test_a_subgroup_too_small_to_show_anything_is_inconclusive_and_says_what_it_needs() -> None:
    sites = SITES.astype(object)
    sites[:30] = "island"
    verdict = decide(BY_SITE, TRUTH, sites.astype(str))
    assert verdict.status == "INCONCLUSIVE"
    assert verdict.subgroup == "island" and verdict.n == 30
    assert verdict.needed_n is not None and verdict.needed_n > 30
    assert f"{verdict.needed_n:,} cases" in verdict.why


def test_cases_without_a_value_are_a_subgroup_of_their_own() -> None:
    sites = SITES.astype(object)
    sites[SITES == "south"] = MISSING
    verdict = decide(BY_SITE, spoil("south", 0.09), sites.astype(str))
    assert verdict.status == "FAIL" and verdict.subgroup == MISSING
    assert verdict.parts[-1].subgroup == MISSING


def test_absolute_gates_hold_for_the_worst_subgroup() -> None:
    gate = Gate(metric="accuracy", at_least=0.93, by="site")
    hurt = spoil("north", 0.12)
    assert decide(gate.model_copy(update={"by": None}), hurt).status == "PASS"
    verdict = decide(gate, hurt)
    assert verdict.status == "FAIL" and verdict.subgroup == "north"


def test_an_own_metric_is_divided_too_in_both_its_forms() -> None:
    hurt = spoil("south", 0.2)
    source, artefact = score_of(TRUTH, TRUTH, 4), score_of(TRUTH, hurt, 4)
    ours = artefact.correct.astype(float)
    gate = Gate(metric="score.py:f", at_least=0.9, at_worst=1, by="site")
    for custom in (CustomValues(ours), CustomValues(lambda rows: float(ours[rows].mean()))):
        verdict = decide_data_gate(gate, "t", artefact, source, np.arange(N), truth=TRUTH, custom=custom, groups=SITES)
        assert verdict.status == "FAIL" and verdict.subgroup == "south"
        assert verdict.value == pytest.approx(0.8)


def test_without_its_column_or_with_too_many_values_it_fails_closed() -> None:
    source = score_of(TRUTH, TRUTH, 4)
    verdict = decide_data_gate(BY_SITE, "t", source, source, np.arange(N), truth=TRUTH)
    assert verdict.status == "INCONCLUSIVE" and "'site'" in verdict.why
    many = np.arange(N) % (MAX_SUBGROUPS + 1)
    verdict = decide(BY_SITE, TRUTH, many)
    assert verdict.status == "INCONCLUSIVE" and f"at most {MAX_SUBGROUPS} can be subgroups" in verdict.why
    with pytest.raises(ValueError, match="different cases"):
        decide(BY_SITE, TRUTH, SITES[:-1])


def test_every_part_is_in_the_record() -> None:
    row = replace(decide(BY_SITE, TRUTH), owner="A. Hughes").to_json()
    assert [item["subgroup"] for item in row["parts"]] == ["", "north", "south", "west"]
    assert all(item["interval"] and item["parts"] == [] for item in row["parts"])
    assert row["owner"] == "A. Hughes"
