"""Rules that need no network, fitted on the train split: what a model has to be worth more than."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edgeft.canonical import Facts
from edgeft.task import Arrays

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

LEVELS = 256
CASES = 64
CERTAIN = 20.0
"""Logit of the one answer of `majority` above all others; only its place matters for what is scored."""


class Rule(Protocol):
    """fit on rows of the train split, then answer others as a task keeps its outputs."""

    tasks: ClassVar[tuple[str, ...]]

    def fit(self, rows: pa.Table, labels: Sequence[str], prepared: Path) -> Facts:
        """What was learnt, as JSON, with `says`: a few words for the report."""
        ...

    def answer(self, fitted: Mapping[str, Any], rows: pa.Table, labels: Sequence[str], prepared: Path) -> Arrays:
        """Outputs of these rows that the task can score."""
        ...


class Thresholds:
    """Each label is a band of brightness; the bands are those of the best mean Dice per case on the train split.

    Labels are ordered by their mean brightness there. Mean Dice is a sum over the bands of what each adds, so the
    best bounds among all 257^(labels - 1) are found exactly, by dynamic programming from the darkest band up.
    """

    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)

    def fit(self, rows: pa.Table, labels: Sequence[str], prepared: Path) -> Facts:
        """{order: labels' places from dark to bright, bounds: first level of each but the darkest, says}."""
        import numpy as np

        counts = _level_counts(rows, len(labels), prepared)
        pooled = counts.sum(axis=0).astype(np.float64)
        pixels = pooled.sum(axis=1)
        means = (pooled * np.arange(LEVELS)).sum(axis=1) / np.where(pixels > 0, pixels, 1)
        order = [int(place) for place in np.argsort(means, kind="stable")]
        bounds, value = best_bounds([_band_dice(counts, label) for label in order])
        words = {1: "one threshold", 2: "two thresholds"}.get(len(bounds), f"{len(bounds)} thresholds")
        shown = ", ".join(f"{labels[label]} from {level}" for label, level in zip(order[1:], bounds, strict=True))
        return {
            "order": order, "bounds": bounds, "train_mean_dice": value, "n": rows.num_rows,
            "says": f"{words} on the brightness ({shown} of 255)",
        }  # fmt: skip

    def answer(self, fitted: Mapping[str, Any], rows: pa.Table, labels: Sequence[str], prepared: Path) -> Arrays:
        """classes, uint8 (n, rows, columns)."""
        import numpy as np

        order = np.array(fitted["order"], np.uint8)
        parts = [np.zeros((0, 1, 1), np.uint8)]
        for start in range(0, rows.num_rows, CASES):
            grey = _grey(rows.slice(start, CASES), prepared)
            parts.append(order[np.searchsorted(fitted["bounds"], grey, side="right")])
        return {"classes": np.concatenate(parts[1:] or parts)}


class Majority:
    """The most frequent label of the train split, whatever is asked."""

    tasks: ClassVar[tuple[str, ...]] = ("text-classification", "image-classification")

    def fit(self, rows: pa.Table, labels: Sequence[str], prepared: Path) -> Facts:
        """{label: its place, says}."""
        import numpy as np

        counts = np.bincount(rows.column("label").to_numpy(), minlength=len(labels))
        place = int(counts.argmax())
        return {"label": place, "n": rows.num_rows, "says": f"the most frequent label ({labels[place]})"}

    def answer(self, fitted: Mapping[str, Any], rows: pa.Table, labels: Sequence[str], prepared: Path) -> Arrays:
        """logits, float32 (n, labels)."""
        import numpy as np

        logits = np.zeros((rows.num_rows, len(labels)), np.float32)
        logits[:, fitted["label"]] = CERTAIN
        return {"logits": logits}


RULES: Mapping[str, Rule] = {"thresholds": Thresholds(), "majority": Majority()}


def best_bounds(bands: Sequence[NDArray[np.float64]]) -> tuple[list[int], float]:
    """(bounds, value) of the bands from dark to bright with the highest sum.

    bands: for each label, (257, 257) what the band of levels low..high-1 adds, nan for high < low.
    """
    import numpy as np

    best = bands[0][0]  # of bands that end at each level
    choices = []
    for band in bands[1:]:
        total = np.where(np.isnan(band), -np.inf, best[:, None] + band)
        choices.append(total.argmax(axis=0))
        best = total.max(axis=0)
    level, bounds = LEVELS, []
    for choice in reversed(choices):
        level = int(choice[level])
        bounds.append(level)
    return bounds[::-1], float(best[LEVELS])


def _band_dice(counts: NDArray[np.int64], label: int) -> NDArray[np.float64]:
    """(257, 257) share of the mean Dice that the label adds as the band low..high-1; nothing for the background.

    counts: (cases, labels, 256) pixels of each truth and brightness.
    """
    import numpy as np

    classes = counts.shape[1]
    found = np.zeros((LEVELS + 1, LEVELS + 1))
    for case in counts if label else ():
        own = np.concatenate([[0], case[label].cumsum()])
        every = np.concatenate([[0], case.sum(axis=0).cumsum()])
        hits, taken = own[None, :] - own[:, None], every[None, :] - every[:, None]
        both = taken + own[-1]
        found += np.where(both > 0, 2 * hits / np.where(both > 0, both, 1), 1.0)
    found /= max(1, len(counts)) * max(1, classes - 1)
    found[np.tril_indices(LEVELS + 1, -1)] = np.nan
    return found


def _level_counts(rows: pa.Table, classes: int, prepared: Path) -> NDArray[np.int64]:
    import numpy as np

    from edgeft.tasks.segmentation import read_masks

    counts = np.zeros((rows.num_rows, classes, LEVELS), np.int64)
    for start in range(0, rows.num_rows, CASES):
        part = rows.slice(start, CASES)
        grey = _grey(part, prepared)
        masks = read_masks(part, (int(grey.shape[1]), int(grey.shape[2])))
        for place, mask in enumerate(masks, start):
            pairs = mask.astype(np.int64).ravel() * LEVELS + grey[place - start].ravel()
            counts[place] = np.bincount(pairs, minlength=classes * LEVELS).reshape(classes, LEVELS)
    return counts


def _grey(rows: pa.Table, prepared: Path) -> NDArray[np.uint8]:
    """uint8 (n, rows, columns): the pixels the network is given, colours averaged."""
    import numpy as np

    from edgeft.tasks.image_spec import read_spec
    from edgeft.tasks.images import read_pixels

    pixels = read_pixels(rows, read_spec(prepared))
    if pixels.shape[-1] == 1:
        return pixels[..., 0]
    return np.asarray(np.round(pixels.mean(axis=-1)), np.uint8)
