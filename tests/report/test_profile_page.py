"""The page of `edgeft profile`."""

from __future__ import annotations

import re

import pytest

from edgeft.report.comparison import comparison_sentence
from edgeft.report.profile import render_profile
from edgeft.targets.profile.record import ProfileRecord
from tests.report import sample_profile
from tests.report.test_html import FIXED, HOSTILE, assert_harmless, poison


def test_the_verdict_and_its_reasons_come_before_the_numbers() -> None:
    page = render_profile(sample_profile.invalid())
    assert (
        page.index("INVALID:</strong>") < page.index("61% of a core") < page.index("<nav") < page.index("Latency p50")
    )
    assert "INVALID, measured" in page
    assert "this runtime has no profile of its operators" in page
    assert "the work of a .pte file is not known" in page


def test_a_valid_profile_shows_every_kind_of_evidence() -> None:
    page = render_profile(sample_profile.profile())
    assert "VALID:</strong>" in page
    links = re.findall(r'href="#([^"]+)"', page)
    assert links == ["latency", "conditions", "operators", "placement", "roofline", "model", "device"]
    assert all(f'id="{link}"' in page for link in links)
    assert render_profile(sample_profile.profile()) == page


def test_a_comparison_says_which_is_faster_with_its_interval() -> None:
    record = sample_profile.compared()
    said = "sample-router.tflite is 1.88× as fast as peer.onnx (95% interval 1.87× to 1.90×)."
    assert comparison_sentence(record.comparison) == said
    assert said in render_profile(record)
    assert record.comparison is not None
    level = record.comparison.model_copy(update={"ratio": 0.99, "interval": (0.97, 1.02)})
    assert "no difference shown" in comparison_sentence(level)
    busy = record.comparison.model_copy(update={"valid": False, "reasons": ["other work ran"]})
    assert "INVALID" in comparison_sentence(busy)
    assert "other work ran" in render_profile(record.model_copy(update={"comparison": busy}))


@pytest.mark.parametrize("number", [0.0, -1.0, float("inf"), float("nan")])
def test_an_absurd_ratio_is_shown_without_a_picture(number: float) -> None:
    record = sample_profile.compared()
    assert record.comparison is not None
    absurd = record.comparison.model_copy(update={"ratio": number, "interval": (number, number)})
    page = render_profile(record.model_copy(update={"comparison": absurd}))
    assert not re.search(r'(?:cx|x1|x2)="[^"]*(?:nan|inf)', page)


def test_hostile_names_stay_text() -> None:
    raw = poison(sample_profile.compared().model_dump(mode="json"), HOSTILE, FIXED | {"protocol", "verdict"})
    page = render_profile(ProfileRecord.model_validate(raw))
    assert_harmless(page)
    assert "<script" not in page
    assert "alert(1)" in page
