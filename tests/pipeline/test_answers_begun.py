"""Answers of a shorter run are taken over: each row keeps its own, and only what is missing is run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from edgeft.artifact import Artifact
from edgeft.pipeline.steps.answers import known_answers, thin_index
from edgeft.pipeline.steps.arrays import save_arrays
from edgeft.targets.search.asking import spaced


@pytest.mark.parametrize(
    ("total", "few", "many"), [(45, 4, 8), (45, 8, None), (586, 8, 128), (586, 128, None), (50, 7, 20), (6, 6, None)]
)
def test_known_and_fresh_answers_join_in_the_order_of_the_rows(
    total: int, few: int, many: int | None, tmp_path: Path
) -> None:
    truth = np.arange(total, dtype=np.float32)[:, None] * [1.0, -1.0]
    save_arrays(tmp_path / "outputs.npz", {"logits": truth[spaced(total, few)]})
    known = known_answers(Artifact("outputs", tmp_path, "0" * 64, {"n": few}), total, many)
    wanted = np.array(thin_index(total, many) or range(total))
    assert not set(wanted[known.missing]) & set(spaced(total, few)), "nothing is run twice"
    assert len(known.missing) + len(known.rows) == len(wanted)
    asked: list[int] = []

    def answer(rows: pa.Table) -> dict[str, np.ndarray]:
        asked.extend(rows["place"].to_pylist())
        return {"logits": truth[rows["place"].to_pylist()]}

    joined = known.complete(pa.table({"place": wanted}), answer)
    assert asked == wanted[known.missing].tolist(), "where nothing is missing, nothing is run"
    np.testing.assert_array_equal(joined["logits"], truth[wanted])
