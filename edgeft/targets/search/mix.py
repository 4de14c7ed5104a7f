"""Mixed precision: which layers of a failing variant stay in float, found in few evaluations."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from math import ceil, isfinite, log2

from edgeft.exporter import Variant
from edgeft.targets.search.asking import Ask, Branch, Evaluation, Noise, family, keep
from edgeft.targets.search.race import Look, State, clearly_less, look, mean
from edgeft.targets.search.sets import Mixes, compress_again, shortest_prefix

PLAIN = 0.9
"""A layer that alone takes this share of the divergence away needs no comparison with the rest of the shortlist."""
MOST = 2 / 3
"""A layer that takes this share away hides what the others do: they are compared again on top of it."""
LEAST_COST = 0.1
"""Share of the layers' mean cost below which no cost counts: times of single layers are known no better, and a layer
that seems to cost nothing must not come before one that takes the damage away."""


TINY = 1e-9
"""Keeps a gain per cost finite where nothing costs anything."""

Tried = tuple[Branch, Variant, tuple[str, ...]]
"""What was mixed from, and the layers that were tried one by one."""


def mix(state: State, branch: Branch, failed: Evaluation) -> Generator[Ask, Evaluation, Tried | None]:
    """Repairs, then layers in float, then a pass that compresses again what holds. None where a repair was enough."""
    settings = state.settings
    base = yield from _repair(state, branch, failed)
    if base is None or not settings.shortlist:
        return None
    measured = yield Ask("layers", branch.exporter, base.ask.variant, settings.glance)
    done = base.ask.variant.keep_float | measured.answer.float_anyway
    names = [layer.name for layer in branch.layers if layer.name not in done]
    mixes = Mixes(state, branch, base, names)
    tried, kept = yield from _find_kept(mixes, measured.answer.noise)
    if kept:
        yield from compress_again(mixes, kept)
    return branch, base.ask.variant, tuple(tried)


def _find_kept(
    mixes: Mixes, noise: Mapping[str, Noise]
) -> Generator[Ask, Evaluation, tuple[list[str], Sequence[str] | None]]:
    """(layers tried one by one, layers to keep in float; None where no mix can be had).

    A plain culprit is kept and scored at once; where that is not enough, the others are tried on top of it.
    """
    state, first, tried = mixes.state, list[str](), list[str]()
    while True:
        rest = [name for name in mixes.names if name not in first]
        affordable = state.left - 2 * ceil(log2(len(rest) + 1)) - 2
        short = shortlist(rest, noise, max(0, min(state.settings.shortlist, affordable)))
        tried = tried or short
        gains, culprit = yield from _leave_out_one(mixes, first, short, noise)
        if culprit is None:
            order = [*first, *by_gain(rest, gains, noise)]
            return tried, (yield from shortest_prefix(mixes, order, len(first)))
        first.append(culprit)
        if (yield from mixes.passes(first, "prefix")):
            return tried, first
        if mixes.dear:
            return tried, None


def draw_curves(state: State, tried: Tried) -> Generator[Ask, Evaluation, None]:
    """Each shortlisted layer alone compressed, all the others in float: for the report, not for the choice."""
    branch, variant, short = tried
    names = frozenset(layer.name for layer in branch.layers)
    for name in short:
        yield Ask("quantise one", branch.exporter, keep(variant, names - {name}), state.settings.glance)


def _repair(state: State, branch: Branch, failed: Evaluation) -> Generator[Ask, Evaluation, Evaluation | None]:
    """The variant to mix from: the failed one, or a repair of it with less divergence; None once a repair passes.

    A repair that diverges no less at a first look is not scored.
    """
    settings, base = state.settings, failed
    least = mean((yield from look(state, branch.exporter, failed.ask.variant, settings.glance)))
    for variant in branch.repairs(failed.ask.variant):
        rank = mean((yield from look(state, branch.exporter, variant, settings.glance, "look")))
        if rank >= least:
            continue
        other = family(variant) != family(failed.ask.variant)  # what computes otherwise costs otherwise
        part = 0 if other else settings.part
        done = yield Ask("repair", branch.exporter, variant, settings.cases, timed=other, part=part)
        if not state.worth(done):
            continue
        if done.passes:
            return None
        base, least = done, rank
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
    mixes: Mixes, first: Sequence[str], short: Sequence[str], noise: Mapping[str, Noise]
) -> Generator[Ask, Evaluation, tuple[dict[str, float], str | None]]:
    """(layer -> how much of the divergence goes when it alone joins those in float, a culprit).

    It ends early at a plain culprit; else one that takes most of the divergence away is it, by gain per cost. The
    better half is looked at closer where no layer's gain is clear at a first look.
    """
    settings = mixes.state.settings
    if not short:
        return {}, None
    whole, looks = yield from _looks(mixes, first, short, settings.glance)
    gains = {name: _gain(whole, seen) for name, seen in looks.items()}
    if settings.few > settings.glance and not any(clearly_less(seen, whole) for seen in looks.values()):
        half = sorted(gains, key=lambda name: -gains[name])[: ceil(len(gains) / 2)]
        whole, looks = yield from _looks(mixes, first, half, settings.few)
        gains |= {name: _gain(whole, seen) for name, seen in looks.items()}
    culprits = [name for name, seen in looks.items() if _takes(MOST, whole, seen)]
    return gains, by_gain(culprits, gains, noise)[0] if culprits else None


def _looks(
    mixes: Mixes, first: Sequence[str], names: Sequence[str], cases: int
) -> Generator[Ask, Evaluation, tuple[Look, dict[str, Look]]]:
    """(divergence with only the first in float, with one more each), until one takes nearly all of it away."""
    whole = yield from mixes.look(first, cases, "look" if first else "ladder")
    found: dict[str, Look] = {}
    for name in names:
        found[name] = yield from mixes.look([*first, name], cases, "look" if first else "keep one")
        if _takes(PLAIN, whole, found[name]):
            break
    return whole, found


def _takes(share: float, whole: Look, seen: Look) -> bool:
    return isfinite(mean(whole)) and _gain(whole, seen) >= share * mean(whole) > 0


def _gain(whole: Look, seen: Look) -> float:
    gain = mean(whole) - mean(seen)
    return gain if isfinite(gain) else float("-inf")


def by_gain(names: Sequence[str], gains: Mapping[str, float], noise: Mapping[str, Noise]) -> list[str]:
    """Layers in the order they go to float: gain per cost, then those that were not tried by their noise per cost, then
    those that were tried and gained nothing."""

    costs = [noise[name].cost for name in names if name in noise and isfinite(noise[name].cost)]
    floor = max(LEAST_COST * sum(costs) / max(1, len(costs)), TINY)

    def per_cost(name: str, value: float) -> float:
        cost = noise[name].cost if name in noise else 1.0
        return value / max(cost, floor) if isfinite(cost) else value

    helped = [name for name in names if gains.get(name, 0.0) > 0]
    helped.sort(key=lambda name: -per_cost(name, gains[name]))
    untried = [name for name in names if name not in gains]
    untried.sort(key=lambda name: -per_cost(name, _ratio(noise, name)))
    useless = [name for name in names if name in gains and name not in helped]
    useless.sort(key=lambda name: -gains[name])
    return [*helped, *untried, *useless]


def _ratio(noise: Mapping[str, Noise], name: str) -> float:
    """Noise over signal of a layer, 0 where nothing was measured; a layer whose output broke comes first."""
    if name not in noise:
        return 0.0
    ratio = noise[name].ratio
    return ratio if isfinite(ratio) else float("1e30")
