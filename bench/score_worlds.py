"""Worlds of gates on rankings (AUC, average precision) and calibration (ECE, Brier); see gate_world.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from bench.gate_world import ALPHA, Floats, Random, World, at_least, at_most, in_units, unit_labels
from edgeft.evaluate.auc import bound_auc, bound_auc_loss
from edgeft.evaluate.betting import bound_mean
from edgeft.evaluate.calibration import Binning, bound_ece, bound_ece_rise, brier_cases
from edgeft.evaluate.precision import bound_average_precision, bound_average_precision_loss
from edgeft.evaluate.statistics import Bound

Bools = NDArray[np.bool_]


def auc_noise(apart: float, noise: float, prevalence: float, rows: int = 1, limit: float | None = None) -> World:
    """Two normals `apart`; the artefact has the source's scores with noise. Units share half the variance."""
    before, after = ndtr(apart / 2**0.5), ndtr(apart / (2 * (1 + noise**2)) ** 0.5)

    def bound(random: Random, n: int) -> Bound:
        positive, source, units = _normals(random, n, apart, prevalence, rows)
        artefact = source + noise * random.normal(0, 1, len(source))
        return bound_auc_loss(source, artefact, positive, units, ALPHA)

    data = f"area {before:.3f}, noise on every score, {prevalence:.0%} positives" + in_units(rows)
    return World("AUC, against the source", data, at_most(float(before - after) if limit is None else limit, bound))


def auc_struck(apart: float, share: float, prevalence: float) -> World:
    """A share of the positives falls below every negative."""
    before = float(ndtr(apart / 2**0.5))

    def bound(random: Random, n: int) -> Bound:
        positive, source, units = _normals(random, n, apart, prevalence, 1)
        artefact = np.where(positive & (random.random(n) < share), -99.0, source)
        return bound_auc_loss(source, artefact, positive, units, ALPHA)

    data = f"area {before:.3f}, {100 * share:g}% of the {prevalence:.0%} positives fall to the end"
    return World("AUC, against the source", data, at_most(share * before, bound))


def auc_absolute(area: float, prevalence: float) -> World:
    """The artefact alone, two normals."""
    apart = float(ndtri(area)) * 2**0.5

    def bound(random: Random, n: int) -> Bound:
        positive, scores, units = _normals(random, n, apart, prevalence, 1)
        return bound_auc(scores, positive, units, ALPHA)

    return World("AUC", f"area {area:g}, {prevalence:.0%} positives", at_least(area, bound))


def precision_noise(apart: float, noise: float, prevalence: float, limit: float | None = None) -> World:
    """Average precision, noise on every score."""
    lost = _precision_of(apart, 1.0, prevalence) - _precision_of(apart, (1 + noise**2) ** 0.5, prevalence)

    def bound(random: Random, n: int) -> Bound:
        positive, source, units = _normals(random, n, apart, prevalence, 1)
        artefact = source + noise * random.normal(0, 1, n)
        return bound_average_precision_loss(source, artefact, positive, units, ALPHA)

    data = f"normals {apart:g} apart, noise on every score, {prevalence:.0%} positives"
    return World("average precision, against the source", data, at_most(lost if limit is None else limit, bound))


def precision_struck(share: float, prevalence: float) -> World:
    """A perfect ranking of which a share of the positives falls behind every negative: 1 less what they then add."""

    def bound(random: Random, n: int) -> Bound:
        positive = random.random(n) < prevalence
        source = positive + random.random(n) / 2
        artefact = np.where(positive & (random.random(n) < share), -random.random(n), source)
        return bound_average_precision_loss(source, artefact, positive, np.arange(n), ALPHA)

    grid = np.linspace(0, share, 20_001)[1:] - share / 40_000
    found = prevalence * (1 - share + grid)
    last = float((found / (found + 1 - prevalence)).mean()) * share
    data = f"perfect, {100 * share:g}% of the {prevalence:.0%} positives fall to the end"
    return World("average precision, against the source", data, at_most(share - last, bound))


