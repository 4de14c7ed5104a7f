"""Verdicts as sentences for people: each status says what holds, what was asked, and what is open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeft.evaluate.gates import decide_data_gate, decide_resource_gate
from edgeft.gate import Gate, Verdict
from edgeft.measurement import Measurement
from edgeft.record import ExampleRow
from edgeft.report.examples import example_blocks, plot_example
from edgeft.report.html import render_html
from edgeft.report.plain import plain_targets, plain_verdict
from tests.evaluate.gate_builders import flipped, score_of
from tests.report import sample

VALUES = np.abs(np.random.default_rng(5).normal(2.0, 0.5, 400))
SITES = np.array(["A", "B", "C"])[np.r_[np.zeros(200, int), np.ones(12, int), np.full(188, 2)]]


def told(gate: Gate, ours: Any, theirs: Any = VALUES, by: Any = None) -> str:
    """The sentence of a real verdict on values per case."""
    truth = np.zeros(len(ours), np.int64)
    scores = [replace(score_of(truth, truth, 2), cases={gate.values: values}) for values in (ours, theirs)]
    verdict = decide_data_gate(gate, "t", scores[0], scores[1], np.arange(len(ours)), groups=by)
    return plain_verdict(verdict.to_json())


def hd95(**keys: Any) -> Gate:
    return Gate(metric="hd95_mm_lesion", **{"no_worse_than": "source", "margin": 2.0, "at_worst": 20.0, **keys})


def test_a_loss_is_told_with_what_is_allowed() -> None:
    assert told(hd95(), VALUES + 0.1).startswith("HD95, lesion (at worst 20): no more than ")
    assert told(hd95(), VALUES + 0.1).endswith(" mm worse than the source (2.00 mm allowed), on 400 cases.")
    assert "at least 5." in told(hd95(), VALUES + 6) and "mm worse than the source" in told(hd95(), VALUES + 6)
    assert "no worse than the source (2.00 mm allowed)" in told(hd95(), VALUES - 1.9)
    assert told(hd95(severity="warn"), VALUES).endswith("This gate only warns.")


def test_an_open_question_says_how_many_cases_would_close_it() -> None:
    text = told(hd95(margin=1.0), (VALUES + 0.3)[:40], VALUES[:40])
    assert ": undecided, on 40 cases: it may be up to " in text
    assert "worse than the source (1.00 mm allowed); about " in text and text.endswith(" cases would decide it.")
    assert told(hd95(margin=0.1), (VALUES + 0.3)[:40], VALUES[:40]).endswith(
        "more cases like these would not make it pass."
    )


def test_each_subgroup_that_does_not_pass_is_named() -> None:
    worse = VALUES + np.where(SITES == "C", 6.0, 0.0)
    text = told(hd95(margin=4.0, by="site"), worse, by=SITES)
    assert "HD95, lesion (at worst 20) for site C: at least " in text
    assert "HD95, lesion (at worst 20) for site B: undecided, on 12 cases: it may be up to " in text
    assert text.endswith(("It holds for site A.", "It holds for site A and in the whole."))
    enough = np.where(SITES == "B", "A", SITES)
    good = told(hd95(margin=4.0, by="site"), VALUES, by=enough)
    assert good.endswith("The same holds for each site by itself: A and C.")


@pytest.mark.parametrize(
    ("gate", "starts"),
    [
        (Gate(metric="hd95_mm_lesion", at_most=3, at_worst=20), "HD95, lesion (at worst 20) is at most 2."),
        (Gate(metric="hd95_mm_lesion", at_most=1, at_worst=20), "HD95, lesion (at worst 20) is at least 1."),
        (Gate(metric="hd95_mm_lesion", cases_losing=5, at_most=0.1), "Share of cases losing more than 5 mm of HD95, lesion is at most 0."),
    ],
)  # fmt: skip
def test_a_level_says_which_end_counts(gate: Gate, starts: str) -> None:
    assert told(gate, VALUES).startswith(starts)


def test_a_gate_with_its_own_unit_names_subgroups_and_units_by_their_columns() -> None:
    truth = np.zeros(400, np.int64)
    gate = hd95(by="site", unit="patient")
    score = replace(score_of(truth, truth, 2), cases={gate.values: VALUES})
    enough = np.where(SITES == "B", "A", SITES)
    verdict = decide_data_gate(gate, "t", score, score, np.arange(400), groups=enough)
    assert plain_verdict(verdict.to_json()).endswith("The same holds for each site by itself: A and C.")
    few = decide_data_gate(gate, "t", score, score, np.arange(400) // 100, groups=enough)
    text = plain_verdict(few.to_json())
    assert "HD95, lesion (at worst 20) for site A: undecided, on 212 cases in 3 units (patient): it may be" in text
    assert "units (patient) like these would decide it" in text


def test_times_are_of_runs_and_a_label_may_sound_like_a_condition() -> None:
    gate = Gate(metric="latency_p90_ms", at_most=6)
    time = Measurement("latency_p90_ms", 5.9, "ms", 1024, "measured", "t", (5.7, 6.1), 0.95, "blocks")
    text = plain_verdict(decide_resource_gate(gate, "t", time).to_json())
    assert "undecided, on 1,024 runs: it may be as high as 6.10 ms (6.00 ms allowed); about" in text
    assert text.endswith(" runs would decide it.")
    odd = Gate(metric="hd95_mm_at least mild", at_most=3, at_worst=20)
    assert told(odd, VALUES).startswith("HD95, at least mild (at worst 20) is at most 2.")


def test_shares_are_told_in_points() -> None:
    truth, source, artefact = flipped(2000, 10, 8)
    gate = Gate(metric="accuracy", no_worse_than="source", margin=0.02)
    verdict = decide_data_gate(gate, "t", artefact, source, np.arange(2000), truth=truth)
    assert plain_verdict(verdict.to_json()).startswith("Accuracy: no more than 0.") and "points worse" in verdict.why
    assert "(2.0 points allowed)" in plain_verdict(verdict.to_json())


def test_a_verdict_without_a_number_gives_its_reason() -> None:
    gate = hd95()
    row = gate.answer("t", "INCONCLUSIVE", "the gate set stays sealed: artifact_mb at most 1 failed on t").to_json()
    assert plain_verdict(row).endswith("undecided: the gate set stays sealed: artifact_mb at most 1 failed on t.")
    released = Gate(metric="accuracy", no_worse_than="out/old/targets/pi", margin=0.02)
    shown = Verdict(
        gate=released.describe(), metric="accuracy", target="t", status="PASS", why="", value=0.0,
        interval=(-0.01, 0.01), limit=0.02, n=500, quantity="loss of accuracy",
    )  # fmt: skip
    assert "worse than the released old (2.0 points allowed), on 500 cases" in plain_verdict(shown.to_json())


def test_the_page_begins_with_them_and_escapes_what_they_say() -> None:
    record = sample.record()
    page = render_html(record)
    found = plain_targets(record)
    assert found and page.index("In short") < page.index("<nav")
    assert all(
        len(sentences) == len(target.verdicts) for (_, sentences), target in zip(found, record.targets, strict=True)
    )
    target = record.targets[0]
    row = {**target.verdicts[0], "metric": "<script>", "quantity": "<script>", "parts": []}
    nasty = record.model_copy(update={"targets": [target.model_copy(update={"verdicts": [row]})]})
    assert "<script>" not in render_html(nasty)


def example(**more: Any) -> ExampleRow:
    return ExampleRow(
        rank="worst", case="c1", value=0.5, size=(20, 10), image="AA", truth="BB", answer="CC", **more
    )  # fmt: skip


def test_pictures_that_are_there_are_shown_and_others_leave_no_gap() -> None:
    few = plot_example(example(), ["rest", "a"])
    assert few.count("<image") == 3 and "border" not in few and "changed" not in few
    row = example(borders="DD", changes="EE", changed=0.0123, shift="FF", most_shift=1.5)
    many = plot_example(row, ["rest", "a"])
    assert many.count("<image") == 6
    for word in ("truth's border", "answer's border", "both", "changed", "logits"):
        assert word.replace("'", "&#x27;") in many
    target = sample.record().targets[0].model_copy(update={"examples": [row]})
    shown = example_blocks(target, ["rest", "a"])
    assert shown[0].plots[0].caption == "mean Dice 0.500, 1.23% of the pixels changed, logits moved by up to 1.50"
    assert "the float model before compression" in shown[1].text and "float export" in shown[1].text
