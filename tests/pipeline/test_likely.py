"""A search takes what every subgroup of a gate is likely to pass, judged on the search set's cases of that subgroup."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from edgeft.data.table import by_column
from edgeft.evaluate.chance import chance_to_pass
from edgeft.gate import Gate
from edgeft.measurement import Measurement
from edgeft.pipeline.judging.likely import HOPELESS, Likely, judge_likely, losing_miss
from edgeft.task import Score
from tests.evaluate.gate_builders import score_of

N, GATE_N = 1200, 3000
TRUTH = np.arange(N) % 4
SITES = np.array(["north", "south", "only here"])[np.searchsorted([0.5, 0.9], np.arange(N) % 10 / 10, side="right")]
"""600 of the north, 480 of the south and 120 of a site that the gate set has not got."""
BY_SITE = Gate(metric="accuracy", no_worse_than="source", margin=0.04, by="site")
LABELS = ("a", "b", "c", "d")
ASKED = 0.7

SHIPPED = "shipped/v1"


def lose(site: str, count: int) -> Score:
    """Right but for this many cases of one site."""
    found = TRUTH.copy()
    places = np.flatnonzero(site == SITES)[:count]
    found[places] = (found[places] + 1) % 4
    return score_of(TRUTH, found, 4)


def judge(
    folder: Path, *gates: Gate, score: Score, south: int = 1500, paced: int | None = None, source: Score | None = None
) -> Likely:
    """Of a candidate with these answers on the search set; `south` cases of the gate set are of the south."""
    rows = {"id": [str(n) for n in range(N)], "label": TRUTH, "unit": [str(n) for n in range(N)]}
    parquet.write_table(pa.table({**rows, by_column("site"): SITES.tolist()}), folder / "search.parquet")
    held = {"north": {"n": GATE_N - south}, "south": {"n": south}}
    facts = {"splits": {"gate": {"n": GATE_N, "by": {"site": held}}}}
    pace = {} if paced is None else {"c/pace": SimpleNamespace(facts={"cases": paced})}
    executor: Any = SimpleNamespace(dataset=SimpleNamespace(path=folder, facts=facts), done=pace)
    recipe = SimpleNamespace(gates=gates, measure=SimpleNamespace(search_cases=None))
    plan: Any = SimpleNamespace(loaded=SimpleNamespace(recipe=recipe), released={})
    right = replace(score_of(TRUTH, TRUTH, 4), labels=LABELS)
    trial: Any = SimpleNamespace(
        candidate=SimpleNamespace(id="c", device=SimpleNamespace(name="here")), artifact=None, score=score,
        source=source or right, baselines={None: source or right, SHIPPED: right}, outputs=SimpleNamespace(facts={"n": N}),
        measurements=[Measurement("artifact_mb", 3.0, "MB", 1, "measured", "here")],
    )  # fmt: skip
    return judge_likely(plan, executor, trial, ASKED)


def test_a_site_that_lost_speaks_against_what_the_whole_would_pass(tmp_path: Path) -> None:
    hurt = lose("south", 30)
    assert judge(tmp_path, BY_SITE.model_copy(update={"by": None}), score=hurt).miss is None
    found = judge(tmp_path, BY_SITE, score=hurt)
    assert found.miss is not None and found.slack < -0.3
    assert "in site 'south'" in found.why and found.metric == "accuracy"
    assert judge(tmp_path, BY_SITE, score=lose("south", 3)).miss is None


def test_the_chance_is_that_of_the_site_s_cases_in_the_gate_set(tmp_path: Path) -> None:
    """As chance_to_pass gives it for the site's search cases and as many as the gate set has of it, or will answer."""
    plain = BY_SITE.model_copy(update={"by": None})
    for site, south, paced, count in (
        ("south", 1500, None, 1500), ("south", 600, None, 600), ("south", 1500, 1000, 500), ("north", 1500, None, 1500),
    ):  # fmt: skip
        hurt, places = lose(site, 12), np.flatnonzero(site == SITES)
        right = score_of(TRUTH[places], TRUTH[places], 4)
        part = score_of(TRUTH[places], hurt.predictions[places], 4)
        found = judge(tmp_path, BY_SITE, score=hurt, south=south, paced=paced)
        chance, best = (chance_to_pass(plain, ours, right, places, count) for ours in (part, right))
        assert found.chance == pytest.approx(chance, abs=1e-12) and chance < 0.95 * best
        assert found.share == pytest.approx(chance / best)
    assert judge(tmp_path, BY_SITE, score=lose("north", 0), south=60).share == pytest.approx(1.0)