def precision_absolute(apart: float, prevalence: float) -> World:
    """The artefact alone."""

    def bound(random: Random, n: int) -> Bound:
        positive, scores, units = _normals(random, n, apart, prevalence, 1)
        return bound_average_precision(scores, positive, units, ALPHA)

    limit = _precision_of(apart, 1.0, prevalence)
    return World("average precision", f"{limit:.3f}, {prevalence:.0%} positives", at_least(limit, bound))


def ece_absolute(error: float, binning: Binning, rows: int = 1) -> World:
    """Every answer is `error` too sure, so the ECE is `error` over any bins."""

    def bound(random: Random, n: int) -> Bound:
        confidence, correct, units = _answers(random, n, error, rows)
        return bound_ece(confidence, correct, units, ALPHA, binning=binning)

    return World("ECE", f"{error:g} too sure, equal {binning}" + in_units(rows), at_most(error, bound))


def ece_rise(before: float, rise: float, binning: Binning, limit: float | None = None) -> World:
    """The source is `before` too sure, the artefact `rise` more; both answer the same."""

    def bound(random: Random, n: int) -> Bound:
        confidence, correct, units = _answers(random, n, before, 1)
        return bound_ece_rise((confidence, correct), (confidence + rise, correct), units, ALPHA, binning=binning)

    data = f"source {before:g} too sure, artefact {rise:g} more, equal {binning}"
    return World("ECE, against the source", data, at_most(rise if limit is None else limit, bound))


def ece_struck(share: float) -> World:
    """A calibrated source; the artefact is surely wrong on a share of the cases, which fill the last bin alone."""

    def bound(random: Random, n: int) -> Bound:
        confidence, correct, units = _answers(random, n, 0.0, 1)
        struck = random.random(n) < share
        artefact = (np.where(struck, 0.95, confidence), correct & ~struck)
        return bound_ece_rise((confidence, correct), artefact, units, ALPHA, binning="width")

    return World("ECE, against the source", f"{100 * share:g}% surely wrong, equal width", at_most(0.95 * share, bound))


def brier_struck(share: float, limit: float | None = None) -> World:
    """Two classes, the source surely right; the artefact surely wrong on a share: a Brier score of that share."""

    def bound(random: Random, n: int) -> Bound:
        p = np.where(random.random(n) < share, 0.0, 1.0)
        after = brier_cases(np.stack([p, 1 - p], axis=1), np.zeros(n, np.int64))
        return bound_mean(after, np.arange(n), ALPHA, low=-1.0, high=1.0)

    return World(
        "Brier, against the source", f"{100 * share:g}% surely wrong", at_most(share if limit is None else limit, bound)
    )


def _normals(
    random: Random, n: int, apart: float, prevalence: float, rows: int
) -> tuple[Bools, Floats, NDArray[np.int64]]:
    """Positives, scores of variance 1 in each class, units; within a unit the truth is one and half the variance."""
    count = n // rows
    positive = np.repeat(random.random(count) < prevalence, rows)
    shared = np.repeat(random.normal(0, 1, count), rows)
    own = random.normal(0, 1, count * rows)
    mixed = shared if rows == 1 else (shared + own) / 2**0.5
    return positive, positive * apart + mixed, unit_labels(count, rows)


def _answers(random: Random, n: int, error: float, rows: int) -> tuple[Floats, Bools, NDArray[np.int64]]:
    count = n // rows
    confidence = np.repeat(random.uniform(0.6, 0.9, count), rows)
    correct = np.repeat(random.random(count), rows) < confidence - error
    return confidence, correct, unit_labels(count, rows)


def _precision_of(apart: float, spread: float, prevalence: float) -> float:
    """Area under the precision-recall curve of two normals, by the midpoint rule over recall."""
    recall = (np.arange(200_000) + 0.5) / 200_000
    threshold = apart - spread * ndtri(recall)
    false = ndtr(-threshold / spread)
    return float((prevalence * recall / (prevalence * recall + (1 - prevalence) * false)).mean())
