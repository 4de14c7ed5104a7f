"""Each target's page: every kind of evidence, and nothing that was not measured."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from edgeft.record import CandidateRow, GateSetRow, OperatorRow, RunRecord, TargetRow
from edgeft.report import render_html, render_model_card, summary_lines
from edgeft.report.candidates import operator_and_reason
from edgeft.report.conditions import plot_sentinel, shorten
from edgeft.report.ecdf import curves_of, plot_ecdf, quantile
from edgeft.report.operators import MOST, REST, group_operators
from edgeft.report.roofline import distance_text
from edgeft.report.sections import Section
from edgeft.report.validity import timing_faults
from edgeft.report.views import gate_blocks, view_target
from tests.report import sample

SECTIONS = {
    "verdicts",
    "candidates",
    "latency",
    "conditions",
    "operators",
    "placement",
    "roofline",
    "gate-set",
    "device",
}


def section_ids(target: TargetRow) -> set[str]:
    sections: list[Section] = list(view_target(target, 0, []).sections)
    return {section.id.removeprefix("target-0-") for section in sections if section.title}


def test_a_measured_target_has_every_section_and_links_to_each() -> None:
    record = sample.matrix()
    assert section_ids(record.targets[0]) == SECTIONS
    page = render_html(record)
    links = re.findall(r'href="#([^"]+)"', page)
    assert len(links) == len(set(links))
    assert all(page.count(f'id="{link}"') == 1 for link in links)


def test_an_emulated_target_shows_no_time_whatever_its_record_holds() -> None:
    record = sample.matrix()
    rows = [row.model_copy(update={"why": "because", "notes": []}) for row in record.targets[0].candidates]
    timed = record.targets[0].model_copy(
        update={
            "device": "cortex-a76-emulated",
            "how": "emulated",
            "verdicts": [],
            "why": "because",
            "candidates": rows,
        }
    )
    record = record.model_copy(update={"targets": [timed]})
    assert section_ids(timed) == SECTIONS - {"latency", "conditions", "operators", "roofline", "verdicts"}
    page = render_html(record)
    section = page[page.index('id="target-0"') : page.index('id="openings"')]
    assert not re.search(r"\d ms|p50|p90|Peak memory|faster", section)
    assert ">emulated</span>" in section
    assert " ms" not in render_model_card(record, timed).replace("ms}", "")
    assert not any("latency" in line or "memory" in line for line in summary_lines(record))


def test_a_candidate_made_otherwise_for_another_processor_says_in_what() -> None:
    record = sample.matrix()
    target = record.targets[2]
    same, other = target.differences[0], target.differences[0].model_copy(update={"other_bytes": "reduce_range"})
    for row, said in ((same, False), (other, True)):
        changed = target.model_copy(update={"differences": [row.model_copy(update={"candidate": target.chosen})]})
        found = record.model_copy(update={"targets": [changed]})
        assert ("other bytes: reduce_range" in render_html(found)) == said
        assert ("other bytes: reduce_range" in "\n".join(summary_lines(found))) == said
        assert ("in other bytes (reduce_range)" in re.sub(r"\\", "", render_model_card(found, changed))) == said
        assert ("The same files on" in render_model_card(found, changed)) != said


def test_how_many_cases_an_emulated_number_rests_on_is_said() -> None:
    page = render_html(sample.matrix())
    section = page[page.index('id="target-2"') : page.index('id="openings"')]
    assert "Accuracy, n = 120" in section
    assert "<small>emulated</small>" in section
    assert "cortex-a76-emulated against local-cpu" in section


def test_a_candidate_that_could_not_run_names_the_operator() -> None:
    rows = {row.name: operator_and_reason(row) for row in sample.matrix().targets[0].candidates if not row.metrics}
    assert rows["ncnn/float"] == ("IsNaN", "pnnx has no layer for it")
    assert rows["ncnn/float16"] == ("IsNaN", "its float export failed: pnnx has no layer for it")
    assert rows["executorch/int8-static"][0] == "quantized_decomposed::quantize_per_tensor"
    assert rows["coreml/float"] == ("", "prediction needs macOS; the export itself is in the bundle")
    page = render_html(sample.matrix())
    assert all(text in page for pair in rows.values() for text in pair)


def test_invalid_times_are_said_with_their_reasons_everywhere() -> None:
    record = sample.matrix()
    row = next(item for item in record.targets[1].candidates if timing_faults(item))
    reason = timing_faults(row)[1]
    page, lines = render_html(record), summary_lines(record)
    assert reason in page
    assert any(line.strip().startswith(f"INVALID times: {row.name}") and reason in line for line in lines)
    chosen = record.targets[1].model_copy(update={"chosen": row.name})
    card = render_model_card(record, chosen)
    assert "Times are INVALID" in card
    assert "faster" not in card


def test_a_record_without_the_new_fields_renders_as_before() -> None:
    raw = sample.record().model_dump(mode="json", exclude_defaults=True)
    for target in raw["targets"]:
        for row in target["candidates"]:
            row["latency"] = {key: row["latency"][key] for key in OLD_LATENCY}
    page = render_html(RunRecord.model_validate(json.loads(json.dumps(raw))))
    assert "VALID" in page
    assert 'id="target-0-roofline"' not in page
    assert 'id="target-0-device"' not in page


OLD_LATENCY = ("samples_ms", "runs", "warmup_runs", "seconds", "threads", "shape", "protocol")


def test_an_old_record_that_says_only_throttled_is_invalid() -> None:
    row = sample.candidates("local-cpu")[0]
    assert row.latency is not None
    old = row.model_copy(update={"latency": row.latency.model_copy(update={"throttled": True})})
    assert timing_faults(old) == ["the machine was not steady"]
    told = row.latency.model_copy(update={"throttled": True, "conditions": {"blocks": "24 valid, 1 void"}})
    assert timing_faults(row.model_copy(update={"latency": told})) == []


def test_the_curve_passes_through_the_quantiles_of_its_runs() -> None:
    import numpy as np

    target = sample.matrix().targets[0]
    for curve in curves_of(target.candidates):
        for share in (0.5, 0.9, 0.99):
            assert quantile(curve.runs, share) == pytest.approx(float(np.quantile(curve.runs, share)), rel=1e-12)
    svg = plot_ecdf(target, curves_of(target.candidates))
    assert svg.count("<path") >= len(curves_of(target.candidates))
    assert "gate: p90 at most 6 ms" in svg


def test_operators_keep_their_sum_when_the_rest_is_joined() -> None:
    rows = [OperatorRow(name=f"n{i}", op=f"Op{i % 20}", backend="CPU", ms=1.0 + i, share=0.01) for i in range(60)]
    bars = group_operators(rows)
    assert (len(bars), bars[-1].op) == (MOST + 1, REST)
    assert sum(bar.ms for bar in bars) == pytest.approx(sum(row.ms for row in rows))
    assert sum(bar.count for bar in bars) == 60
    assert len(group_operators(rows[:5])) == 5


def test_operators_of_one_kind_on_two_backends_are_two_bars() -> None:
    rows = [OperatorRow(name=b, op="Conv", backend=b, ms=1.0, share=0.5) for b in ("NPU", "CPU")]
    assert [(bar.op, bar.backend) for bar in group_operators(rows)] == [("Conv", "CPU"), ("Conv", "NPU")]


def test_the_sentinel_marks_readings_beyond_its_limit() -> None:
    part = sample.candidates("local-cpu")[0].latency
    assert part is not None
    svg = plot_sentinel(part.model_copy(update={"sentinel_ms": [1.0, 1.05, 1.3, 1.0]}), "x")
    assert svg.count('class="slow"') == 1
    assert "up to 30% longer than at the core&#x27;s own speed" in svg
    assert plot_sentinel(part, "x") == ""


def test_readings_that_never_changed_are_said_once() -> None:
    assert shorten("2400 before, 2400 to 2400 during, 2400 after") == "2400 all along"
    assert shorten("52 before, 55 to 61 during, 60 after") == "52 before, 55 to 61 during, 60 after"
    assert shorten("performance") == "performance"


def test_distance_is_measured_over_floor() -> None:
    row: CandidateRow = sample.matrix().targets[0].candidates[0]
    assert row.roofline is not None
    measured = next(item["value"] for item in row.metrics if item["metric"] == "latency_p50_ms")
    assert distance_text(row) == f"{measured / row.roofline.floor_ms:.1f}×"
    given = row.model_copy(update={"roofline": row.roofline.model_copy(update={"distance": 3.0})})
    assert distance_text(given) == "3.0×"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0, 0.0, 1e300, 5e-324])
def test_absurd_evidence_is_survived(number: float) -> None:
    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spoil(item) for key, item in value.items()}
        if isinstance(value, list):
            return [spoil(item) for item in value]
        return number if isinstance(value, float) else value

    raw = sample.matrix().model_dump(mode="python")
    page = render_html(RunRecord.model_validate(spoil(raw)))
    for svg in re.findall(r"<svg.*?</svg>", page, re.S):
        assert not re.search(r'(?:x|y|cx|cy|d|x1|x2|y1|y2|width|height)="[^"]*(?:nan|inf)', svg)


@pytest.mark.parametrize(("pixels", "words"), [(1, "artefact; shade"), (4096, "artefact, in pixels; shade")])
def test_the_confusion_says_what_it_counts(pixels: int, words: str) -> None:
    """Masks are counted per pixel: two cases of 64 x 64 are no 8,192 cases."""
    counts = [[pixels, 0], [0, pixels]]
    metrics = {"mean_dice": 0.9, "dice_part": 0.9}
    gates = GateSetRow(n=2, units=2, source=metrics, artefact=metrics, flips={}, confusion=counts)
    blocks = gate_blocks(gates, ["rest", "part"])
    assert any(words in block.text for block in blocks)
    heads = [cell.text for block in blocks for table in block.tables for line in table.rows for cell in line.cells]
    assert "Dice, part" in heads
