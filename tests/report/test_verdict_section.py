"""Who answers for a limit, and every subgroup of a gate, can be read in the report and in the model card."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from edgeft.evaluate.gates import decide_data_gate
from edgeft.gate import Gate
from edgeft.record import RunRecord, TargetRow
from edgeft.report.html import render_html
from edgeft.report.model_card import render_model_card
from edgeft.report.verdicts import account_text
from tests.evaluate.gate_builders import score_of
from tests.report import sample

HOSTILE = "<script>alert(1)</script>"


def judged() -> tuple[RunRecord, TargetRow]:
    """The sample with a gate on sites, of which one, with a hostile name, got worse."""
    truth = np.arange(3000) % 4
    sites = np.array(["north", "south", HOSTILE], dtype=object)[np.arange(3000) % 3].astype(str)
    answers = np.where((sites == HOSTILE) & (np.arange(3000) < 300), (truth + 1) % 4, truth)
    gate = Gate(metric="accuracy", no_worse_than="source", margin=0.04, by="site", owner="A. Hughes")
    verdict = decide_data_gate(
        gate,
        "local-cpu",
        score_of(truth, answers, 4),
        score_of(truth, truth, 4),
        np.arange(3000),
        truth=truth,
        groups=sites,
    )
    target = sample.target().model_copy(update={"verdicts": [verdict.to_json()]})
    return sample.record().model_copy(update={"targets": [target]}), target


def test_every_subgroup_is_shown_with_its_verdict_and_owner() -> None:
    record, target = judged()
    page = render_html(record)
    assert "accuracy no worse than source by 0.04 in every site" in page
    assert all(name in page for name in ("Subgroups", "all together", "north", "south", "&lt;script&gt;"))
    assert HOSTILE not in page
    assert "A. Hughes; margin without justification" in page
    card = render_model_card(record, target)
    assert "A. Hughes; margin without justification" in card and HOSTILE not in card


def test_the_figures_of_the_card_are_of_the_whole() -> None:
    """The subgroup that decides lost 10 points; the whole lost 3.3 (bound 4.0)."""
    record, target = judged()
    assert target.verdicts[0]["value"] == pytest.approx(0.1)
    low, high = target.verdicts[0]["parts"][0]["interval"]
    assert f"{low * 100:.1f} to {high * 100:.1f} points" in render_model_card(record, target)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "margin without an owner and justification"),
        ({"owner": "QA", "justification": "below reader variability"}, "QA: below reader variability"),
    ],
)
def test_what_is_said_of_a_margin(keys: dict[str, str], says: str) -> None:
    gate = Gate(metric="accuracy", no_worse_than="source", margin=0.02, **keys)
    assert account_text(gate.answer("t", "PASS", "").to_json()) == says


def test_a_record_with_parts_that_are_none_is_refused() -> None:
    row = Gate(metric="accuracy", at_least=0.5).answer("t", "PASS", "").to_json()
    target = sample.target().model_dump(mode="json")
    for parts in ("x", [1], [{"n": "many"}], [replace_parts(row)]):
        with pytest.raises(ValidationError):
            TargetRow.model_validate({**target, "verdicts": [{**row, "parts": parts}]})


def replace_parts(row: dict[str, object]) -> dict[str, object]:
    """A part that has parts."""
    return {**row, "parts": [row]}
