"""A volume answered window by window: overlapping patches, their outputs blended, one class per voxel out.

numpy only: this file travels to the device with the worker. Windows, padding and weights are those of MONAI's
SlidingWindowInferer (Apache-2.0; `sliding_window_inference`), computed in another order: windows go from the first
plane to the last, and planes that no later window touches are finished at once. What is held of the logits is one patch
deep, not the volume: (classes, patch depth, rows, columns) float32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Extents = tuple[int, int, int]
Predict = Callable[[NDArray[Any]], NDArray[Any]]
"""Windows (batch, ...) -> logits (batch, classes, depth, height, width)."""
Take = Callable[[int, Floats], None]
"""(first plane, logits (classes, planes, rows, columns)), from the first plane to the last; the array is used again."""
Progress = Callable[[float, float], None]

BLENDS = ("gaussian", "constant")
SIGMA = 0.125
"""Standard deviation of the gaussian weights, of the patch's extent."""
LEAST_WEIGHT = 1e-3
MOST_WINDOWS = 1_000_000


@dataclass(frozen=True)
class Plan:
    """How a volume is answered. patch: (depth, height, width) that the network sees. overlap: share of it.

    axis: the first of the three spatial axes in a case's array, 0 with channels last, 1 with channels first. empty:
    windows with no value above this are not run, their voxels are class 0 unless a neighbour covers them; None: all
    are run. Of a volume that is empty as a whole the last window is run. Volumes smaller than the patch are padded
    with zeros on both sides.
    """

    patch: Extents
    overlap: float = 0.25
    blend: str = "gaussian"
    batch: int = 1
    axis: int = 0
    empty: float | None = None

    def __post_init__(self) -> None:
        if len(self.patch) != 3 or min(self.patch) < 1:
            raise ValueError(f"a patch of {self.patch} is no depth, height and width")
        if not 0 <= self.overlap < 1 or self.blend not in BLENDS or self.batch < 1:
            raise ValueError("overlap is from 0 to below 1, blend gaussian or constant, batch at least 1")

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> Plan:
        """From plain JSON; ValueError, TypeError or KeyError for what is none."""
        return cls(**{**stated, "patch": tuple(int(extent) for extent in stated["patch"])})


@dataclass(frozen=True)
class Answered:
    """classes: uint8 (depth, rows, columns). mean_logits: float32 (classes,), over all voxels. windows: how many there
    are; skipped: how many of them were empty and not run."""

    classes: NDArray[np.uint8]
    mean_logits: Floats
    windows: int
    skipped: int


def starts(extent: int, patch: int, overlap: float) -> list[int]:
    """Where windows begin along one axis; the last one ends at the edge. extent: at least the patch."""
    step = patch if extent == patch else max(1, int(patch * (1 - overlap)))
    count = max(1, math.ceil((extent - patch) / step) + 1)
    return [min(turn * step, extent - patch) for turn in range(count)]


def count_windows(shape: Sequence[int], plan: Plan) -> int:
    """How many windows a volume of this (depth, rows, columns) has."""
    padded = [max(have, patch) for have, patch in zip(shape, plan.patch, strict=True)]
    return math.prod(len(starts(have, p, plan.overlap)) for have, p in zip(padded, plan.patch, strict=True))


def weights(patch: Extents, blend: str) -> Floats:
    """float32 (depth, height, width): how much each voxel of a window counts."""
    if blend == "constant":
        return np.ones(patch, np.float32)
    lines = []
    for extent in patch:
        place = np.arange(extent, dtype=np.float32) - np.float32((extent - 1) / 2)
        lines.append(np.exp(-(place**2) / np.float32(2 * (SIGMA * extent) ** 2)))
    found = lines[0][:, None, None] * lines[1][None, :, None] * lines[2][None, None, :]
    return np.asarray(np.maximum(found, max(float(found.min()), LEAST_WEIGHT)), np.float32)


