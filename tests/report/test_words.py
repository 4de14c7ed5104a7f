"""Terminal lines, the model card, numbers in words, ticks and label places."""

from __future__ import annotations

import json
import re

import pytest
from ruamel.yaml import YAML

from edgeft.record import RunRecord
from edgeft.report import render_model_card, summary_lines, target_sentence
from edgeft.report.svg import MOST_TICKS, Frame, Scale, log_ticks, nice_ticks, tick_text
from edgeft.report.words import bytes_text, interval_text, seconds_text, significant
from tests.report import sample


def test_the_sentence_compares_with_float_and_source() -> None:
    assert target_sentence(sample.target()) == (
        "int8-dynamic in ONNX Runtime on local-cpu: 2.6× faster and 3.9× smaller than the float export, accuracy 91.2% vs 91.5%"
    )


def test_slower_and_larger_are_said_as_such() -> None:
    rows = sample.candidates("d")
    worse = sample.target().model_copy(
        update={
            "candidates": [
                rows[1].model_copy(update={"name": "float", "variant": {}}),
                rows[0].model_copy(update={"name": "int8-dynamic", "variant": {}}),
            ]
        }
    )
    assert "2.6× slower and 3.9× larger than the float export" in target_sentence(worse)


def test_summary_lines_name_outcome_reason_and_report() -> None:
    lines = summary_lines(sample.failed(), report="out/docs-router/report.html")
    assert lines[0].startswith("FAIL: docs-router: may not ship")
    assert any("FAIL  accuracy 85.7% against 91.5%" in line for line in lines)
    assert lines[-1] == "report: out/docs-router/report.html"
    error = summary_lines(sample.stopped_by_error())
    assert "  error: finetune: loss became NaN at step 37" in error
    assert any(line.startswith("  hint: lower learning_rate") for line in error)


def test_the_terminal_is_not_steered_by_content() -> None:
    record = sample.record(name="a\x1b[2Jb", warnings=["c\rd\x07\u202ee"])
    text = "\n".join(summary_lines(record))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)


def test_the_card_has_front_matter_that_yaml_reads() -> None:
    record = sample.record(model={"path": "sentence-transformers/all-MiniLM-L6-v2"}, name='x"\n---\nlicense: mit')
    card = render_model_card(record, record.targets[0])
    front = YAML(typ="safe").load(card.split("---\n")[1])
    assert front["license"] == "unknown"
    assert front["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert front["model-index"][0]["results"][0]["metrics"][0]["type"] == "accuracy"
    assert '\n# x"' in card
    assert "-0.3 to 0.9 points" in card
    assert "licence is not known" in card
    assert "opened 2 times" in card


@pytest.mark.parametrize(
    ("licence", "named"),
    [("apache-2.0", "apache-2.0"), ("see the text", "other"), ('x"\nlicense: mit', 'x"\nlicense: mit')],
)
def test_the_card_has_the_base_models_licence(licence: str, named: str) -> None:
    record = sample.record()
    card = render_model_card(record, record.targets[0], (licence, "README.md of the model"))
    assert YAML(typ="safe").load(card.split("---\n")[1])["license"] == named
    assert "not known" not in card and "the base model's (" in card


def test_the_card_of_an_emulated_target_states_its_limit() -> None:
    record = sample.two_targets()
    card = render_model_card(record, record.targets[1])
    assert "was emulated" in card
    assert "latency p" not in card.lower()


def test_the_card_escapes_markup() -> None:
    raw = sample.record().model_dump(mode="json")
    raw["description"] = "<script>x</script> [a](javascript:b) | `c`\n# head"
    card = render_model_card(RunRecord.model_validate(raw), sample.target())
    assert "<script>" not in card
    assert "[a\\](javascript" in card
    assert not re.search(r"(?<!\\)\]\(javascript", card)
    assert "\n# head" not in card


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (4.3105, "4.31"),
        (22.94, "22.9"),
        (1480.2, "1,480"),
        (0.01234, "0.0123"),
        (0.5, "0.500"),
        (4e-6, "4.00e-06"),
        (-3.2, "-3.20"),
        (9.999, "10.00"),
    ],
)
def test_significant(value: float, text: str) -> None:
    assert significant(value) == text


def test_words_for_bytes_seconds_and_intervals() -> None:
    assert [bytes_text(n) for n in (12, 22_900, 22_900_000, 3_000_000_000)] == ["12 B", "22.9 kB", "22.9 MB", "3.00 GB"]
    assert [seconds_text(s) for s in (0.84, 42.4, 250, 7500)] == ["0.8 s", "42 s", "4 min 10 s", "2 h 05 min"]
    assert interval_text("latency_p50_ms", [4.25, 4.4]) == "4.25 to 4.40"
    assert interval_text("first_inference_ms", [0.55, 4.86]) == "0.55 to 4.86"  # not 1 to 5: the value is 0.69
    assert interval_text("accuracy", [0.898, 0.926]) == "89.8% to 92.6%"
    assert interval_text("latency_p50_ms", None) == ""


def test_ticks_are_round_and_inside() -> None:
    assert nice_ticks(0, 15.5, 6) == [0, 5, 10, 15]
    assert nice_ticks(87.4, 93.2, 5) == [88, 90, 92]
    assert nice_ticks(3, 3) == [3]
    assert [tick_text([0.5, 1.0, 1.5])(x) for x in (0.5, 1.0)] == ["0.5", "1.0"]
    assert [tick_text([0, 5e-5, 1e-4])(x) for x in (0, 5e-5, 1.5e-4)] == ["0", "5e-5", "1.5e-4"]


def test_logarithmic_ticks_are_round_and_few() -> None:
    assert log_ticks(2.2, 16.5) == [3, 4, 5, 6, 8, 10, 15]
    assert log_ticks(0.8, 1200) == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    assert len(log_ticks(1e-30, 1e30)) <= MOST_TICKS
    assert log_ticks(1.01, 1.04) == [1.01, 1.02, 1.03, 1.04]


def test_a_logarithmic_scale_maps_ratios_to_distances() -> None:
    scale = Scale(1.0, 100.0, 0.0, 200.0, log=True)
    assert (scale(1), scale(10), scale(100)) == (0, 100, 200)
    assert scale(-1.0) < 0  # a number that no ratio has is drawn outside, not raised


def test_a_frame_maps_its_ends() -> None:
    frame = Frame.over(100, 100, (0, 10), (0, 1), left=20, pad=0)
    assert (frame.x(0), frame.x(10), frame.y(0), frame.y(1)) == (20, 86, 60, 26)


def test_the_record_of_the_card_is_json_clean() -> None:
    assert json.loads(json.dumps(sample.target().verdicts)) == sample.target().verdicts
