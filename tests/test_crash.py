"""The crash bench itself: a few trials of each kind, and a loss that it has to see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.crash import Trial, bad, judge, run_trials, table
from bench.crash_damage import DAMAGES

pytestmark = pytest.mark.ml


@pytest.mark.parametrize(
    "counts",
    [
        {"term": 1, "damage": 2},  # kills: tests/pipeline/test_robust.py
        pytest.param({"kill": 8, "term": 4, "damage": len(DAMAGES), "disk": 3, "device": 2}, marks=pytest.mark.slow),
    ],
    ids=["everyday", "full"],
)
def test_a_few_trials_of_each_kind_lose_nothing(tmp_path: Path, counts: dict[str, int]) -> None:
    trials = run_trials(tmp_path, counts, seed=5, say=print)
    assert bad(trials) == [], table(trials)
    assert {trial.kind for trial in trials} == set(counts)


class Told:
    """A build that ends and prints what the test says."""

    def __init__(self, code: int, text: str) -> None:
        self.code, self.words = code, text

    def wait(self) -> int:
        return self.code

    def text(self) -> str:
        return self.words

    said = text


class OneBuild:
    """As much of a World as `judge` uses."""

    code = 0
    base = Path("base")

    def __init__(self, code: int = 0, text: str = "", digests: dict[str, str] | None = None) -> None:
        self.told, self.found = Told(code, text), digests or {"a": "1"}

    def start(self, folder: Path, warm: bool = True) -> Told:
        return self.told

    def digests(self, folder: Path) -> dict[str, str]:
        return {"a": "1"} if folder == self.base else self.found


@pytest.mark.parametrize(
    ("world", "needle", "left", "outcome"),
    [
        (OneBuild(), "", "", "same digests"),
        (OneBuild(text="x is set aside"), "set aside", "", "named, same digests"),
        (OneBuild(digests={"a": "2"}), "", "", "OTHER DIGESTS"),
        (OneBuild(digests={"b": "1"}), "", "", "OTHER DIGESTS"),
        (OneBuild(), "set aside", "", "SILENT"),
        (OneBuild(code=3), "", "", "ENDED WITH 3"),
        (OneBuild(text="this is a fault of edgeft itself"), "", "", "FAULT"),
        (OneBuild(), "", "out/.tiny.12", "LEFT BEHIND"),
        (OneBuild(), "", "store/tmp/12-1-aa", "LEFT BEHIND"),
    ],
)
def test_a_loss_is_seen(tmp_path: Path, world: Any, needle: str, left: str, outcome: str) -> None:
    (tmp_path / "out/tiny").mkdir(parents=True)
    if left:
        (tmp_path / left).mkdir(parents=True)
    found, _ = judge(world, tmp_path, needle)
    assert found == outcome
    trial = Trial("kill", "SIGKILL", "finetune", found)
    assert (bad([trial]) == []) == (outcome in ("same digests", "named, same digests"))
    assert outcome in table([trial])
