"""One record, three readers: JUnit XML for CI, Markdown for a pull request, lines for a terminal."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Tree

import pytest

from edgeft.report.check import check_lines, check_markdown
from edgeft.report.check_junit import check_junit
from tests.check.sample import HOSTILE, sample_record, sample_verdict

SUITE = {
    "name": r"\S+", "timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", "hostname": r"\S+", "tests": r"\d+", "failures": r"\d+",
    "errors": r"\d+", "time": r"\d+(\.\d+)?", "package": r"\S+", "id": r"\d+",
}  # fmt: skip
CASE = {"name": r"\S.*\S", "classname": r"\S+", "time": r"\d+(\.\d+)?"}


def require_schema(text: str) -> Tree.Element:
    """The suite, after every rule of the Ant JUnit schema (windyroad/JUnit-Schema, the strictest in use) that concerns
    what is written here: elements and their order, required attributes and no others, their forms."""
    root = Tree.fromstring(text)
    assert root.tag == "testsuites" and not root.attrib and [child.tag for child in root] == ["testsuite"]
    suite = root[0]
    check_attributes(suite, SUITE)
    order = ["properties", *["testcase"] * int(suite.get("tests", "")), "system-out", "system-err"]
    assert [child.tag for child in suite] == order
    for row in suite[0]:
        assert row.tag == "property" and set(row.attrib) == {"name", "value"} and row.get("name")
    for case in suite.iter("testcase"):
        check_attributes(case, CASE)
        assert len(case) <= 1 and all(child.tag in ("failure", "error") for child in case)
        assert all(set(child.attrib) == {"type", "message"} and not len(child) for child in case)
    for tag, count in (("failure", "failures"), ("error", "errors")):
        assert len(list(suite.iter(tag))) == int(suite.get(count, ""))
    return suite


def check_attributes(element: Tree.Element, forms: dict[str, str]) -> None:
    assert set(element.attrib) == set(forms)
    for name, form in forms.items():
        value = element.attrib[name]
        assert re.fullmatch(form, value), f"{name}={value!r}"
        assert value == " ".join(value.split()), f"{name} is no token: {value!r}"


def test_junit_has_a_case_per_verdict() -> None:
    verdicts = [sample_verdict(status, status) for status in ("PASS", "FAIL", "INCONCLUSIVE")]
    suite = require_schema(check_junit(sample_record(*verdicts)))
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert len(cases["PASS"]) == 0
    assert [child.tag for child in cases["FAIL"]] == ["failure"]
    assert [child.tag for child in cases["INCONCLUSIVE"]] == ["error"], "nothing was shown: it may not go green"
    assert cases["FAIL"][0].get("message") == "because of FAIL" and "--margin" in (cases["FAIL"][0].text or "")
    assert {row.get("name"): row.get("value") for row in suite[0]}["left-out.latency"] == "--no-latency"


def test_a_verdict_that_only_warns_fails_no_test_but_is_said() -> None:
    suite = require_schema(check_junit(sample_record(sample_verdict("FAIL", severity="warn"))))
    assert suite.get("failures") == "0" and "FAIL (warns only)" in (suite.findtext("system-out") or "")


def test_junit_holds_any_text() -> None:
    text = check_junit(sample_record(sample_verdict("FAIL", HOSTILE), text=HOSTILE))
    suite = require_schema(text.encode("utf-8").decode("utf-8"))
    assert "<img" not in text and "[x](http://h)" in (suite.findtext("system-out") or "")


def test_markdown_is_one_table_and_nothing_of_a_name_is_markup() -> None:
    text = check_markdown(sample_record(sample_verdict("FAIL", HOSTILE), sample_verdict(), text=HOSTILE))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 5, "head, rule, two verdicts, what was left out"
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {8}, "seven cells in each row"
    assert "<img" not in text and "](http" not in text.replace("\\]", "") and "`c`" not in text.replace("\\`", "")
    assert not re.search(r"[@#]\w", text) and not re.search(r"^# ", text, flags=re.MULTILINE)
    assert re.findall(r"<(\w+)", text) == ["details", "summary"], "edgeft's own, and no others"


def test_markdown_shows_verdict_interval_and_n() -> None:
    text = check_markdown(sample_record(sample_verdict("INCONCLUSIVE")))
    row = next(line for line in text.splitlines() if line.startswith("| accuracy"))
    assert (
        row
        == "| accuracy no worse | ⚠️ INCONCLUSIVE | 90.00% | 91.00% | loss +0.0100 (-0.0020 to +0.0180) | 0.02 | 1,200 |"
    )
    assert text.startswith("### edgeft check: ❌ FAIL\n") and text.endswith("\n")


@pytest.mark.parametrize("render", [check_junit, check_markdown, lambda record: "\n".join(check_lines(record))])
def test_every_reader_is_told_everything(render: object) -> None:
    """What is in the record and matters for the decision is in each of the three."""
    text = render(sample_record(sample_verdict("FAIL"), text="words"))  # type: ignore[operator]
    for said in ("FAIL", "because of accuracy no worse", "--margin", "--no-latency", "old.onnx", "words", "1200"):
        assert said in text.replace("1,200", "1200"), said
