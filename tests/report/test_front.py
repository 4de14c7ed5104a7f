"""Accuracy against latency: what is on the front, what is off it, and that names can be read."""

from __future__ import annotations

import re

import pytest

from edgeft.measurement import Measurement
from edgeft.record import CandidateRow, TargetRow
from edgeft.report.front import Point, front_of, plot_front
from edgeft.report.places import overlap
from edgeft.report.series import KNOWN, marker, series_of
from edgeft.report.svg import CHAR_WIDTH
from tests.report import sample

NAME = re.compile(r'<text x="([-\d.]+)" y="([-\d.]+)" class="point-name(?: chosen)?" text-anchor="start">([^<]+)')


def points(target: TargetRow) -> list[Point]:
    found = []
    for row in target.candidates:
        values = {item["metric"]: item["value"] for item in row.metrics}
        if "latency_p50_ms" in values:
            found.append(Point(row, values["latency_p50_ms"], values["accuracy"], None, None))
    return found


def test_the_front_is_what_nothing_beats_in_both_respects() -> None:
    every = points(sample.matrix().targets[0])
    front = front_of(every)
    assert [point.row.name for point in front[:2]] == ["litert/int8-dynamic", "openvino/int8"]
    for point in every:
        beaten = [other for other in every if other.x < point.x and other.y > point.y]
        assert not beaten or point not in front
    assert [point.x for point in front] == sorted(point.x for point in front)


def test_invalid_times_are_never_on_the_front() -> None:
    every = points(sample.matrix().targets[1])
    names = {point.row.name for point in every if not point.trusted}
    assert names == {"openvino/bf16", "onnx/float"}
    assert not names & {point.row.name for point in front_of(every)}
    page = plot_front(sample.matrix().targets[1])
    assert page.count("dot invalid") == 2
    assert "onnx/float INVALID" in page


@pytest.mark.parametrize("index", [0, 1, 2])
def test_names_of_fifteen_candidates_do_not_overlap(index: int) -> None:
    target = sample.matrix().targets[index]
    found = NAME.findall(plot_front(target))
    boxes = [(float(x), float(y) - 11, float(x) + len(text) * CHAR_WIDTH, float(y) + 3) for x, y, text in found]
    assert len(boxes) == sum(bool(row.metrics) for row in target.candidates)
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_names_of_candidates_in_one_spot_do_not_overlap() -> None:
    row = sample.candidates("local-cpu")[1]
    crowd = [row.model_copy(update={"name": f"int8-variant-{i}", "status": "eligible"}) for i in range(9)]
    svg = plot_front(sample.target().model_copy(update={"candidates": crowd, "chosen": None}))
    boxes = [(float(x), float(y) - 11, float(x) + len(t) * CHAR_WIDTH, float(y) + 3) for x, y, t in NAME.findall(svg)]
    assert len(boxes) == 9
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_broken_candidate_is_drawn_at_the_edge_and_squeezes_nothing() -> None:
    svg = plot_front(sample.matrix().targets[0])
    assert "onnx/int8-static 54.2% ↓" in svg
    ticks = re.findall(r'class="tick" text-anchor="end">([\d.]+)<', svg)
    assert min(float(tick) for tick in ticks) > 80


def test_gate_limits_are_drawn_on_both_axes() -> None:
    svg = plot_front(sample.matrix().targets[0])
    assert svg.count('class="limit"') == 2
    assert "gate: at most 6 ms" in svg
    assert "gate: source − 2 points" in svg


def test_an_emulated_target_is_drawn_over_size() -> None:
    svg = plot_front(sample.matrix().targets[2])
    assert "Size (MB)" in svg
    assert " ms" not in svg


def test_every_runtime_has_a_marker_and_colour_of_its_own() -> None:
    drawn = [marker(10, 10, series_of(name)) for name in (*KNOWN, "a runtime of the user's")]
    assert len(set(drawn)) == len(KNOWN) + 1


def test_a_language_model_is_drawn_by_what_is_better_the_higher() -> None:
    """Its first metric by name is a loss; only the headline may be the height of a front."""
    from edgeft.report.limits import quality_metric

    found = tiny(metrics=("nll", "perplexity", "token_accuracy"))
    assert quality_metric(found) == "token_accuracy"
    assert quality_metric(tiny(metrics=("nll", "artifact_mb"))) is None


LIMIT = {False: {"at_least": 0.5}, True: {"at_most": 0.5}}


def test_percentages_are_the_same_in_gates_and_reports() -> None:
    from edgeft.evaluate.sentences import in_percent
    from edgeft.gate import Gate
    from edgeft.report.words import amount

    for metric in ("accuracy", "pixel_accuracy", "label_accuracy", "token_accuracy", "flip_rate", "sensitivity_x"):
        gate = Gate(metric=metric, **LIMIT[metric == "flip_rate"])
        assert amount(metric, 0.91) == "91.0%" and in_percent(gate), metric
    assert amount("mean_dice", 0.91) == "0.910" and not in_percent(Gate(metric="mean_dice", at_least=0.5))


def tiny(metrics: tuple[str, ...]) -> TargetRow:
    """A target with one candidate of these metrics."""
    row = CandidateRow(
        name="onnx/float", exporter="onnx", runtime="onnxruntime", variant={}, status="eligible", why="",
        metrics=[Measurement(name, 0.5, "", 9, "measured", "here").to_json() for name in metrics],
    )  # fmt: skip
    return sample.matrix().targets[0].model_copy(update={"candidates": [row]})


def test_a_target_without_numbers_has_no_picture() -> None:
    empty = CandidateRow(name="a", exporter="onnx", runtime="onnxruntime", variant={}, status="unsupported", why="")
    assert plot_front(sample.target().model_copy(update={"candidates": [empty]})) == ""
