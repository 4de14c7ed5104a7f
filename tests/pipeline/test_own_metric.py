"""A user's own metric: it decides a gate, and one that raises costs no opening of the gate set."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.pipeline.conftest import Workbench

pytestmark = pytest.mark.ml
GATE = "  - {metric: artifact_mb"
OWN = "  - {metric: 'score.py:hit', no_worse_than: source, margin: 0.3, at_worst: 1}\n"


def test_own_metric_decides_and_a_broken_one_is_found_before_the_opening(workbench: Callable[..., Workbench]) -> None:
    bench = workbench(fresh=True, replace=[(GATE, OWN + GATE), ("margin: 0.08}", "margin: 0.08, severity: warn}")])
    score = bench.folder / "score.py"
    score.write_text("def hit(logits, labels, rows):\n    return 1 / 0\n")
    broken = bench.run("build", "recipe.yaml")
    assert broken.returncode == 3
    assert "score.py:2" in broken.stderr and "ZeroDivisionError" in broken.stderr
    assert bench.record()["openings"] == []
    score.write_text("def hit(logits, labels, rows):\n    return (logits.argmax(1) == labels).astype(float)\n")
    mended = bench.run("build", "recipe.yaml")
    assert mended.returncode == 0, mended.stderr + mended.stdout
    record = bench.record()
    assert len(record["openings"]) == 1
    verdict = next(row for row in record["targets"][0]["verdicts"] if row["metric"].endswith("score.py:hit"))
    assert verdict["status"] == "PASS"
