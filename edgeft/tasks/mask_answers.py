"""Answers of segmentations, of images and of volumes alike: a class per element, and what is counted from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError
from edgeft.metric_names import MASK_FAMILIES, MASK_MEANS
from edgeft.task import NO_THRESHOLDS, Arrays, Score
from edgeft.tasks.image_spec import PREPROCESS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Maps = NDArray[np.uint8]
    Floats = NDArray[np.float64]

RIGHT_IOU = 0.5
"""A case counts as right from this mean IoU on (the threshold of PASCAL VOC); used for counting flips only."""
MAX_LABELS = 255


class MaskTask:
    """Metrics and answers of segmentations. axes: of an image 2, of a volume 3."""

    axes = 2
    metrics: tuple[str, ...] = ("mean_dice", "mean_iou", "pixel_accuracy")
    gated: tuple[str, ...] = MASK_MEANS
    families: tuple[str, ...] = MASK_FAMILIES
    headline = "mean_dice"

    def answer(
        self, outputs: Arrays, labels: Sequence[str], thresholds: Mapping[str, float] = NO_THRESHOLDS
    ) -> list[dict[str, Any]]:
        """Per case: share of the elements of each label, and `mask`, uint8 ([depth,] height, width)."""
        import numpy as np

        found = []
        for mask in class_maps(outputs, self.axes):
            shares = np.bincount(mask.ravel(), minlength=len(labels)) / mask.size
            found.append({"shares": dict(zip(labels, shares.tolist(), strict=True)), "mask": mask})
        return found


def check_count(labels: Sequence[str]) -> None:
    """StepError for more labels than a mask's bytes can tell apart."""
    if len(labels) > MAX_LABELS:
        raise StepError(f"{len(labels)} labels are more than {MAX_LABELS}", where="data.labels")


def confusion(truth: NDArray[Any], answer: Maps, classes: int) -> NDArray[np.int64]:
    """(classes, classes) counts of the elements of one case, rows true; StepError for a class that there is not."""
    import numpy as np

    if truth.max(initial=0) >= classes or answer.max(initial=0) >= classes:
        raise StepError(f"a mask or an answer names a class above {classes - 1}")
    pairs = truth.astype(np.int64).ravel() * classes + answer.ravel()
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def score_confusions(counts: NDArray[np.int64], labels: Sequence[str]) -> Score:
    """The scores that confusions (n, classes, classes), rows true, hold; of images and of volumes."""
    import numpy as np

    dice, iou = overlaps(counts)
    hits = np.einsum("nkk->n", counts)
    cases: dict[str, Floats] = {
        "mean_dice": dice.mean(axis=1), "mean_iou": iou.mean(axis=1), "pixel_accuracy": hits / counts.sum((1, 2)),
        **{f"dice_{label}": dice[:, place] for place, label in enumerate(labels[1:])},
        **{f"iou_{label}": iou[:, place] for place, label in enumerate(labels[1:])},
    }  # fmt: skip
    foreground = counts.sum(axis=1)[:, 1:]
    predictions = np.where(foreground.sum(axis=1) > 0, foreground.argmax(axis=1) + 1, 0).astype(np.int64)
    return Score(
        metrics={name: float(values.mean()) for name, values in cases.items()},
        correct=cases["mean_iou"] >= RIGHT_IOU,
        predictions=predictions,
        confusion=counts.sum(axis=0),
        cases=cases,
    )


def read_labels(prepared: Path) -> tuple[str, ...]:
    """As preprocess.json states them."""
    return tuple(json.loads((prepared / PREPROCESS).read_text(encoding="utf-8"))["labels"])


def checked(outputs: Arrays, axes: int = 2) -> NDArray[np.floating[Any]]:
    """`logits` (n, classes, [depth,] height, width) of images with so many axes; StepError for another shape or a value
    that is not finite."""
    import numpy as np

    logits: NDArray[np.floating[Any]] = np.asarray(outputs.get("logits", np.zeros(0)))
    if logits.ndim != 2 + axes:
        wanted = ", ".join(("n", "classes", "depth", "height", "width")[place] for place in (0, 1, *range(5 - axes, 5)))
        raise StepError(f"logits have shape {tuple(logits.shape)}, ({wanted}) is expected")
    broken = np.flatnonzero(~np.isfinite(logits).reshape(len(logits), -1).all(axis=1))
    if len(broken):
        raise StepError(f"logits of {len(broken)} of {len(logits)} cases are NaN or infinite")
    return logits


def class_maps(outputs: Arrays, axes: int = 2) -> Maps:
    """uint8 (n, [depth,] height, width): as kept, or the highest logit's place."""
    import numpy as np

    if "classes" in outputs:
        return np.asarray(outputs["classes"], dtype=np.uint8)
    return np.asarray(checked(outputs, axes).argmax(axis=1), dtype=np.uint8)


def overlaps(counts: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """(Dice, IoU), each (n, classes - 1), from confusions (n, classes, classes), rows true; background left out."""
    import numpy as np

    hits = np.einsum("nkk->nk", counts)[:, 1:].astype(np.float64)
    total = (counts.sum(axis=1) + counts.sum(axis=2))[:, 1:].astype(np.float64)
    empty = total == 0
    dice = np.where(empty, 1.0, 2 * hits / np.where(empty, 1, total))
    iou = np.where(empty, 1.0, hits / np.where(empty, 1, total - hits))
    return dice, iou
