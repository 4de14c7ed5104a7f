"""The pruning section: what went, what it cost, how a ratio was found; harmless and whole whatever the record says."""

from __future__ import annotations

import re
from typing import Any

from edgeft.record import RunRecord
from edgeft.report.html import render_html
from edgeft.report.model_card import render_model_card
from tests.report import sample
from tests.report.sample_parts import pruning
from tests.report.test_html import HOSTILE, assert_harmless


def section(record: RunRecord) -> str:
    page = render_html(record)
    return page[page.index('id="pruning"') : page.index('id="merge"')]


def test_the_section_says_what_went_and_what_it_cost() -> None:
    shown = section(sample.record(pruning=[pruning()]))
    for words in (
        "prune: structured",
        "22,713,216",
        "17,100,000",
        "75.3%",
        "680 million",
        "370 million",
        "91.6%",
        "84.1%",
    ):
        assert words in shown, words
    assert "bert.encoder.layer.5.intermediate.dense" in shown and "832" in shown
    assert "INVALID" in shown and "ratio is 0.458" in shown and "measured" in shown
    assert len(re.findall(r'class="plot small"', shown)) == 3


def test_a_record_without_pruning_has_no_section() -> None:
    assert 'id="pruning"' not in render_html(sample.record())


def test_many_widths_are_folded() -> None:
    row = pruning()
    many = row.model_copy(update={"widths": row.widths * 3})
    assert "What is left of 18 parts" in section(sample.record(pruning=[many]))


def test_zeros_are_never_called_fast() -> None:
    row = pruning().model_copy(update={"macs": None, "compressed": (1000, 600), "heals": [], "search": None})
    record = sample.record(pruning=[row])
    assert "Weights compressed by zlib" in section(record)
    assert "1.00 kB to 600 B compressed (zeros; not faster)" in render_model_card(record, record.targets[0]).replace(
        "\\", ""
    )


def test_the_model_card_names_the_step() -> None:
    record = sample.record(pruning=[pruning()])
    card = render_model_card(record, record.targets[0])
    assert "structured, 22.7 to 17.1 million parameters, 0.680 to 0.370 GMAC a case, healed for 420 steps" in card


def test_hostile_names_and_absurd_numbers_stay_text() -> None:
    raw: dict[str, Any] = sample.record(pruning=[pruning()]).model_dump(mode="python")
    row = raw["pruning"][0]
    row["step"] = row["method"] = row["importance"] = row["metric"] = HOSTILE
    row["notes"] = [HOSTILE]
    row["widths"][0].update(part=HOSTILE, kind=HOSTILE, before=0)
    row["parameters"] = (0, 0)
    for number in (float("nan"), float("inf"), -1.0, 0.0):
        row["scores"][0]["value"] = row["search"]["budget_ms"] = row["search"]["trials"][0]["p50_ms"] = number
        assert_harmless(render_html(RunRecord.model_validate(raw)))
