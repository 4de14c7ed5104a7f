"""Cases with any number of labels: scores against scikit-learn's, splits that hold them, answers by threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from edgeft.data.labels import MOST_SEVERAL, several_labels
from edgeft.data.rows import to_rows
from edgeft.data.table import read_split, write_split
from edgeft.errors import RecipeError, StepError
from edgeft.evaluate.gates import decide_data_gate
from edgeft.evaluate.subgroups import take_cases
from edgeft.gate import Gate
from edgeft.pipeline.checks.gate_sizes import Held
from edgeft.recipe.schema import Data
from edgeft.task import SeveralTask
from edgeft.tasks.image_multilabel import ImageMultilabel, read_labels, sigmoid

LABELS = ("effusion", "mass", "nodule")
N = 600
RANDOM = np.random.default_rng(4)
PRESENT = RANDOM.random((N, 3)) < (0.4, 0.2, 0.1)
LOGITS = (RANDOM.normal(0, 1.2, (N, 3)) + np.where(PRESENT, 1.5, -1.5)).astype(np.float32)


def rows_of(present: Any) -> pa.Table:
    codes = np.asarray(present).astype(np.int64) @ (1 << np.arange(3))
    return pa.table({"label": pa.array(codes.tolist(), pa.int64())})


def scored(logits: Any, present: Any = PRESENT) -> Any:
    return ImageMultilabel().score({"logits": logits}, rows_of(present), LABELS)


def decide(metric: str, logits: Any, **keys: Any) -> Any:
    gate = Gate(metric=metric, **keys)
    return decide_data_gate(gate, "t", scored(logits), scored(LOGITS), np.arange(N), truth=np.zeros(N, np.int64))


def test_scores_are_scikit_learns() -> None:
    from sklearn.metrics import accuracy_score, average_precision_score, hamming_loss, recall_score, roc_auc_score

    score, called = scored(LOGITS), sigmoid(LOGITS) >= 0.5
    assert score.metrics["label_accuracy"] == pytest.approx(1 - hamming_loss(PRESENT, called))
    assert score.metrics["accuracy"] == pytest.approx(accuracy_score(PRESENT, called))
    for place, label in enumerate(LABELS):
        one = (PRESENT[:, place], LOGITS[:, place])
        found = decide(f"sensitivity_{label}", LOGITS, at_least=0.1)
        assert found.value == pytest.approx(recall_score(PRESENT[:, place], called[:, place]))
        assert found.n == PRESENT[:, place].sum()
        specific = decide(f"specificity_{label}", LOGITS, at_least=0.1)
        assert specific.value == pytest.approx(recall_score(~PRESENT[:, place], ~called[:, place]))
        assert decide(f"auroc_{label}", LOGITS, at_least=0.1).value == pytest.approx(roc_auc_score(*one))
        precision = decide(f"average_precision_{label}", LOGITS, at_least=0.1).value
        assert precision == pytest.approx(average_precision_score(*one))


def test_a_label_that_got_worse_fails_its_own_gate_alone() -> None:
    worse = LOGITS.copy()
    worse[:, 1] -= 3
    against = {"no_worse_than": "source", "margin": 0.15}
    assert decide("sensitivity_mass", worse, **against).status == "FAIL"
    assert decide("sensitivity_effusion", worse, **against).status == "PASS"
    assert decide("label_accuracy", worse, no_worse_than="source", margin=0.2).status == "PASS"


def test_flips_are_of_any_label() -> None:
    other = LOGITS.copy()
    other[:30, 2] *= -1
    assert decide("flip_rate", other, at_most=0.2).value == pytest.approx(30 / N)
    assert decide("flip_rate", LOGITS, at_most=0.2).value == 0


def test_subgroups_keep_their_labels() -> None:
    index = np.flatnonzero(PRESENT[:, 0])
    part = take_cases(scored(LOGITS), index)
    assert part.present is not None and part.present[:, 0].all() and len(part.called) == len(index)  # type: ignore[arg-type]


def test_answers_name_all_labels_from_their_thresholds_on() -> None:
    logits = np.log(np.array([[3.0, 1 / 4, 1 / 9], [1 / 9, 1 / 9, 1 / 9]]))  # probabilities .75 .2 .1
    plain = ImageMultilabel().answer({"logits": logits}, LABELS)
    assert [answer["label"] for answer in plain] == ["effusion", "none"]
    assert plain[0]["probabilities"]["mass"] == pytest.approx(0.2)
    low = ImageMultilabel().answer({"logits": logits}, LABELS, {"mass": 0.19, "effusion": 0.8})
    assert [answer["labels"] for answer in low] == [["mass"], []]


def rows_from(cells: list[str], **more: Any) -> Any:
    spec = Data(source="csv", path="x.csv", text="image", **more)
    table = pa.table({"image": [f"i{n}" for n in range(len(cells))], "label": cells})
    return spec, to_rows(table, spec, "image", "x.csv", several=True)


def test_a_split_holds_several_labels_and_none(tmp_path: Path) -> None:
    spec, rows = rows_from(["mass | effusion", "", "nodule", "mass|mass"])
    order, known = several_labels(rows, spec, None)
    assert order == list(LABELS)
    about = write_split(known, order, tmp_path / "x.parquet")
    assert about["classes"] == {"effusion": 1, "mass": 2, "nodule": 1} and about["n"] == 4
    split = read_split(tmp_path / "x.parquet")
    found = dict(zip(split.column("id").to_pylist(), read_labels(split, order).tolist(), strict=True))
    assert found == {"1": [1, 1, 0], "2": [0, 0, 0], "3": [0, 0, 1], "4": [0, 1, 0]}
    assert Held.of_rows(split, order, several=True).classes == about["classes"]
    held = Held.of_facts(about)
    assert held.units_for("sensitivity_mass") == 2 and held.units_for("specificity_mass") == 2


def test_labels_that_are_not_known(tmp_path: Path) -> None:
    spec, rows = rows_from(["mass|mas"], labels=LABELS)
    with pytest.raises(RecipeError, match=r"label 'mas' .* not known to data\.labels"):
        several_labels(rows, spec, None)
    for cells in (["mass"], ["|".join(f"l{n}" for n in range(MOST_SEVERAL + 1))]):
        spec, rows = rows_from(cells)
        with pytest.raises(RecipeError, match="from 2 to 62"):
            several_labels(rows, spec, None)
    with pytest.raises(StepError, match="none of the 3"):
        read_labels(pa.table({"label": pa.array([8], pa.int64())}), LABELS)
    assert isinstance(ImageMultilabel(), SeveralTask)


@pytest.mark.ml
def test_the_loss_is_that_of_each_label() -> None:
    import torch

    from edgeft.stages.label_loss import label_loss

    logits, labels = torch.tensor(LOGITS), torch.tensor(PRESENT, dtype=torch.float32)
    chance = sigmoid(LOGITS)
    expected = -np.where(PRESENT, np.log(chance), np.log(1 - chance))
    assert float(label_loss(logits, labels, reduction="sum")) == pytest.approx(expected.sum(), rel=1e-5)
    assert float(label_loss(logits, labels)) == pytest.approx(expected.mean(), rel=1e-5)
    smooth = label_loss(logits, labels, smoothing=0.2)
    moved = -np.where(
        PRESENT, 0.9 * np.log(chance) + 0.1 * np.log(1 - chance), 0.1 * np.log(chance) + 0.9 * np.log(1 - chance)
    )
    assert float(smooth) == pytest.approx(moved.mean(), rel=1e-5)
    one = torch.tensor([0, 2])
    assert float(label_loss(logits[:2], one)) == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits[:2], one))
    )
