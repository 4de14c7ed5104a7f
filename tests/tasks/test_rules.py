"""Rules without a network: the best bounds are the best there are, and they are fitted on the train split alone."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from edgeft.errors import RecipeError
from edgeft.recipe.load import load_recipe
from edgeft.tasks.rules import RULES, Thresholds, _band_dice, best_bounds


def masks_by_bounds(grey: Any, order: list[int], bounds: tuple[int, ...]) -> Any:
    import numpy as np

    return np.array(order, np.uint8)[sum((grey >= level).astype(int) for level in bounds)]


def test_bounds_are_the_best_of_all_by_the_tasks_own_score() -> None:
    """Brute force over every pair of a coarse picture, scored as the task scores cases: Dice per case, empty is 1."""
    import numpy as np

    from edgeft.tasks.mask_answers import overlaps

    draw = np.random.default_rng(3)
    levels = np.array([10, 60, 90, 130, 170, 220])
    truth = draw.integers(0, 3, (4, 12, 10)).astype(np.uint8)
    truth[3][truth[3] == 2] = 0  # a case without one of the labels
    grey = levels[np.clip(truth * 2 + draw.integers(-1, 2, truth.shape), 0, 5)].astype(np.uint8)
    counts = np.zeros((4, 3, 256), np.int64)
    for case, label in itertools.product(range(4), range(3)):
        counts[case, label] = np.bincount(grey[case][truth[case] == label], minlength=256)
    order = [0, 1, 2]
    bounds, value = best_bounds([_band_dice(counts, label) for label in order])

    def score(pair: tuple[int, ...]) -> float:
        answered = masks_by_bounds(grey, order, pair)
        confusion = np.stack([
            np.bincount((t.astype(int) * 3 + a).ravel(), minlength=9).reshape(3, 3) for t, a in zip(truth, answered, strict=True)
        ])  # fmt: skip
        return float(overlaps(confusion)[0].mean())

    cuts = [0, 11, 61, 91, 131, 171, 221, 256]
    best = max(score((low, high)) for low in cuts for high in cuts if low <= high)
    assert value == pytest.approx(best) and score(tuple(bounds)) == pytest.approx(best)
    assert best > score((11, 221))


def test_thresholds_learn_on_the_real_template(tmp_path: Path) -> None:
    """Two bounds give a mean Dice of about 0.9 on clean slices, and what they answer is what the task scores."""
    pytest.importorskip("nilearn")
    from edgeft.data.table import read_split
    from edgeft.tasks.segmentation import Segmentation
    from tests.stages.slices import LABELS, Slices

    slices = Slices(tmp_path / "world", scanners=("plain",))
    train = read_split(slices.root / "data/train.parquet")
    rule = Thresholds()
    fitted = rule.fit(train, LABELS, slices.root / "prepared")
    assert fitted["order"] == [0, 1, 2] and 0 < fitted["bounds"][0] < fitted["bounds"][1] < 255
    outputs = rule.answer(fitted, train, LABELS, slices.root / "prepared")
    score = Segmentation().score(outputs, train, LABELS)
    assert score.metrics["mean_dice"] == pytest.approx(fitted["train_mean_dice"], abs=1e-9)
    assert 0.8 < score.metrics["mean_dice"] < 1
    assert fitted["says"].startswith("two thresholds on the brightness (grey from ")
    gate = read_split(slices.root / "data/gate.parquet")
    answered = rule.answer(fitted, gate, LABELS, slices.root / "prepared")
    assert answered["classes"].shape == (gate.num_rows, 48, 24)


def test_majority_answers_one_label() -> None:
    import pyarrow as pa

    rows = pa.table({"label": pa.array([2, 1, 2, 0, 2])})
    rule = RULES["majority"]
    fitted = rule.fit(rows, ("a", "b", "c"), Path())
    assert fitted["says"] == "the most frequent label (c)"
    assert rule.answer(fitted, rows, ("a", "b", "c"), Path())["logits"].argmax(1).tolist() == [2] * 5


@pytest.mark.parametrize(
    ("sets", "what"),
    [
        (["baseline=majority"], "majority is no rule for segmentation"),
        (["steps=[]", "model.initialise=false", "model.weights=WEIGHTS"], "nothing trains"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_at_its_line(tmp_path: Path, sets: list[str], what: str) -> None:
    from edgeft.pipeline.steps.rule import check_rule

    (weights := tmp_path / "w.safetensors").touch()
    loaded = load_recipe("edgeft:medical/brain-tissue", [text.replace("WEIGHTS", str(weights)) for text in sets])
    with pytest.raises(RecipeError, match=what):
        check_rule(loaded)
