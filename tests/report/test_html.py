"""The page says the outcome first, shows every part there is, and lets no content become markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from edgeft.record import RunRecord
from edgeft.report import render_html
from edgeft.report.words import OUTCOMES
from tests.report import sample

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)></style></title>{{ 7*7 }}\u202e|`*"


def poison(value: Any, text: str, keys: frozenset[str]) -> Any:
    """Every string of a record replaced, but for the fields that only take fixed words."""
    if isinstance(value, dict):
        return {key: item if key in keys else poison(item, text, keys) for key, item in value.items()}
    if isinstance(value, list):
        return [poison(item, text, keys) for item in value]
    return text if isinstance(value, str) else value


FIXED = frozenset({"status", "state", "how", "chosen", "metric", "name"})


@pytest.mark.parametrize("build", sample.EVERY.values(), ids=sample.EVERY)
def test_every_kind_of_build_has_a_report_that_leads_with_its_outcome(build: Callable[[], RunRecord]) -> None:
    record = build()
    page = render_html(record)
    word, rest = OUTCOMES[record.status]
    assert f'{word}:</strong> <span class="rest">{rest}' in page
    assert page.index(word) < page.index("<nav")
    assert render_html(record) == page
    for target in record.targets:
        for row in target.candidates:
            assert row.name in page


def test_a_failed_build_says_why_before_anything_else() -> None:
    record = sample.failed()
    page = render_html(record)
    why = record.targets[0].verdicts[0]["why"]
    assert page.index(why) < page.index("<nav") < page.index("<main")
    error = render_html(sample.stopped_by_error())
    assert error.index("loss became NaN at step 37") < error.index("lower learning_rate") < error.index("<nav")


def test_hostile_content_stays_text() -> None:
    raw = sample.two_targets().model_dump(mode="json")
    raw |= {"error": sample.stopped_by_error().model_dump(mode="json")["error"]}
    record = RunRecord.model_validate(poison(raw, HOSTILE, FIXED))
    page = render_html(record)
    assert "<script" not in page
    assert "<img" not in page
    assert "alert(1)" in page
    assert "{{ 7*7 }}" in page
    assert page.count("</style>") == 1
    assert page.count("</title>") == 1 + _titles(page)
    assert_harmless(page)


class Tags(HTMLParser):
    """Every element and attribute a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}


def assert_harmless(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert not tags.names & {"script", "img", "iframe", "object", "embed", "link", "base", "form"}
    assert not {name for name in tags.attributes if name.startswith("on") or name in ("src", "srcdoc", "xlink:href")}


def _titles(page: str) -> int:
    """Closing title tags within pictures, which each have their own."""
    return sum(svg.count("</title>") for svg in re.findall(r"<svg.*?</svg>", page, re.S))


def test_hostile_names_stay_text() -> None:
    raw = sample.record().model_dump(mode="json")
    raw["name"] = raw["targets"][0]["device"] = HOSTILE
    row = raw["targets"][0]["candidates"][1]
    row["name"] = raw["targets"][0]["chosen"] = HOSTILE
    row["metrics"].append({**row["metrics"][0], "metric": HOSTILE})
    raw["targets"][0]["gate_set"]["artefact"][HOSTILE] = 0.5
    raw["environment"][HOSTILE] = HOSTILE
    raw["training"][0]["metric"] = HOSTILE
    page = render_html(RunRecord.model_validate(raw))
    assert_harmless(page)
    assert "alert(2)" in page


def test_the_page_fetches_and_runs_nothing() -> None:
    page = render_html(sample.record())
    assert "default-src 'none'" in page
    addresses = re.findall(r"""(?:src|href|url|action|data)\s*[=(]\s*["']?([^"')\s>]+)""", page)
    assert all(address.startswith("#") for address in addresses)
    assert "<script" not in page
    assert "@import" not in page
    assert set(re.findall(r"https?://[^\"' <]+", page)) == {"http://www.w3.org/2000/svg"}


def test_pictures_are_well_formed_and_named() -> None:
    page = render_html(sample.record())
    pictures = re.findall(r"<svg.*?</svg>", page, re.S)
    strips, small, wide = (
        sum(f'class="{name}"' in svg for svg in pictures) for name in ("strip", "plot small", "plot")
    )
    assert (strips, small, wide) == (4 + 3, 3, 2)  # verdicts and placements; training; front and distributions
    for svg in pictures:
        root = ElementTree.fromstring(svg)
        assert root.find("{http://www.w3.org/2000/svg}title") is not None
        assert "nan" not in svg.lower().replace("nano", "")


def test_half_a_character_does_not_stop_the_report() -> None:
    """A JSON escape can smuggle in a lone surrogate, which no file can hold."""
    assert "a?b" in render_html(sample.record(name="a\ud800b"))


def test_many_classes_become_a_list_of_confusions() -> None:
    record = sample.record()
    gates = record.targets[0].gate_set
    assert gates is not None
    counts = [[100 if i == j else (9 if (i, j) == (2, 5) else 0) for j in range(30)] for i in range(30)]
    target = record.targets[0].model_copy(update={"gate_set": gates.model_copy(update={"confusion": counts})})
    page = render_html(record.model_copy(update={"targets": [target]}))
    assert 'class="confusion"' not in page
    assert "confusions among 30 classes" in page
    assert "8.3%" in page


def test_nothing_measured_under_emulation_is_called_fast() -> None:
    page = render_html(sample.two_targets())
    section = page[page.index('id="target-1"') : page.index('id="openings"')]
    assert "faster" not in section
    assert "Latency p" not in section
    assert "emulated" in section


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0, 0.0, 1e300])
def test_absurd_numbers_are_shown_not_crashed_on(number: float) -> None:
    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spoil(item) for key, item in value.items()}
        if isinstance(value, list):
            return [spoil(item) for item in value]
        return number if isinstance(value, float) else value

    for build in sample.EVERY.values():
        page = render_html(RunRecord.model_validate(spoil(build().model_dump(mode="python"))))
        assert "edgeft build report" in page
        for svg in re.findall(r"<svg.*?</svg>", page, re.S):
            assert not re.search(r'(?:x|y|cx|cy|d|width|height)="[^"]*(?:nan|inf)', svg)


def test_what_ships_is_said_to_be_rebuilt_byte_for_byte_but_for_what_is_measured() -> None:
    assert "<code>gates.json</code> (it holds measured times" in render_html(sample.record())
    assert "reproduce.json" not in render_html(sample.failed())
