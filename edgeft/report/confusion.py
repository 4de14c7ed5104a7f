"""The confusion matrix as data: shaded up to 20 classes, the most frequent confusions above that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeft.report.tables import MAX_CONFUSIONS, MAX_MATRIX, STRONG, Table, table


@dataclass(frozen=True)
class Shade:
    """One cell: count, share of its true class, and CSS classes."""

    count: int
    share: str
    kind: str


@dataclass(frozen=True)
class Matrix:
    """Rows are true, columns predicted classes."""

    labels: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Shade]]]


def shade_matrix(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> Matrix | None:
    """None above 20 classes or for an empty matrix."""
    if not counts or len(counts) > MAX_MATRIX:
        return None
    names = named(len(counts), labels)
    rows = []
    for index, row in enumerate(counts):
        total = sum(row) or 1
        rows.append((names[index], [_shade(count, count / total, column == index) for column, count in enumerate(row)]))
    return Matrix(names, rows)


def top_confusions(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> Table:
    """The most frequent mistakes: true class, predicted class, cases, share of the true class."""
    names = named(len(counts), labels)
    pairs = [
        (count, true, predicted)
        for true, row in enumerate(counts)
        for predicted, count in enumerate(row)
        if true != predicted and count > 0
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    body = [
        [names[true], names[predicted], f"{count:,}", f"{count / sum(counts[true]):.1%}"]
        for count, true, predicted in pairs[:MAX_CONFUSIONS]
    ]
    return table(["True class", "Taken for", "Cases", "Of the true class"], body, (2, 3))


def named(count: int, labels: Sequence[str]) -> list[str]:
    """`count` names: the labels, or numbers where labels are missing."""
    return [labels[index] if index < len(labels) else str(index) for index in range(count)]


def _shade(count: int, share: float, hit: bool) -> Shade:
    kinds = [name for name, on in (("hit", hit), ("zero", not count), ("strong", share > STRONG)) if on]
    return Shade(count, f"{share * 0.92:.3f}", " ".join(kinds))
