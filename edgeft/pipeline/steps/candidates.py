"""The artefacts a build tries: exporters x compressed variants, for each target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeft import plugins
from edgeft.artifact import Artifact
from edgeft.device.profile import Device
from edgeft.exporter import Exporter, Variant
from edgeft.pipeline.spec import Host
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.problems import did_you_mean
from edgeft.recipe.schema import Recipe, Target

FLOAT = "float"
DeviceFacts = Mapping[str, str]
"""What a device said of itself and of one runtime: machine, flags, versions."""
Reached = Mapping[str, Mapping[str, DeviceFacts]]
"""Device -> runtime -> its facts, for devices that are not this machine."""
_ANSWERS = ("machine", "cpu_flags", "numpy")
_TIMES = (*_ANSWERS, "system", "cpus", "python")


@dataclass(frozen=True)
class Candidate:
    """One artefact to try on one target; variant None is the float export. facts: empty for this machine."""

    target: Target
    device: Device
    exporter: Exporter
    variant: Variant | None
    facts: DeviceFacts = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`onnx/int8-dynamic`: unique within a target."""
        return f"{self.exporter.name}/{self.variant.name if self.variant else FLOAT}"

    @property
    def id(self) -> str:
        """Id of the step that makes it."""
        return f"{self.device.name}/{self.name}"

    @property
    def float_id(self) -> str:
        """Id of the step that makes its exporter's float artefact for this device."""
        return f"{self.device.name}/{self.exporter.name}/{FLOAT}"

    @property
    def emulated(self) -> bool:
        """Answers count, times mean nothing."""
        return self.device.how == "emulated"

    @property
    def runs(self) -> bool:
        """Whether the build runs it: not where a person has to go."""
        return not self.device.by_hand

    def is_timed(self, recipe: Recipe) -> bool:
        """Whether the build takes its times: they mean something there, and the recipe asks for them."""
        return self.runs and not self.emulated and recipe.measure.times


def plan_candidates(loaded: LoadedRecipe, devices: Mapping[str, Device], reached: Reached) -> list[Candidate]:
    """Every candidate of every target, float first. RecipeError for an unknown candidate name.

    Where a target searches, only its float exports are candidates beforehand; the others come from the search.
    """
    found = []
    for index, (target, device) in enumerate(zip(loaded.recipe.targets, devices.values(), strict=True)):
        known: list[str] | None = [FLOAT]
        for name in target.export:
            exporter: Exporter = plugins.load("exporters", name)()
            facts = reached.get(device.name, {}).get(exporter.runtime, {})
            found.append(Candidate(target, device, exporter, None, facts))
            for variant in () if target.searches else exporter.ladder(device):
                if target.candidates is None or variant.name in target.candidates:
                    found.append(Candidate(target, device, exporter, variant, facts))
            offered = offered_variants(exporter, target, device)
            known = None if known is None or offered is None else [*known, *(variant.name for variant in offered)]
        if known is not None:
            _refuse_unknown(loaded, index, list(dict.fromkeys(known)), device)
    return found


def offered_variants(exporter: Exporter, target: Target, device: Device) -> tuple[Variant, ...] | None:
    """What `candidates` of a target may name of an exporter: its ladder, or all it may give a search; None where it
    does not say what that is."""
    if not target.searches or not hasattr(exporter, "rungs"):
        return exporter.ladder(device)
    possible = getattr(exporter, "possible_rungs", None)
    return tuple(possible(device)) if possible is not None else None


def _refuse_unknown(loaded: LoadedRecipe, index: int, known: Sequence[str], device: Device) -> None:
    """RecipeError at the first of a target's `candidates` that no exporter of it has."""
    for place, name in enumerate(loaded.recipe.targets[index].candidates or ()):
        if name not in known:
            hint = did_you_mean(name, known, "on this device there are")
            if name in _searched_names(loaded.recipe.targets[index], device):
                hint = "a search tries it: add `search: {}` to this target"
            raise loaded.error(("targets", index, "candidates", place), f"no candidate is called '{name}'", hint)


def _searched_names(target: Target, device: Device) -> set[str]:
    """Names that `candidates` may hold where the target searches."""
    exporters = (plugins.load("exporters", name)() for name in target.export)
    possible = (getattr(exporter, "possible_rungs", None) for exporter in exporters)
    return {variant.name for rungs in possible if rungs is not None for variant in rungs(device)}


def searched_ladder(candidate: Candidate, artifact: Artifact) -> tuple[Variant, ...]:
    """The variants a search starts from: the exporter's rungs for this float artefact, or its small ladder where it has
    none. The recipe's `candidates` narrow them; without these a search by time leaves out what is known to be slower
    than float. Raises Unsupported."""
    exporter, device, names = candidate.exporter, candidate.device, candidate.target.candidates
    rungs = getattr(exporter, "rungs", None)
    found = tuple(rungs(artifact, device) if rungs is not None else exporter.ladder(device))
    if names is not None:
        return tuple(variant for variant in found if variant.name in names)
    return worth_offering(candidate.target, found)


def worth_offering(target: Target, variants: Sequence[Variant]) -> tuple[Variant, ...]:
    """Without those that can only make the artefact smaller, unless that is the aim."""
    return tuple(variant for variant in variants if target.optimise == "size" or not variant.for_size)


def device_config(candidate: Candidate, *, timed: bool = False) -> dict[str, Any]:
    """What of a device, and of what it said of itself, changes answers (or times): part of the step's config."""
    device = candidate.device
    fields = {"name", "transport", "how", "architecture", "threads", "providers", "fallback", "emulate"}
    fields |= ({"affinity"} if timed else set()) | ({"provider_options"} if device.provider_options else set())
    found: dict[str, Any] = device.model_dump(mode="json", include=fields)
    if candidate.facts:
        keep = _TIMES if timed else _ANSWERS
        own = plugins.load("runtimes", candidate.exporter.runtime).DISTRIBUTIONS[0]
        found["facts"] = {
            name: text for name, text in candidate.facts.items() if name in keep or name.startswith(own.split("-")[0])
        }
        if timed and device.unit is not None:
            found["unit"] = device.unit.name
    return found


def runs_here(candidate: Candidate) -> bool:
    """True where answers depend on this machine's own processor and packages."""
    return candidate.device.transport == "local"


def run_tools(candidate: Candidate) -> tuple[str, ...]:
    """Distributions on this machine whose versions change answers; another device's are in `device_config`."""
    if not runs_here(candidate):
        return ()
    tools: tuple[str, ...] = plugins.load("runtimes", candidate.exporter.runtime).DISTRIBUTIONS
    return tools


def run_host(candidate: Candidate, *, timed: bool = False) -> Host:
    """What of this machine enters the key of a step that runs the artefact."""
    if not runs_here(candidate):
        return "any"
    return "measuring" if timed else "numeric"
