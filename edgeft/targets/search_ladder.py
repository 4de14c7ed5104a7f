"""The ladder: many cheap variants, few of which deserve a full score."""

from __future__ import annotations

from collections.abc import Generator
from math import ceil, isfinite

from edgeft.exporter import Variant
from edgeft.targets.asking import Ask, Branch, Evaluation, Settings, family


def finalists(branch: Branch, settings: Settings) -> Generator[Ask, Evaluation, list[Evaluation]]:
    """One scored evaluation for each family, in the ladder's order of families.

    A family's first variant is scored at once: where it passes, none of the others can cost less. Where it fails, the
    variant of least divergence is scored too. Families are compared by cost and metrics later: weights alone in 8 bits
    always diverge less than activations too.
    """
    families: dict[str, list[Variant]] = {}
    for variant in branch.ladder:
        families.setdefault(family(variant), []).append(variant)
    chosen = []
    for variants in families.values():
        done = yield Ask("finalist", branch.exporter, variants[0], settings.cases, timed=True)
        if not done.passes and len(variants) > 1:
            best = yield from halve(branch.exporter, variants, settings)
            if best is not None and best != variants[0]:
                done = yield Ask("finalist", branch.exporter, best, settings.cases, timed=True)
        chosen.append(done)
    return chosen


def halve(exporter: str, variants: list[Variant], settings: Settings) -> Generator[Ask, Evaluation, Variant | None]:
    """Successive halving: each round doubles the cases and keeps the better half by divergence; one is left.

    A lone variant is not ranked. None where all of them failed. Ties go to the earlier, cheaper one.
    """
    left, cases = list(variants), min(settings.first, settings.cases)
    while len(left) > 1:
        ranks = []
        for place, variant in enumerate(left):
            done = yield Ask("ladder", exporter, variant, cases)
            ranks.append((done.rank, place, variant))
        alive = sorted((rank, place) for rank, place, _ in ranks if isfinite(rank))
        if not alive:
            return None
        kept = sorted(place for _, place in alive[: ceil(len(left) / 2)])
        left = [left[place] for place in kept]
        cases = min(2 * cases, settings.cases)
    return left[0]


def halving_bound(size: int) -> int:
    """Questions that `halve` asks of a family at most."""
    total = 0
    while size > 1:
        total += size
        size = ceil(size / 2)
    return total