def test_a_site_that_the_gate_set_has_not_got_is_judged_in_the_whole_alone(tmp_path: Path) -> None:
    assert judge(tmp_path, BY_SITE, score=lose("only here", 15)).miss is None
    found = judge(tmp_path, BY_SITE, score=lose("only here", 90))
    assert found.miss is not None and "90 lost and 0 gained of 1200 search cases" in found.why


def test_a_site_too_small_for_anyone_asks_as_much_less(tmp_path: Path) -> None:
    """60 cases cannot show 0.04: the source against itself has no chance either, and other sites still count."""
    assert judge(tmp_path, BY_SITE, score=lose("south", 1), south=60).miss is None
    assert judge(tmp_path, BY_SITE, score=lose("north", 60), south=60).miss is not None


def test_limits_on_size_are_hopeless_and_warnings_say_nothing(tmp_path: Path) -> None:
    hurt = lose("south", 300)
    silent = [
        BY_SITE.model_copy(update={"severity": "warn"}),
        BY_SITE.model_copy(update={"device": "elsewhere"}),
        Gate(metric="artifact_mb", at_most=3.0),
    ]
    assert judge(tmp_path, *silent, score=hurt) == Likely(inf, None, "")
    over = judge(tmp_path, Gate(metric="artifact_mb", at_most=2.9), score=hurt)
    assert (over.slack, over.metric) == (HOPELESS, "artifact_mb") and "it is 3" in over.why


def test_a_released_bundle_that_was_better_speaks_against_it(tmp_path: Path) -> None:
    """Judged by what the source would reach in its place: where that is no better, nothing is held against it."""
    shipped = BY_SITE.model_copy(update={"no_worse_than": SHIPPED})
    hurt = lose("south", 30)
    assert "in site 'south'" in judge(tmp_path, shipped, score=hurt).why
    assert judge(tmp_path, BY_SITE, score=hurt, source=hurt).why == "", "it is what its source is"
    assert judge(tmp_path, shipped, score=hurt, source=lose("south", 3)).why
    assert judge(tmp_path, shipped, score=hurt, source=hurt).why == "", "no candidate could do better"


def test_sensitivity_is_judged_by_the_cases_of_its_label(tmp_path: Path) -> None:
    gate = Gate(metric="sensitivity_b", no_worse_than="source", margin=0.1, by="site")
    found = TRUTH.copy()
    found[np.flatnonzero((SITES == "south") & (TRUTH == 1))[:30]] = 0
    hurt = replace(score_of(TRUTH, found, 4), labels=LABELS)
    assert "in site 'south'" in judge(tmp_path, gate, score=hurt).why
    assert judge(tmp_path, gate.model_copy(update={"metric": "sensitivity_c"}), score=hurt).miss is None


LOSING = Gate(metric="mean_dice", cases_losing=0.1, at_most=0.05)


def dice(values: Any) -> Score:
    """A segmentation's score with these values per case."""
    plain = score_of(np.zeros(len(values), int), np.zeros(len(values), int), 2)
    return replace(plain, cases={"mean_dice": np.asarray(values, float)})


def test_a_candidate_of_the_ladder_is_not_chosen_where_too_many_cases_lose() -> None:
    """Its mean is as good as the source's: 10 of 100 cases lose 0.2, the others gain."""
    source, ours = np.full(100, 0.8), np.full(100, 0.83)
    ours[:10] = 0.6
    miss = losing_miss([LOSING], dice(ours), {None: dice(source)})
    assert miss is not None and miss.metric == "mean_dice" and miss.distance == pytest.approx(0.05)
    assert miss.reason == "10.0% of the search cases lose more than 0.1 of mean_dice, the gate allows 5.0%"
    ours[:10] = 0.71
    assert losing_miss([LOSING], dice(ours), {None: dice(source)}) is None, "0.09 each is not too much"
    ours[:5] = 0.1
    assert losing_miss([LOSING], dice(ours), {None: dice(source)}) is None, "5 of 100 are allowed"
    assert (
        losing_miss([LOSING.model_copy(update={"severity": "warn"})], dice(ours[:4]), {None: dice(source[:4])}) is None
    )
    assert losing_miss([LOSING], dice(ours[:4]), {None: dice(source[:4])}) is not None
    shipped = LOSING.model_copy(update={"no_worse_than": "v1"})
    assert shipped.released == "v1" and losing_miss([shipped], dice(ours), {None: dice(ours)}) is None
    assert losing_miss([shipped], dice(ours), {None: dice(ours), "v1": dice(ours + 0.2)}) is not None