def segment(case: NDArray[Any], plan: Plan, predict: Predict, progress: Progress | None = None) -> Answered:
    """The most likely class of every voxel, of outputs blended as `slide` does. case: as in `slide`."""
    shape = _extents(case, plan)
    classes = np.empty(shape, np.uint8)
    total: list[Any] = []

    def take(first: int, logits: Floats) -> None:
        if len(logits) > 256:
            raise ValueError(f"{len(logits)} classes are more than 256")
        planes = logits.shape[1]
        np.argmax(logits, axis=0, out=(found := np.empty(logits.shape[1:], np.intp)))
        classes[first : first + planes] = found
        total.append(logits.sum(axis=(1, 2, 3), dtype=np.float64))

    windows, skipped = slide(case, plan, predict, take, progress)
    mean = np.sum(total, axis=0) / math.prod(shape)
    return Answered(classes, np.asarray(mean, np.float32), windows, skipped)


def slide(
    case: NDArray[Any], plan: Plan, predict: Predict, take: Take, progress: Progress | None = None
) -> tuple[int, int]:
    """Run all windows and give the blended logits, a few planes at a time, to `take`; (windows, windows skipped).

    case: three spatial axes from `plan.axis` on, and any others. `predict` always gets plan.batch windows, in a buffer
    that is used again; what the last call has too many repeats its last window.
    """
    padded, before = _pad(case, plan)
    blender = _Blender(_extents(padded, plan), before, _extents(case, plan), plan, take)
    buffer = np.empty((plan.batch, *_window(padded, (0, 0, 0), plan).shape), padded.dtype)
    places = list(_places(padded, plan))
    waiting: list[Extents] = []
    skipped = 0
    for done, place in enumerate(places, 1):
        window = _window(padded, place, plan)
        alone = done == len(places) and done == skipped + 1  # what runs nothing would not know its classes
        if plan.empty is not None and not alone and not (window > plan.empty).any():
            skipped += 1
        else:
            buffer[len(waiting)] = window
            waiting.append(place)
        if len(waiting) == plan.batch or (done == len(places) and waiting):
            buffer[len(waiting) :] = buffer[len(waiting) - 1]
            blender.add(waiting, predict(buffer))
            waiting = []
            if progress is not None:
                progress(done, len(places))
    blender.finish()
    return len(places), skipped


def prove_skipping(case: NDArray[Any], plan: Plan, predict: Predict) -> int:
    """Voxels that would be another class if no window were skipped: runs the volume both ways."""
    every = Plan(plan.patch, plan.overlap, plan.blend, plan.batch, plan.axis)
    return int((segment(case, plan, predict).classes != segment(case, every, predict).classes).sum())


