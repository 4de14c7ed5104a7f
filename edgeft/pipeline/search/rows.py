"""A finished search as the record's rows: evaluations, front, and the sensitivity of the layers."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from edgeft.exporter import Layer, Variant
from edgeft.pipeline.search.oracle import Oracle
from edgeft.recipe.schema import Target
from edgeft.record import EvaluationRow, SearchRow, SensitivityRow
from edgeft.targets.search.asking import SCORED, Evaluation
from edgeft.targets.search.race import mean
from edgeft.targets.search.search import Search
from edgeft.targets.search.sensitivity import layer_row, suggest

UNITS = {"latency": "ms", "size": "bytes", "energy-proxy": "processor-ms"}


def search_row(search: Search, oracle: Oracle, target: Target, chance: float) -> SearchRow:
    """Everything the report shows of a search."""
    best = search.best
    rows = [_evaluation(search, done, UNITS[target.optimise]) for done in search.evaluations]
    return SearchRow(
        unit=UNITS[target.optimise],
        chance=chance,
        evaluations=rows,
        budget=search.settings.budget.evaluations,
        cases=oracle.ran,
        seconds=sum(row.seconds for row in rows),
        best=f"{best.ask.exporter}/{best.ask.variant.name}" if best else None,
        front=front(search.evaluations),
        stopped=search.stopped,
        sensitivity=[_sensitivity(search, oracle, done) for done in search.evaluations if done.ask.purpose == "layers"],
    )


def front(done: Sequence[Evaluation]) -> list[int]:
    """Numbers of the scored evaluations that no other one beats in both cost and divergence, cheapest first."""
    scored = [item for item in done if item.ask.purpose in SCORED and isfinite(item.cost) and isfinite(item.rank)]
    found: list[Evaluation] = []
    for item in sorted(scored, key=lambda item: (item.cost, item.rank, item.number)):
        if not found or item.rank < found[-1].rank:
            found.append(item)
    return [item.number for item in found]


def _evaluation(search: Search, done: Evaluation, unit: str) -> EvaluationRow:
    ask, answer = done.ask, done.answer
    dear = _too_dear(search, done, unit) if done.passes else ""
    return EvaluationRow(
        number=done.number,
        purpose=ask.purpose,
        exporter=ask.exporter,
        variant=ask.variant.name,
        kept=sorted(ask.variant.keep_float),
        cases=answer.cases,
        seconds=answer.seconds,
        divergence=_finite(answer.divergence),
        metrics={name: value for name, value in answer.metrics.items() if isfinite(value)},
        chance=answer.chance,
        cost=_finite(done.cost),
        estimated=done.estimated,
        passes=done.passes if ask.purpose in SCORED else None,
        why=answer.refused or answer.said or dear,
    )


def _too_dear(search: Search, done: Evaluation, unit: str) -> str:
    """Why what passes is not taken: it costs no less than its float artefact; empty where it does."""
    limit = search.branches[done.ask.exporter].float_cost
    if limit is None or search.worth(done):
        return ""
    scale, shown = (1e-6, "MB") if unit == "bytes" else (1, unit)
    about = " (estimated)" if done.estimated else ""
    return f"not taken: {done.cost * scale:.3g} {shown}{about}, float costs {limit * scale:.3g} {shown}"


def _sensitivity(search: Search, oracle: Oracle, done: Evaluation) -> SensitivityRow:
    """The layers' table of one variant, with the curves and what of it the search proposes to keep in float."""
    exporter, base = done.ask.exporter, done.ask.variant
    layers, noise = oracle.layers(exporter), done.answer.noise
    best = search.best
    mine = best is not None and best.ask.exporter == exporter and best.ask.variant.options == base.options
    kept = best.ask.variant.keep_float if best is not None and mine else base.keep_float
    kept |= done.answer.float_anyway
    alone, only = _curves(search, exporter, base, layers)
    seen = search.seen(exporter, base, search.settings.glance)
    return SensitivityRow(
        exporter=exporter,
        variant=base.name,
        cases=done.answer.cases,
        layers=[layer_row(layer, noise.get(layer.name), alone, only, layer.name in kept) for layer in layers],
        whole=_finite(mean(seen)) if seen else None,
        suggestion=_suggestion(search, oracle, done, layers) if mine else "",
    )


def _curves(
    search: Search, exporter: str, base: Variant, layers: Sequence[Layer]
) -> tuple[dict[str, float], dict[str, float]]:
    """(layer -> divergence with it alone in float, layer -> divergence with it alone compressed)."""
    alone, only, names = {}, {}, {layer.name for layer in layers}
    for done in search.evaluations:
        ask = done.ask
        if ask.exporter != exporter or ask.variant.options != base.options or not isfinite(done.answer.divergence):
            continue
        more = ask.variant.keep_float - base.keep_float
        if ask.purpose == "keep one" and len(more) == 1:
            alone[next(iter(more))] = done.answer.divergence
        elif ask.purpose == "quantise one" and len(names - ask.variant.keep_float) == 1:
            only[next(iter(names - ask.variant.keep_float))] = done.answer.divergence
    return alone, only


def _suggestion(search: Search, oracle: Oracle, done: Evaluation, layers: Sequence[Layer]) -> str:
    """In words, from scored evaluations: the mix against the same variant with every layer compressed."""
    best, base = search.best, search.find(done.ask.variant, done.ask.exporter)
    if best is None or base is None or best is base:
        return ""
    metric = oracle.executor.task.headline
    before, after = base.answer.metrics.get(metric), best.answer.metrics.get(metric)
    kept = best.ask.variant.keep_float - done.ask.variant.keep_float
    if before is None or after is None or not kept:
        return ""
    more = best.cost - base.cost
    unit = oracle.floats[done.ask.exporter].candidate.target.optimise
    cost = f"{more / 1e6:.2g} MB" if unit == "size" else f"{more:.2g} {UNITS[unit]}"
    cost += " (estimated)" if best.estimated else ""
    said = suggest(len(kept), len(layers), 100 * (after - before), cost, metric)
    if base.answer.cases < best.answer.cases:
        said += f" Without, it was left after {base.answer.cases} of {best.answer.cases} cases."
    return f"{said} Found by evaluation {best.number} of {len(search.evaluations)}."


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
