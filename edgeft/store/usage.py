"""What a store costs, by area."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeft.store.disk import file_bytes, free_bytes, guard, tree_bytes
from edgeft.store.layout import Layout

AreaName = Literal["objects", "records", "scratch", "temporary", "broken", "memory"]


@dataclass(frozen=True)
class Area:
    """One part of the store: its bytes and how many things it holds."""

    name: AreaName
    bytes: int
    count: int
    holds: str


@dataclass(frozen=True)
class Usage:
    """What the store costs, by area; free: bytes left on its disk, None when unknown."""

    root: Path
    areas: tuple[Area, ...]
    free: int | None

    @property
    def total(self) -> int:
        """Bytes of all areas."""
        return sum(area.bytes for area in self.areas)


def measure_usage(layout: Layout) -> Usage:
    """Bytes and counts of each area."""
    with guard(layout.root):
        memory = [*layout.root.glob("memo.sqlite*"), *layout.root.glob("openings.jsonl")]
        records = tree_bytes(layout.steps) + tree_bytes(layout.latest)
        areas = (
            _area("objects", layout.objects, layout.objects.glob("*/*.files.json"), "results of steps"),
            Area("records", records, _count(layout.steps.iterdir()), "what each step led to"),
            _area("scratch", layout.scratch, layout.scratch.glob("*/"), "checkpoints to resume from, logs"),
            _area("temporary", layout.tmp, layout.tmp.glob("*/"), "work of running or killed processes"),
            _area("broken", layout.broken, layout.broken.glob("*"), "damaged objects set aside"),
            Area("memory", sum(map(file_bytes, memory)), len(memory), "file hashes, openings of gate sets"),
        )
    return Usage(layout.root, areas, free_bytes(layout.root))


def _area(name: AreaName, folder: Path, things: Iterable[Path], holds: str) -> Area:
    return Area(name, tree_bytes(folder), _count(things), holds)


def _count(things: Iterable[Path]) -> int:
    return sum(1 for _ in things)
