"""Ranking by divergence in few runs: a first look at all, a closer one only at those that the first leaves open.

Variants race (Maron & Moore 1994; Birattari et al. 2002): on the same few cases, paired, whatever is clearly worse than
the leader is out. Outputs with many values to a case, such as masks, are decided by a handful of cases; single logits
take more. What was run for a score is never run again for a rank.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from math import ceil, inf, isfinite
from typing import Protocol

from edgeft.exporter import Variant
from edgeft.targets.search.asking import Ask, Evaluation, Purpose, Settings

CLEAR = 0.95
"""One-sided confidence of a paired comparison. It only spends runs; no candidate is taken by it."""

Look = tuple[float, ...]
"""Divergence of each case that was looked at; a single number where cases are not known one by one."""


class State(Protocol):
    """What the parts of a search see of it: the settings, the budget left, the best so far, what was run."""

    settings: Settings

    @property
    def left(self) -> int: ...

    @property
    def best(self) -> Evaluation | None: ...

    def worth(self, done: Evaluation) -> bool: ...

    def seen(self, exporter: str, variant: Variant, cases: int) -> Look | None: ...


def look(
    state: State, exporter: str, variant: Variant, cases: int, purpose: Purpose = "ladder"
) -> Generator[Ask, Evaluation, Look]:
    """Divergence on so many cases: from what was run already, else asked. (inf,) where it failed."""
    known = state.seen(exporter, variant, cases)
    if known is not None:
        return known
    done = yield Ask(purpose, exporter, variant, cases)
    return state.seen(exporter, variant, cases) or (done.rank,)


def mean(seen: Look) -> float:
    """What is ranked by; infinite where it is no number."""
    value = sum(seen) / len(seen)
    return value if isfinite(value) else inf


def clearly_less(one: Look, other: Look) -> bool:
    """Whether the first diverges less on the same cases: by a paired t-test, or by the number where there is one."""
    if not isfinite(mean(one)):
        return False
    if not isfinite(mean(other)) or len(one) != len(other) or len(one) < 2:
        return mean(one) < mean(other)
    from scipy.special import stdtr

    differences = [there - here for here, there in zip(one, other, strict=True)]
    n, middle = len(differences), sum(differences) / len(differences)
    spread = (sum((value - middle) ** 2 for value in differences) / (n - 1) / n) ** 0.5
    return middle > 0 and (spread == 0 or float(stdtr(n - 1, middle / spread)) >= CLEAR)


def race(state: State, exporter: str, variants: Sequence[Variant]) -> Generator[Ask, Evaluation, list[Variant]]:
    """The variants in order of divergence, without those that failed or answer exactly as an earlier one does.

    Ties go to the earlier. At most half of them get the closer look.
    """
    found: dict[int, Look] = {}
    for place, variant in enumerate(variants):
        seen = yield from look(state, exporter, variant, state.settings.glance)
        if isfinite(mean(seen)) and (len(seen) < 2 or seen not in found.values()):
            found[place] = seen
    order = sorted(found, key=lambda place: (mean(found[place]), place))
    open_ = [place for place in order if not clearly_less(found[order[0]], found[place])][: ceil(len(order) / 2)]
    if len(open_) > 1 and state.settings.few > state.settings.glance:
        closer = {}
        for place in open_:
            closer[place] = yield from look(state, exporter, variants[place], state.settings.few)
        open_.sort(key=lambda place: (mean(closer[place]), place))
    return [variants[place] for place in (*open_, *(place for place in order if place not in open_))]


def race_bound(size: int) -> int:
    """Questions that `race` asks of so many variants at most."""
    return size + (ceil(size / 2) if size > 2 else 0)
