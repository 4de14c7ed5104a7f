"""How many layers stay in float, and which turn out not to be needed: sets of layers, scored where it is worth it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from math import inf, isfinite

from edgeft.exporter import Variant
from edgeft.targets.search.asking import Ask, Branch, Evaluation, Purpose, keep
from edgeft.targets.search.race import Look, State, clearly_less, look, mean


@dataclass
class Mixes:
    """Mixes of one variant that failed. names: all layers that may go to float. last: mix that was scored. failed: the
    least divergence, at a first look, of what failed."""

    state: State
    branch: Branch
    base: Evaluation
    names: Sequence[str]
    last: Evaluation | None = None
    failed: float = inf

    def __post_init__(self) -> None:
        self._note(self.base.ask.variant)

    def look(self, layers: Sequence[str], cases: int, purpose: Purpose = "look") -> Generator[Ask, Evaluation, Look]:
        """Divergence with these layers in float too."""
        return look(self.state, self.branch.exporter, self._variant(layers), cases, purpose)

    def passes(self, layers: Sequence[str], purpose: Purpose) -> Generator[Ask, Evaluation, bool]:
        """Whether the variant passes with these layers in float too. One that diverges no less than what failed is not
        scored: it is taken to fail. With all of them it is the float artefact, of which nothing need be asked."""
        settings, variant = self.state.settings, self._variant(layers)
        if len(layers) == len(self.names):
            return True
        if isfinite(self.failed) and mean((yield from self.look(layers, settings.glance))) >= self.failed:
            return False
        self.last = yield Ask(purpose, self.branch.exporter, variant, settings.cases, part=settings.part)
        if not self.last.passes:
            self._note(variant)
        return self.last.passes

    @property
    def dear(self) -> bool:
        """The last one costs as much as float, or as what passes already: more layers in float cost still more."""
        done, best = self.last, self.state.best
        if done is None:
            return False
        return not self.state.worth(done) or (best is not None and isfinite(done.cost) and done.cost >= best.cost)

    def _variant(self, layers: Sequence[str]) -> Variant:
        return keep(self.base.ask.variant, frozenset(layers))

    def _note(self, variant: Variant) -> None:
        seen = self.state.seen(self.branch.exporter, variant, self.state.settings.glance)
        self.failed = min(self.failed, mean(seen) if seen else inf)


def shortest_prefix(mixes: Mixes, order: Sequence[str], low: int) -> Generator[Ask, Evaluation, Sequence[str] | None]:
    """The shortest prefix of the order, longer than `low`, that passes in float: 1, then 2, 4 ... more, then bisection.

    It stops where such a mix would no longer be cheaper than float or than what passes already.
    """
    high, more = None, 1
    while high is None and low < len(order):
        size = min(low + more, len(order))
        if (yield from mixes.passes(order[:size], "prefix")):
            high = size
        elif mixes.dear:
            return None
        else:
            low, more = size, 2 * more
    if high is None:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        passes = yield from mixes.passes(order[:middle], "prefix")
        low, high = (low, middle) if passes else (middle, high)
    return order[:high]


def compress_again(mixes: Mixes, found: Sequence[str]) -> Generator[Ask, Evaluation, None]:
    """Take out of float what still passes without: first together all that change nothing at a look, then the others,
    halving groups that fail (Dorfman 1943).

    In the order of the divergence without each; what diverges no less than what failed is not tried.
    """
    glance = mixes.state.settings.glance
    if len(found) < 2:
        return
    whole = yield from mixes.look(found, glance)
    without: dict[str, Look] = {}
    for name in found:
        without[name] = yield from mixes.look([item for item in found if item != name], glance)
    spare = sorted((name for name in found if mean(without[name]) < mixes.failed), key=lambda name: mean(without[name]))
    same = [name for name in spare if not clearly_less(whole, without[name])]
    kept = yield from _without(mixes, found, same)
    yield from _without(mixes, kept, [name for name in spare if name not in same])


def _without(mixes: Mixes, kept: Sequence[str], group: Sequence[str]) -> Generator[Ask, Evaluation, Sequence[str]]:
    """What stays in float of `kept`; at least one layer does."""
    rest = [name for name in kept if name not in group]
    if not group:
        return kept
    if rest and (yield from mixes.passes(rest, "backward")):
        return rest
    if len(group) == 1:
        return kept
    half = len(group) // 2
    kept = yield from _without(mixes, kept, group[:half])
    return (yield from _without(mixes, kept, group[half:]))
