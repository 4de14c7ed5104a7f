"""What a compression search asks and is told, and what it keeps: questions, answers, evaluations, a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from math import inf, isfinite, nan
from typing import Any, Literal

from edgeft.canonical import digest_json
from edgeft.exporter import Layer, Variant

Purpose = Literal["ladder", "finalist", "repair", "layers", "keep one", "quantise one", "look", "prefix", "backward"]
"""Why something is asked. ladder, keep one, quantise one, look: the divergence of outputs, which only ranks. finalist,
repair, prefix, backward: the task's metrics against the gates. layers: the noise of each layer's output."""
SCORED = frozenset({"finalist", "repair", "prefix", "backward"})
GLANCE = 4
"""Least cases of a first look: with fewer, a paired comparison has no spread to speak of."""
PART = 8
"""Least cases that may tell that a candidate is hopeless."""
HOPELESS = 0.02
"""A candidate whose chance on a part of the cases is below this share of a lossless one's is not run on the rest."""
MIXED = "-mixed-"
FORM = ("mode", "bits", "algorithm", "operators", "activation_bits")
"""Options that change what is computed and so what it costs; the others only change how well."""
ALIKE = frozenset({("algorithm", "rtn"), ("algorithm", "awq"), ("algorithm", "gptq")})
"""Of these, what ends in the same format as the option's default: 4-bit weights are read alike whoever chose them."""


@dataclass(frozen=True)
class Ask:
    """One question: make this variant, run it over `cases` search cases (all of them where it is scored), answer.

    timed: its cost must be measured; otherwise an answer without one is estimated by the search itself. part: where it
    is scored, look at so many cases first, and leave the rest where these say that it is hopeless; 0: at all of them.
    """

    purpose: Purpose
    exporter: str
    variant: Variant
    cases: int
    timed: bool = False
    part: int = 0

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Equal questions have equal answers: they are asked once."""
        kind = "score" if self.purpose in SCORED else "layers" if self.purpose == "layers" else "rank"
        return kind, self.exporter, identity(self.variant), self.cases


@dataclass(frozen=True)
class Noise:
    """What compression does to one layer. ratio: noise over signal of its output, as power. cost: what the layer costs
    more in float than compressed, in the search's unit; NaN where it is not known.

    weights, activations: noise over signal by 8-bit weights or 8-bit activations alone, None where the exporter cannot
    tell. low, high, counts: range of its output and a histogram over it.
    """

    ratio: float
    cost: float = nan
    weights: float | None = None
    activations: float | None = None
    low: float | None = None
    high: float | None = None
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What became of a question.

    divergence: of the outputs from the float artefact's, 0 where they are equal. slack: how far the candidate is on the
    right side of what the gates ask, negative where it is not; None where it was not scored. cost: in the search's unit
    (ms, bytes); None where not measured. cases: how many it tells of. refused: why it could not be made or run.
    chance: to pass the gates. each: search case -> divergence of its outputs, so that no case is run twice.
    """

    divergence: float = nan
    slack: float | None = None
    cost: float | None = None
    cases: int = 0
    seconds: float = 0.0
    refused: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    chance: float | None = None
    said: str = ""
    each: Mapping[int, float] = field(default_factory=dict)
    noise: Mapping[str, Noise] = field(default_factory=dict)
    float_anyway: frozenset[str] = frozenset()
    """Layers that the variant leaves in float by itself, such as a classifier's head."""


@dataclass(frozen=True)
class Evaluation:
    """A question with its answer. number: from 1. cost: measured, or estimated by the search; inf: not known."""

    number: int
    ask: Ask
    answer: Answer
    cost: float
    estimated: bool

    @property
    def passes(self) -> bool:
        """Scored, ran, and on the right side of every gate with what the search asks to spare."""
        slack = self.answer.slack
        return not self.answer.refused and slack is not None and slack >= 0

    @property
    def rank(self) -> float:
        """Divergence for ordering: what failed or is no number comes last."""
        return self.answer.divergence if not self.answer.refused and isfinite(self.answer.divergence) else inf


@dataclass(frozen=True)
class Branch:
    """One exporter on one target. float_cost: of its float artefact, None where that could not be measured.

    layers: empty where the exporter cannot keep single ones in float. repairs: variant -> its cheaper-than-float forms.
    """

    exporter: str
    ladder: tuple[Variant, ...]
    float_cost: float | None = None
    layers: tuple[Layer, ...] = ()
    repairs: Callable[[Variant], tuple[Variant, ...]] = lambda variant: ()


@dataclass(frozen=True)
class Budget:
    """evaluations: questions that may be asked. minutes: of work, as the answers state it; None: no limit."""

    evaluations: int = 64
    minutes: float | None = None


@dataclass(frozen=True)
class Settings:
    """cases: in the search set. first: most cases of what only ranks. shortlist: layers tried one by one.

    curves: also compress each shortlisted layer alone, for the report.
    """

    cases: int
    first: int = 32
    shortlist: int = 12
    budget: Budget = Budget()
    curves: bool = False

    @property
    def few(self) -> int:
        """Cases that decide a rank which a first look leaves open."""
        glance = self.glance
        return self.cases if self.cases <= self.first else max(glance, self.first // glance * glance)

    @property
    def glance(self) -> int:
        """Cases of a first look. The larger numbers are multiples of it: evenly spaced, they contain its cases."""
        return min(self.cases, max(GLANCE, self.first // 4))

    @property
    def part(self) -> int:
        """Cases after which a hopeless candidate is left; 0 where the search set is too small for that."""
        if self.cases < 4 * PART:
            return 0
        size = self.few if self.few <= self.cases // 4 else self.glance
        return self.cases // 4 // size * size


def spaced(total: int, cases: int) -> list[int]:
    """`cases` of `total` places, evenly spaced, all of them where there are no more."""
    return [index * total // cases for index in range(cases)] if cases < total else list(range(total))


def identity(variant: Variant) -> str:
    """Digest of everything that makes a variant what it is."""
    return digest_json(describe(variant))


def describe(variant: Variant) -> dict[str, Any]:
    """Every field as JSON: what `restore` makes the variant of again."""
    flags = {item.name: getattr(variant, item.name) for item in fields(variant) if item.name.startswith("needs_")}
    return {**variant.to_json(), **flags}


def restore(found: Mapping[str, Any]) -> Variant:
    """The variant that `describe` described. KeyError, TypeError or ValueError where it is none."""
    flags = {str(name): bool(value) for name, value in found.items() if str(name).startswith("needs_")}
    kept = frozenset(str(name) for name in found["keep_float"])
    return Variant(str(found["name"]), dict(found["options"]), kept, **flags)


def keep(variant: Variant, layers: frozenset[str]) -> Variant:
    """The variant with more layers in float, under a name of its own: `int8-static-mixed-3f2a9c1e`."""
    kept = variant.keep_float | layers
    if kept == variant.keep_float:
        return variant
    base = variant.name.partition(MIXED)[0]
    named = digest_json({"options": dict(variant.options), "keep": sorted(kept)})
    return replace(variant, name=f"{base}{MIXED}{named[:8]}", keep_float=kept)


def family(variant: Variant) -> str:
    """Variants that compute in the same form (`static`, `weights 4`), among which divergence decides."""
    options: Mapping[str, Any] = variant.options
    if "mode" not in options:
        return variant.name
    return " ".join(str(options[key]) for key in FORM if key in options and (key, options[key]) not in ALIKE)
