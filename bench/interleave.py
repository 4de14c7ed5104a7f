"""Time whole commands in turn, A B B A ..., and give the ratio with a bootstrap interval over the blocks."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ratio:
    """Median seconds of A and B, median of the per-block ratios A/B, and its 95% bootstrap interval."""

    a: float
    b: float
    ratio: float
    low: float
    high: float
    blocks: int

    def line(self, name: str) -> str:
        """One row for a person."""
        return (
            f"{name}: {self.a:.3f} s against {self.b:.3f} s, ratio {self.ratio:.2f} "
            f"(95% {self.low:.2f} to {self.high:.2f}, {self.blocks} ABBA blocks)"
        )


def once(command: Sequence[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> float:
    """Wall seconds of one run; the command must succeed."""
    began = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )
    return time.perf_counter() - began


def compare(a: Sequence[str], b: Sequence[str], blocks: int = 10, cwd: Path | None = None) -> Ratio:
    """A against B, after one warm-up of each."""
    once(a, cwd), once(b, cwd)
    pairs = []
    for _ in range(blocks):
        first, second, third, fourth = once(a, cwd), once(b, cwd), once(b, cwd), once(a, cwd)
        pairs.append(((first + fourth) / 2, (second + third) / 2))
    ratios = [x / y for x, y in pairs]
    draw = random.Random(0)
    means = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    a_seconds, b_seconds = (statistics.median(values) for values in zip(*pairs, strict=True))
    return Ratio(a_seconds, b_seconds, statistics.median(ratios), means[50], means[1949], blocks)
