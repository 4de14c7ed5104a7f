"""A sample search, made by the real search from a synthetic oracle: 37 layers, two of which hurt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from edgeft.exporter import Layer, Variant
from edgeft.pipeline.search.rows import search_row
from edgeft.record import SearchRow
from edgeft.targets.search.asking import SCORED, Answer, Ask, Branch, Budget, Noise, Settings, spaced
from edgeft.targets.search.search import Search

COUNT = 37
LAYERS = tuple(Layer(f"encoder.layer.{i // 6}.linear_{i % 6}", "MatMul", 147_456, f"t{i}") for i in range(COUNT))
DAMAGE = {layer.name: 0.001 + 0.0002 * (index % 5) for index, layer in enumerate(LAYERS)}
DAMAGE |= {LAYERS[9].name: 0.31, LAYERS[28].name: 0.12}

CASES = 400


def answer(ask: Ask) -> Answer:
    """Synthetic: damage adds up over compressed layers."""
    factor = float(ask.variant.options.get("factor", 1.0))
    lost = factor * sum(value for name, value in DAMAGE.items() if name not in ask.variant.keep_float)
    random = np.random.default_rng(7)
    if ask.purpose == "layers":
        total, noise = 0.0, {}
        for layer in LAYERS:
            total = 0.8 * total + DAMAGE[layer.name] * factor
            counts, _ = np.histogram(random.normal(size=2000), bins=40)
            parts = {"weights": total * 0.2, "activations": total * 0.7}
            noise[layer.name] = Noise(total / 10, 0.11, **parts, low=-3.2, high=3.4, counts=tuple(map(int, counts)))
        return Answer(cases=ask.cases, seconds=2.0, noise=noise)
    each = dict.fromkeys(spaced(CASES, ask.cases), lost)
    if ask.purpose not in SCORED:
        return Answer(lost, cases=ask.cases, seconds=1.4, each=each)
    chance = float(np.clip(1.0 - 2.2 * lost, 0.0, 1.0))
    cost = 3.1 + 0.11 * len(ask.variant.keep_float) if ask.timed else None
    said = "" if chance >= 0.8 else f"'accuracy no worse than source by 0.01': chance to pass {chance:.2f}, asked 0.80"
    return Answer(
        lost,
        chance - 0.8,
        cost,
        ask.cases,
        14.0 if ask.timed else 3.0,
        metrics={"accuracy": 0.914 - lost / 10},
        chance=chance,
        said=said,
        each=each,
    )


def sample_search(most: int = 64, float_cost: float = 9.9, damage: float = 1.0) -> SearchRow:
    """What a build would record. damage: a factor on what 8 bits do to every layer."""
    ladder = tuple(
        Variant(f"int8-static-{name}", {"mode": "static", "factor": damage * factor}, needs_calibration=True)
        for name, factor in (("average", 1.0), ("minmax", 1.3), ("p99.9", 1.1))
    )
    branch = Branch("onnx", (Variant("int8-weights", {"mode": "weights", "factor": 3.0}), *ladder), float_cost, LAYERS)
    search = Search([branch], Settings(CASES, budget=Budget(most), curves=True))
    while (ask := search.ask()) is not None:
        search.tell(answer(ask))
    target: Any = SimpleNamespace(optimise="latency")
    oracle: Any = SimpleNamespace(
        ran=sum(done.answer.cases for done in search.evaluations),
        layers=lambda exporter: LAYERS,
        executor=SimpleNamespace(task=SimpleNamespace(headline="accuracy")),
        floats={"onnx": SimpleNamespace(candidate=SimpleNamespace(target=target))},
    )
    return search_row(search, oracle, target, 0.8)
