"""The search on a target's page and in the terminal."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from edgeft.report import render_html, summary_lines
from edgeft.report.search import evaluations_table, layers_table, plot_search, search_sentence
from edgeft.report.sensitivity import histogram, plot_curves, plot_noise
from tests.report import sample
from tests.report.sample_search import LAYERS, sample_search


def searched(most: int = 64):  # type: ignore[no-untyped-def]
    record = sample.record()
    target = record.targets[0].model_copy(update={"search": sample_search(most)})
    return record.model_copy(update={"targets": [target]})


def test_the_page_says_which_layers_stay_in_float_at_what_cost_in_how_many_evaluations() -> None:
    record = searched()
    search = record.targets[0].search
    kept = [layer.name for found in search.sensitivity for layer in found.layers if layer.kept]
    assert set(kept) == {LAYERS[9].name, LAYERS[28].name}, "the oracle's two bad layers"
    page, lines = render_html(record), "\n".join(summary_lines(record))
    for text in (page, lines):
        assert "Keeping 2 of 37 layers in float recovers 4.3 points of accuracy for 0.22 ms (estimated)." in text
        assert f"Found by evaluation 22 of {len(search.evaluations)}." in text
        assert all(name in text for name in kept)


def test_every_evaluation_is_in_the_table_and_only_scored_ones_pass_or_fail() -> None:
    search = sample_search()
    rows = evaluations_table(search).rows
    assert len(rows) == len(search.evaluations)
    answers = {row.cells[1].text: row.cells[7].text for row in rows}
    assert answers["keep one"] == "–" and answers["finalist"] in ("passes", "no")


def test_the_pictures_are_well_formed_and_show_every_measured_layer() -> None:
    search = sample_search()
    found = search.sensitivity[0]
    noise = ET.fromstring(plot_noise(found))
    bars = list(noise.iter("{http://www.w3.org/2000/svg}rect"))
    assert len(bars) == len(LAYERS)
    assert sum("s1" in item.get("class", "") for item in bars) == 2
    for svg in (plot_search(search), plot_curves(found), histogram(found.layers[0])):
        ET.fromstring(svg)
    assert "quantise one" in {row.purpose for row in search.evaluations}
    assert all(row.quantise_one is not None for row in found.layers if row.keep_one is not None)


def test_the_kept_layers_lead_the_table() -> None:
    search = sample_search()
    table = layers_table(search.sensitivity[0], "ms")
    assert [row.chosen for row in table.rows][:3] == [True, True, False]


def test_layers_go_by_the_names_of_their_weights_and_the_graphs_names_stay_the_keys() -> None:
    record = searched()
    search = record.targets[0].search
    kept = LAYERS[9].name
    found = search.sensitivity[0]
    layers = [
        row.model_copy(update={"label": f"bert.{row.name}", "name": f"node_{index}"})
        for index, row in enumerate(found.layers)
    ]
    key = layers[9].name
    rows = [row.model_copy(update={"kept": [key]}) if row.kept == [kept] else row for row in search.evaluations]
    found = found.model_copy(update={"layers": layers})
    search = search.model_copy(update={"sensitivity": [found], "evaluations": rows})
    target = record.targets[0].model_copy(update={"search": search})
    lines = "\n".join(summary_lines(record.model_copy(update={"targets": [target]})))
    assert f"in float: bert.{kept} (" in lines and f"in float: {key}" not in lines
    cells = [line.cells[0] for line in layers_table(found, "ms").rows]
    assert cells[0].text == f"bert.{kept}" and cells[0].small.startswith(f"{key}, MatMul, ")
    asked = [line.cells[2].small for line in evaluations_table(search).rows]
    assert f"in float: bert.{kept}" in asked
    for svg in (plot_noise(found), plot_curves(found)):
        assert f"bert.{kept}" in svg and key not in svg


def test_why_nothing_was_found_is_said_as_it_is() -> None:
    record = searched()
    search = record.targets[0].search
    empty = search.model_copy(update={"evaluations": [], "best": None, "stopped": "onnx/float: it does not load"})
    assert search_sentence(empty) == "No compressed candidate was tried: onnx/float: it does not load."
    refused = [row.model_copy(update={"passes": False}) for row in search.evaluations]
    assert "It found nothing that passes." in search_sentence(
        search.model_copy(update={"evaluations": refused, "best": None})
    )
    passing = sum(bool(row.passes) for row in search.evaluations)
    dear = f"nothing that costs less than float: {passing} evaluations passed, none cheaper."
    assert passing and dear in search_sentence(search.model_copy(update={"best": None}))


def test_an_evaluation_that_passes_and_costs_more_than_float_says_why_it_is_not_taken() -> None:
    search = sample_search(float_cost=3.1, damage=0.01)
    passing = [row for row in search.evaluations if row.passes]
    assert search.best is None and passing
    assert passing[0].why == "not taken: 3.1 ms, float costs 3.1 ms"
    assert not [row for row in sample_search().evaluations if row.why.startswith("not taken")]


def test_where_nothing_passes_the_front_of_what_was_refused_is_drawn() -> None:
    record = searched(most=9)
    search = record.targets[0].search
    by_number = {row.number: row for row in search.evaluations}
    front = [by_number[number] for number in search.front]
    assert search.best is None and len(front) > 1 and not any(row.passes for row in front)
    assert [row.cost for row in front] == sorted(row.cost for row in front)
    far = [row.divergence for row in front]
    assert far == sorted(far, reverse=True), "each dearer one is closer to float"
    drawn = ET.fromstring(plot_search(search))
    svg = "{http://www.w3.org/2000/svg}"
    assert len([line for line in drawn.iter(f"{svg}path") if line.get("class") == "front"]) == 1
    dots = [dot.get("class", "") for dot in drawn.iter(f"{svg}circle")]
    assert len(dots) >= len(front) and all("hollow s3" in name for name in dots)
    assert "Cost against divergence" in render_html(record)


def test_where_nothing_passes_the_nearest_refused_is_named() -> None:
    record = searched(most=9)
    assert record.targets[0].search.best is None
    lines = "\n".join(summary_lines(record))
    nearest = next(line for line in lines.splitlines() if "nearest refused" in line)
    assert "onnx/int8-static-average-mixed-" in nearest and "chance to pass 0.64, asked 0.80" in nearest
    assert "budget of 9 evaluations is spent" in lines