class _Blender:
    """Weighted sums of the windows' logits, one patch deep, moved on as the windows move on."""

    def __init__(self, padded: Extents, before: Extents, shape: Extents, plan: Plan, take: Take) -> None:
        self.padded, self.before, self.shape, self.plan, self.take = padded, before, shape, plan, take
        self.weights = weights(plan.patch, plan.blend)
        self.base = 0
        self.sums: Floats | None = None
        self.counts = np.zeros((plan.patch[0], *padded[1:]), np.float32)
        self.layer: Floats | None = None if plan.empty is not None else self._layer()
        if self.layer is not None:
            self.counts += self.layer
        self.scratch = np.empty(plan.patch, np.float32)

    def _layer(self) -> Floats:
        """Weights of all windows that begin at one plane: the same for each such plane, so they are added once."""
        found = np.zeros((self.plan.patch[0], *self.padded[1:]), np.float32)
        _, height, width = self.plan.patch
        lines = [starts(have, p, self.plan.overlap) for have, p in zip(self.padded, self.plan.patch, strict=True)]
        for row, column in itertools.product(*lines[1:]):
            found[:, row : row + height, column : column + width] += self.weights
        return found

    def add(self, places: Sequence[Extents], logits: NDArray[Any]) -> None:
        """logits: (batch, classes, depth, height, width), of which the first len(places) count."""
        if logits.ndim != 5 or logits.shape[2:] != self.plan.patch:
            raise ValueError(f"a window of {self.plan.patch} was answered by {tuple(logits.shape)}")
        if self.sums is None:
            self.sums = np.zeros((logits.shape[1], *self.counts.shape), np.float32)
        _, height, width = self.plan.patch
        for (plane, row, column), answer in zip(places, logits, strict=False):
            self._move(plane)
            block = (slice(None), slice(row, row + height), slice(column, column + width))
            for own, given in zip(self.sums, answer, strict=True):
                np.multiply(given, self.weights, out=self.scratch, casting="unsafe")
                own[block] += self.scratch
            if self.layer is None:
                self.counts[block] += self.weights

    def finish(self) -> None:
        """Give out what is left."""
        self._give(self.padded[0] - self.base)

    def _move(self, plane: int) -> None:
        """Windows begin at this plane from here on."""
        steps = plane - self.base
        if steps <= 0 or self.sums is None:
            return
        self._give(min(steps, self.plan.patch[0]))
        if steps > self.plan.patch[0]:  # planes that only skipped windows cover
            self._give_empty(steps - self.plan.patch[0])
        for held in (*self.sums, self.counts):
            kept = max(0, len(held) - steps)
            held[:kept] = held[len(held) - kept :]
            held[kept:] = 0
        self.base = plane
        if self.layer is not None:
            self.counts += self.layer

    def _give(self, planes: int) -> None:
        """The first planes of what is held, divided by the weights; without any weight zero, which is class 0."""
        if self.sums is None:
            return
        first, held = self.base, min(planes, len(self.counts))
        counts = self.counts[:held]
        np.divide(1, counts, out=counts, where=counts > 0)
        self.sums[:, :held] *= counts
        self._cut(first, self.sums[:, :held])
        if planes > held:
            self._give_empty(planes - held)

    def _give_empty(self, planes: int) -> None:
        if self.sums is not None:
            shape = (len(self.sums), planes, *self.padded[1:])
            self._cut(self.base + self.plan.patch[0], np.zeros(shape, np.float32))

    def _cut(self, first: int, logits: Floats) -> None:
        """Without the padding."""
        depth, height, width = self.shape
        low = max(first, self.before[0])
        high = min(first + logits.shape[1], self.before[0] + depth)
        if low < high:
            rows, columns = (slice(at, at + n) for at, n in zip(self.before[1:], (height, width), strict=True))
            self.take(low - self.before[0], logits[:, low - first : high - first, rows, columns])


def _extents(case: NDArray[Any], plan: Plan) -> Extents:
    depth, height, width = case.shape[plan.axis : plan.axis + 3]
    return int(depth), int(height), int(width)


def _pad(case: NDArray[Any], plan: Plan) -> tuple[NDArray[Any], Extents]:
    """(case with every spatial extent at least the patch's, voxels put in front of each axis)."""
    if case.ndim < plan.axis + 3 or not case.size:
        raise ValueError(f"a case of shape {case.shape} has no three spatial axes from {plan.axis} on")
    missing = [max(0, patch - have) for patch, have in zip(plan.patch, _extents(case, plan), strict=True)]
    before = (missing[0] // 2, missing[1] // 2, missing[2] // 2)
    if count_windows(_extents(case, plan), plan) > MOST_WINDOWS:
        raise ValueError(f"a case of shape {case.shape} has more than {MOST_WINDOWS:,} windows")
    if not any(missing):
        return case, before
    around = [(0, 0)] * case.ndim
    for axis, (total, front) in enumerate(zip(missing, before, strict=True), plan.axis):
        around[axis] = (front, total - front)
    return np.pad(case, around), before


def _places(padded: NDArray[Any], plan: Plan) -> Iterator[Extents]:
    """(plane, row, column) where each window begins, plane by plane."""
    shape = _extents(padded, plan)
    lines = [starts(have, patch, plan.overlap) for have, patch in zip(shape, plan.patch, strict=True)]
    yield from itertools.product(*lines)


def _window(padded: NDArray[Any], place: Extents, plan: Plan) -> NDArray[Any]:
    cut = tuple(slice(at, at + extent) for at, extent in zip(place, plan.patch, strict=True))
    return padded[(*[slice(None)] * plan.axis, *cut)]
