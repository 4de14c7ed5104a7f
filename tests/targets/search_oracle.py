"""A synthetic oracle for searches: layers with a known damage and cost, nothing is run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import nan

from edgeft.exporter import Layer, Variant
from edgeft.targets.search.asking import Answer, Ask, Branch, Budget, Noise, Settings, family, spaced
from edgeft.targets.search.search import Search

CASES = 64


@dataclass
class Oracle:
    """Synthetic: a variant's damage is the sum over its compressed layers, and it passes up to `limit`.

    forms: family -> (factor on damage, cost of all layers compressed). broken: names of variants that cannot be made.
    """

    damage: dict[str, float]
    cost: dict[str, float]
    limit: float
    forms: dict[str, tuple[float, float]] = field(default_factory=lambda: {"static": (1.0, 1.0)})
    broken: frozenset[str] = frozenset()
    nan_scores: frozenset[str] = frozenset()
    seconds: float = 1.0

    def answer(self, ask: Ask) -> Answer:
        """With the cases it tells of, each as damaged as all of them."""
        answer = self.judge(ask)
        if ask.purpose == "layers" or answer.refused:
            return answer
        return replace(answer, each=dict.fromkeys(spaced(CASES, ask.cases), answer.divergence))

    def judge(self, ask: Ask) -> Answer:
        name = ask.variant.name.partition("-mixed-")[0]
        if name in self.broken:
            return Answer(refused="the converter refused operator Foo", cases=0, seconds=self.seconds)
        factor, base = self.forms[family(ask.variant)]
        factor *= float(ask.variant.options.get("factor", 1.0))
        lost = factor * sum(value for layer, value in self.damage.items() if layer not in ask.variant.keep_float)
        if ask.purpose == "layers":
            total, noise = 0.0, {}
            for layer, value in self.damage.items():
                total += factor * value
                noise[layer] = Noise(total, self.cost[layer])
            return Answer(noise=noise, cases=ask.cases, seconds=self.seconds)
        if name in self.nan_scores:
            return Answer(nan, nan, cases=ask.cases, seconds=self.seconds)
        scored = ask.purpose in ("finalist", "repair", "prefix", "backward")
        cost = base + sum(self.cost[layer] for layer in ask.variant.keep_float) if ask.timed else None
        return Answer(lost, self.limit - lost if scored else None, cost, ask.cases, self.seconds)


def layers(count: int) -> tuple[Layer, ...]:
    return tuple(Layer(f"layer{index}", "MatMul", 100, f"out{index}") for index in range(count))


STATIC = Variant("int8-static", {"mode": "static"}, needs_calibration=True)


def run(oracle: Oracle, *ladder: Variant, most: int = 500, minutes: float | None = None, **more: object) -> Search:
    """The whole search against the oracle."""
    names = layers(len(oracle.damage))
    branch = Branch(
        "onnx", ladder or (STATIC,), float_cost=1.0 + sum(oracle.cost.values()) + 1e-6, layers=names, **more
    )  # type: ignore[arg-type]
    search = Search([branch], Settings(CASES, first=16, shortlist=8, budget=Budget(most, minutes)))
    while (ask := search.ask()) is not None:
        assert search.ask() is ask, "asking twice must not move the search"
        search.tell(oracle.answer(ask))
    return search
