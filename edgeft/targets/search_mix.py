"""Mixed precision: which layers of a failing variant stay in float, found in few evaluations."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from math import ceil, isfinite, log2
from typing import Protocol

from edgeft.exporter import Variant
from edgeft.targets.asking import Ask, Branch, Evaluation, Noise, Purpose, Settings, family, keep

PLAIN = 0.9
"""A layer that alone takes this share of the divergence away needs no comparison with the rest of the shortlist."""
LEAST_COST = 1e-9
"""A layer that costs nothing in float comes first; the floor keeps its gain per cost finite."""


Tried = tuple[Branch, Variant, tuple[str, ...]]
"""What was mixed from, and the layers that were tried one by one."""


class State(Protocol):
    """What a mix sees of the search: the budget left and the best so far."""

    settings: Settings

    @property
    def left(self) -> int: ...

    @property
    def best(self) -> Evaluation | None: ...

    def worth(self, done: Evaluation) -> bool: ...


def mix(state: State, branch: Branch, failed: Evaluation) -> Generator[Ask, Evaluation, Tried | None]:
    """Repairs, then layers in float, then a pass that compresses again what holds. None where a repair was enough."""
    settings = state.settings
    base = yield from _repair(state, branch, failed)
    if base is None or not settings.shortlist:
        return None
    measured = yield Ask("layers", branch.exporter, base.ask.variant, min(settings.first, settings.cases))
    done = base.ask.variant.keep_float | measured.answer.float_anyway
    names = [layer.name for layer in branch.layers if layer.name not in done]
    noise = measured.answer.noise
    affordable = state.left - 2 * ceil(log2(len(names) + 1)) - 2
    short = shortlist(names, noise, max(0, min(settings.shortlist, affordable)))
    gains = yield from _leave_out_one(branch, base, short, settings)
    order = by_gain(names, gains, noise)
    found = yield from _shortest_prefix(state, branch, base, order)
    if found is not None:
        yield from _compress_again(state, branch, base, found, order)
    return branch, base.ask.variant, tuple(short)


def draw_curves(tried: Tried, settings: Settings) -> Generator[Ask, Evaluation, None]:
    """Each shortlisted layer alone compressed, all the others in float: for the report, not for the choice."""
    branch, variant, short = tried
    names = frozenset(layer.name for layer in branch.layers)
    for name in short:
        yield Ask("quantise one", branch.exporter, keep(variant, names - {name}), _few(settings))


def _repair(state: State, branch: Branch, failed: Evaluation) -> Generator[Ask, Evaluation, Evaluation | None]:
    """The variant to mix from: the failed one, or a repair of it with less divergence; None once a repair passes."""
    base = failed
    for variant in branch.repairs(failed.ask.variant):
        other = family(variant) != family(failed.ask.variant)  # what computes otherwise costs otherwise
        done = yield Ask("repair", branch.exporter, variant, state.settings.cases, timed=other)
        if not state.worth(done):
            continue
        if done.passes:
            return None
        base = min(base, done, key=lambda item: item.rank)
    return base


def shortlist(names: Sequence[str], noise: Mapping[str, Noise], most: int) -> list[str]:
    """Layers to try one by one: taken in turn from those whose own noise is largest and from those that add most to
    what they inherit, for a layer's output also carries what earlier layers did."""
    rise, before = {}, 0.0
    for name in names:
        ratio = _ratio(noise, name)
        rise[name] = ratio - before
        before = ratio
    by_rise = sorted(names, key=lambda name: -rise[name])
    by_ratio = sorted(names, key=lambda name: -_ratio(noise, name))
    found: dict[str, None] = {}
    for pair in zip(by_rise, by_ratio, strict=True):
        found.update(dict.fromkeys(pair))
    return list(found)[:most]


def _leave_out_one(
    branch: Branch, base: Evaluation, short: Sequence[str], settings: Settings
) -> Generator[Ask, Evaluation, dict[str, float]]:
    """Layer -> how much of the divergence goes when that layer alone stays in float; ends early at a plain culprit."""
    cases = _few(settings)
    if not short:
        return {}
    whole = yield Ask("ladder", branch.exporter, base.ask.variant, cases)
    gains = {}
    for name in short:
        done = yield Ask("keep one", branch.exporter, keep(base.ask.variant, frozenset({name})), cases)
        gain = whole.rank - done.rank
        gains[name] = gain if isfinite(gain) else float("-inf")
        if isfinite(whole.rank) and gain >= PLAIN * whole.rank > 0:
            break
    return gains


def by_gain(names: Sequence[str], gains: Mapping[str, float], noise: Mapping[str, Noise]) -> list[str]:
    """Layers in the order they go to float: gain per cost, then those that were not tried by their noise per cost, then
    those that were tried and gained nothing."""

    def per_cost(name: str, value: float) -> float:
        cost = noise[name].cost if name in noise else 1.0
        return value / max(cost, LEAST_COST) if isfinite(cost) else value

    helped = [name for name in names if gains.get(name, 0.0) > 0]
    helped.sort(key=lambda name: -per_cost(name, gains[name]))
    untried = [name for name in names if name not in gains]
    untried.sort(key=lambda name: -per_cost(name, _ratio(noise, name)))
    useless = [name for name in names if name in gains and name not in helped]
    useless.sort(key=lambda name: -gains[name])
    return [*helped, *untried, *useless]


def _shortest_prefix(
    state: State, branch: Branch, base: Evaluation, order: Sequence[str]
) -> Generator[Ask, Evaluation, int | None]:
    """The shortest prefix of the order that passes when it is kept in float: 1, 2, 4, ... layers, then bisection.

    It stops where such a mix would no longer be cheaper than float or than what passes already.
    """
    low, high, size = 0, None, 1
    while high is None and low < len(order):
        size = min(size, len(order))
        done = yield from _score(state, branch, base, order[:size])
        if done.passes:
            high = size
        elif not _cheaper(state, done):
            return None
        else:
            low, size = size, 2 * size
    if high is None:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        done = yield from _score(state, branch, base, order[:middle])
        low, high = (low, middle) if done.passes else (middle, high)
    return high


def _compress_again(
    state: State, branch: Branch, base: Evaluation, size: int, order: Sequence[str]
) -> Generator[Ask, Evaluation, None]:
    """Without each layer of the prefix in turn, last but one first: what still passes without it is compressed again.

    The last one is needed: the prefix without it did not pass.
    """
    kept = list(order[:size])
    for name in reversed(order[: size - 1]):
        done = yield from _score(state, branch, base, [item for item in kept if item != name], "backward")
        if done.passes:
            kept.remove(name)


def _score(
    state: State, branch: Branch, base: Evaluation, layers: Sequence[str], purpose: Purpose = "prefix"
) -> Generator[Ask, Evaluation, Evaluation]:
    variant: Variant = keep(base.ask.variant, frozenset(layers))
    return (yield Ask(purpose, branch.exporter, variant, state.settings.cases))


def _cheaper(state: State, done: Evaluation) -> bool:
    best = state.best
    return state.worth(done) and (best is None or not isfinite(done.cost) or done.cost < best.cost)


def _few(settings: Settings) -> int:
    """Cases for what only ranks."""
    return min(settings.cases, max(settings.first, settings.cases // 4))


def _ratio(noise: Mapping[str, Noise], name: str) -> float:
    """Noise over signal of a layer, 0 where nothing was measured; a layer whose output broke comes first."""
    if name not in noise:
        return 0.0
    ratio = noise[name].ratio
    return ratio if isfinite(ratio) else float("1e30")
