"""A gate with `by` passes only if the whole and every subgroup pass by themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeft.data.rows import MISSING
from edgeft.evaluate.custom import CustomValues
from edgeft.evaluate.gates import decide_data_gate
from edgeft.evaluate.subgroups import MAX_SUBGROUPS
from edgeft.gate import Gate, Verdict
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
    gate = Gate(metric="score.py:f", at_least=0.9, by="site")
    for custom in (CustomValues(ours), CustomValues(lambda rows: float(ours[rows].mean()))):
        verdict = decide_data_gate(gate, "t", artefact, source, np.arange(N), truth=TRUTH, custom=custom, groups=SITES)
        assert verdict.status == "FAIL" and verdict.subgroup == "south"
        assert verdict.value == pytest.approx(0.8)


def test_without_its_column_or_with_too_many_values_it_fails_closed() -> None:
    source = score_of(TRUTH, TRUTH, 4)
    verdict = decide_data_gate(BY_SITE, "t", source, source, np.arange(N), truth=TRUTH)
    assert verdict.status == "INCONCLUSIVE" and "'site'" in verdict.why
    many = np.arange(N) % (MAX_SUBGROUPS + 1)
    assert decide(BY_SITE, TRUTH, many).status == "INCONCLUSIVE"
    with pytest.raises(ValueError, match="different cases"):
        decide(BY_SITE, TRUTH, SITES[:-1])


def test_every_part_is_in_the_record() -> None:
    row = replace(decide(BY_SITE, TRUTH), owner="A. Hughes").to_json()
    assert [item["subgroup"] for item in row["parts"]] == ["", "north", "south", "west"]
    assert all(item["interval"] and item["parts"] == [] for item in row["parts"])
    assert row["owner"] == "A. Hughes"
