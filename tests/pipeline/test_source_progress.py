"""The source's answers are made chunk by chunk, and their progress is told of all cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeft.data.table import read_split
from edgeft.pipeline.steps import answers
from tests.stages.world import make_world

pytestmark = pytest.mark.ml


def test_progress_runs_once_through_all_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world(tmp_path)
    tuned = world.run({"method": "full", "max_steps": 1})
    ctx = world.context("source")
    rows = read_split(ctx.splits["validation"].path)
    monkeypatch.setattr(answers, "cases_per_chunk", lambda prepared: 1000)
    whole = answers.source_outputs({"model": tuned}, rows, ctx)
    world.progress.clear()
    monkeypatch.setattr(answers, "cases_per_chunk", lambda prepared: 20)
    parts = answers.source_outputs({"model": tuned}, rows, ctx)
    np.testing.assert_allclose(parts["logits"], whole["logits"], atol=1e-5)
    assert [(event.done, event.total) for event in world.progress] == [(20, 48), (40, 48), (48, 48)]
