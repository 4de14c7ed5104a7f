"""The ladder: many cheap variants, few of which deserve a full score."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from edgeft.exporter import Variant
from edgeft.targets.search.asking import Ask, Branch, Evaluation, family
from edgeft.targets.search.race import State, mean, race, race_bound

TRIES = 3
"""Variants of one family that are scored: the more of them are, the more the best of them owes to luck."""
NARROW = 0.2
"""Chance from which a variant failed so narrowly that another, no better by divergence, may well pass."""


def finalists(state: State, branch: Branch) -> Generator[Ask, Evaluation, list[Evaluation]]:
    """One scored evaluation for each family, in the ladder's order of families.

    A family's first variant is scored at once: where it passes, none of the others can cost less. Families are compared
    by cost and metrics later: weights alone in 8 bits always diverge less than activations too.
    """
    families: dict[str, list[Variant]] = {}
    for variant in branch.ladder:
        families.setdefault(family(variant), []).append(variant)
    chosen = []
    for variants in families.values():
        done = yield Ask("finalist", branch.exporter, variants[0], state.settings.cases, timed=True)
        if not done.passes and len(variants) > 1:
            done = yield from _others(state, branch.exporter, variants, done)
        chosen.append(done)
    return chosen


def _others(
    state: State, exporter: str, variants: Sequence[Variant], first: Evaluation
) -> Generator[Ask, Evaluation, Evaluation]:
    """The family's others cost the same: the best of a race is scored, more of them after a narrow failure.

    The one that passes, or else the one of least divergence.
    """
    order = yield from race(state, exporter, variants)
    tried = [] if first.answer.refused else [first]
    for place, variant in enumerate(order):
        if variant == first.ask.variant:
            continue
        if (place and not _narrow(tried)) or len(tried) >= TRIES:
            break
        done = yield Ask(
            "finalist",
            exporter,
            variant,
            state.settings.cases,
            timed=not tried,
            part=state.settings.part if tried else 0,
        )
        if done.passes:
            return done
        tried.append(done)
    ranks = {
        done.number: mean(state.seen(exporter, done.ask.variant, state.settings.glance) or (done.rank,))
        for done in tried
    }
    return min(tried, key=lambda done: ranks[done.number], default=first)


def _narrow(tried: Sequence[Evaluation]) -> bool:
    """Whether one of them failed by no more than chance would explain."""
    return any(done.answer.chance is not None and done.answer.chance >= NARROW for done in tried)


def ladder_bound(size: int) -> int:
    """Questions that a family of so many variants comes to at most."""
    return 1 if size == 1 else race_bound(size) + min(size, TRIES)
