"""`edgeft check --split-salt`: cases that a side was trained on are told, and pass nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from edgeft import cli
from tests.check import kit
from tests.check.conftest import Ask

pytestmark = pytest.mark.ml
SALT = bytes(range(32))
WORDS = "same --baseline base --data grouped.csv --no-latency --no-size"


@pytest.fixture
def grouped(world: Path, text_csv: Path) -> list[str]:
    """grouped.csv: text, label, group of the test rows; salt.txt. Returns the groups, sorted."""
    with text_csv.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))[1::2]
    kit.write_table(world / "grouped.csv", [tuple(row.values()) for row in rows], list(rows[0]))
    (world / "salt.txt").write_text(SALT.hex() + "\n")
    return sorted({row["group"] for row in rows})


def test_a_side_that_was_trained_on_cases_passes_nothing(world: Path, grouped: list[str], ask: Ask) -> None:
    kit.add_groups(world / "same", SALT, {"train": grouped[:3], "search": grouped[3:5]}, "group")
    kit.add_groups(world / "base", bytes(32), {"train": grouped[:1], "gate": grouped[1:]}, "group")
    code, record = ask(f"{WORDS} --split-salt salt.txt --margin 0.05")
    (verdict,) = record["verdicts"]
    assert code == 5 and verdict["status"] == "INCONCLUSIVE" and "that is no PASS" in verdict["why"]
    assert record["data"]["trained"] > 0 and "the candidate was trained on" in verdict["why"]
    assert "the baseline was trained" not in verdict["why"], "its build had another salt"
    assert any("no case stands in the baseline's" in note and "another build's" in note for note in record["notes"])
    assert any(
        "the candidate's build used more of the cases" in note and "of search" in note for note in record["notes"]
    )
    (world / "other.txt").write_text(bytes(32).hex())
    code, record = ask(f"{WORDS} --split-salt salt.txt --split-salt other.txt --margin 0.05")
    assert code == 5 and "and the baseline was trained on" in record["verdicts"][0]["why"]


def test_what_fails_stays_failed_and_is_told(world: Path, texts: kit.Texts, grouped: list[str], ask: Ask) -> None:
    kit.text_bundle(world / "bad", texts, kit.worse(texts.weights, 0.8))
    kit.add_groups(world / "base", SALT, {"train": grouped}, "group")
    code, record = ask(f"{WORDS.replace('same', 'bad')} --split-salt salt.txt")
    assert code == 1 and any("was trained on 480 of the 480 cases" in note for note in record["notes"])


def test_cases_that_no_side_saw_pass_as_ever(world: Path, grouped: list[str], ask: Ask) -> None:
    kit.add_groups(world / "base", SALT, {"train": ["elsewhere"], "gate": grouped}, "group")
    code, record = ask(f"{WORDS} --split-salt salt.txt --margin 0.05")
    assert code == 0 and record["data"]["trained"] == 0
    assert any("the candidate holds no split_groups.csv" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("salt", "data", "column", "said"),
    [
        ("abc", "grouped.csv", "group", "this file is no salt"),
        ("ab" * 31, "grouped.csv", "group", "a salt has 32 bytes, this 31"),
        (SALT.hex(), "grouped.csv", None, "rows of source 'csv' by their numbers"),
        (SALT.hex(), "grouped.csv", "patient", "no column 'patient'"),
        (SALT.hex(), "", "group", "there are no cases to look up"),
    ],
)
def test_what_cannot_be_looked_up_is_refused(
    salt: str, data: str, column: str | None, said: str, world: Path, grouped: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (world / "salt.txt").write_text(salt)
    kit.add_groups(world / "base", SALT, {"train": grouped}, column)
    words = ["check", "same", "--baseline", "base", "--split-salt", "salt.txt", "--no-latency"]
    assert cli.main([*words, *(["--data", data] if data else [])]) == 2
    assert said in capsys.readouterr().err


def test_sides_that_group_by_different_columns_are_refused(
    world: Path, grouped: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for side, column in (("same", "group"), ("base", "label")):
        kit.add_groups(world / side, SALT, {"train": grouped}, column)
    assert cli.main(["check", *WORDS.split(), "--split-salt", "salt.txt"]) == 2
    assert "the candidate's are values of the column 'group' and the baseline's" in capsys.readouterr().err


def test_a_bundle_without_splits_cannot_be_asked(
    world: Path, grouped: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", *WORDS.split(), "--split-salt", "salt.txt"]) == 2
    assert "neither side is a bundle with split_groups.csv" in capsys.readouterr().err
