"""What answers a search: each question is store steps, so a killed build goes on and equal questions cost nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edgeft.artifact import Artifact
from edgeft.device.protocol import ArtefactRefused
from edgeft.errors import StepError
from edgeft.exporter import Layer, Unsupported, Variant
from edgeft.gate import RESOURCE_METRICS
from edgeft.pipeline.answers import thin_index
from edgeft.pipeline.arrays import load_arrays
from edgeft.pipeline.candidates import Candidate, searched_ladder, worth_offering
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.gatekeeping import gates_for
from edgeft.pipeline.likely import Likely, judge_likely
from edgeft.pipeline.measuring import outputs_spec
from edgeft.pipeline.noise_step import noise_spec, read_noise
from edgeft.pipeline.plan import Plan
from edgeft.pipeline.trial import Trial, make_compressed, new_trial, refusal_text, score_trial, try_one
from edgeft.targets.asking import SCORED, Answer, Ask, Noise
from edgeft.targets.choose import COSTS
from edgeft.targets.measure import artifact_bytes
from edgeft.targets.sensitivity import with_parts

TIMED = RESOURCE_METRICS - {"artifact_mb"}
FLOAT_WEIGHT, INT8_WEIGHT = 4, 1
"""Bytes of a weight."""


@dataclass
class Oracle:
    """Answers for one target. floats: exporter -> its float trial, which ran. trials: tried in full, by name."""

    plan: Plan
    executor: Executor
    floats: Mapping[str, Trial]
    chance: float
    trials: dict[str, Trial] = field(default_factory=dict)
    judged: dict[str, Likely] = field(default_factory=dict)
    _counted: set[str] = field(default_factory=set)

    def answer(self, ask: Ask) -> Answer:
        """Make and run what is asked. What it cannot do is an answer too; only a device that fails ends the search."""
        candidate = self.candidate(ask.exporter, ask.variant)
        try:
            answer = self._answer(ask, candidate)
        except Unsupported as refusal:
            answer = self._refused(refusal_text(refusal))
        except (ArtefactRefused, StepError) as refusal:
            answer = self._refused(refusal.what)
        return replace(answer, seconds=self._seconds(candidate))

    def candidate(self, exporter: str, variant: Variant) -> Candidate:
        """The candidate that a variant is on this target."""
        return replace(self.floats[exporter].candidate, variant=variant)

    def cost(self, trial: Trial) -> float | None:
        """What the recipe asks to have least of, in ms or bytes; None where it was not measured."""
        optimise = trial.candidate.target.optimise
        if optimise == "size":
            return float(artifact_bytes(trial.artifact)) if trial.artifact else None
        found = next((item for item in trial.measurements if item.metric == COSTS[optimise][0]), None)
        return found.value if found else None

    def ladder(self, exporter: str) -> tuple[Variant, ...]:
        """The variants to start from; none, with a word on it, where the float artefact cannot be compressed."""
        trial = self.floats[exporter]
        if trial.artifact is None:
            return ()
        try:
            return searched_ladder(trial.candidate, trial.artifact)
        except Unsupported as refusal:
            self.executor.events.warn(f"{trial.candidate.device.name}/search", f"{exporter}: {refusal_text(refusal)}")
            return ()

    def layers(self, exporter: str) -> tuple[Layer, ...]:
        """Layers of the float artefact that may stay in float; none where the exporter cannot tell."""
        trial = self.floats[exporter]
        listed = getattr(trial.candidate.exporter, "layers", None)
        if listed is None or trial.artifact is None:
            return ()
        try:
            return tuple(listed(trial.artifact))
        except Unsupported:
            return ()

    def repairs(self, exporter: str, variant: Variant) -> tuple[Variant, ...]:
        """The exporter's repairs of a variant on this device; none where it knows of none."""
        candidate = self.floats[exporter].candidate
        listed = getattr(candidate.exporter, "repairs", None)
        return worth_offering(candidate.target, listed(variant, candidate.device)) if listed else ()

    def _answer(self, ask: Ask, candidate: Candidate) -> Answer:
        if ask.purpose == "layers":
            return self._noise(ask, candidate)
        if ask.purpose in SCORED:
            return self._scored(ask, candidate)
        make_compressed(self.plan, self.executor, candidate)
        outputs = self.executor.perform(outputs_spec(candidate, self.plan.loaded.recipe, "search", ask.cases))
        return Answer(self._divergence(ask.exporter, outputs), cases=int(outputs.facts["n"]))

    def _scored(self, ask: Ask, candidate: Candidate) -> Answer:
        """In full, with its time, where that is asked for; else only made and run over the search set."""
        trial = self.trials.get(candidate.name) or new_trial(candidate)
        if ask.timed and candidate.name not in self.trials:
            self.trials[candidate.name] = trial
            try_one(self.plan, self.executor, trial, timed=self._times_matter(candidate))
            if trial.row.status != "eligible":
                return Answer(refused=trial.row.why)
        elif trial.outputs is None:
            self._run(trial)
        if trial.outputs is None or trial.score is None:
            return Answer(refused=trial.row.why or "it did not run")
        likely = judge_likely(self.plan, self.executor, trial, self.chance)
        self.judged[candidate.name] = likely
        trial.unlikely = likely.miss
        cost = self.cost(trial)
        return Answer(
            self._divergence(ask.exporter, trial.outputs),
            likely.slack,
            cost if cost is not None and (ask.timed or trial.candidate.target.optimise == "size") else None,
            int(trial.outputs.facts["n"]),
            metrics=dict(trial.score.metrics),
            chance=likely.chance,
            said=likely.why,
        )

    def _times_matter(self, candidate: Candidate) -> bool:
        """Whether anything but the proposal must be timed: not where size is the aim and no gate limits a time."""
        gates = gates_for(self.plan.loaded.recipe.gates, candidate.device.name)
        return candidate.target.optimise != "size" or any(gate.metric in TIMED for gate in gates)

    def _run(self, trial: Trial) -> None:
        from edgeft.pipeline.emulation import pace_spec

        recipe, candidate = self.plan.loaded.recipe, trial.candidate
        trial.artifact = make_compressed(self.plan, self.executor, candidate)
        if candidate.emulated:
            self.executor.perform(pace_spec(candidate, recipe))
        trial.outputs = self.executor.perform(outputs_spec(candidate, recipe, "search"))
        score_trial(self.executor, trial, recipe, trial.outputs)

    def _noise(self, ask: Ask, candidate: Candidate) -> Answer:
        spec = noise_spec(candidate, self.plan.loaded.recipe, ask.cases)
        noise = read_noise(self.executor.perform(spec).facts)
        for part in ("weights", "activations"):
            noise = with_parts(noise, part, self._part(ask, candidate, part))
        costs = self._costs(ask, candidate)
        found = {name: replace(item, cost=costs.get(name, 0.0)) for name, item in noise.items()}
        own = frozenset(self.executor.done[candidate.id].facts.get("kept_float", ())) - ask.variant.keep_float
        return Answer(cases=ask.cases, noise=found, float_anyway=own)

    def _part(self, ask: Ask, candidate: Candidate, part: str) -> Mapping[str, Noise]:
        """Noise by 8-bit weights or 8-bit activations alone; none where the exporter does not know that option."""
        made = replace(ask.variant, name=f"{ask.variant.name}-{part}", options={**ask.variant.options, "part": part})
        other = replace(candidate, variant=made)
        try:
            make_compressed(self.plan, self.executor, other)
            return read_noise(self.executor.perform(noise_spec(other, self.plan.loaded.recipe, ask.cases)).facts)
        except (Unsupported, StepError):
            self.executor.leave_out(f"this exporter cannot compress {part} alone")
            return {}

    def _costs(self, ask: Ask, candidate: Candidate) -> Mapping[str, float]:
        """Layer -> what it costs in float: bytes by its weights, or time by both profiles."""
        from edgeft.targets.sensitivity import layer_costs

        layers, plain, trial = self.layers(ask.exporter), self.floats[ask.exporter], self.trials.get(candidate.name)
        if candidate.target.optimise == "size" or trial is None:
            return {layer.name: float(layer.weights * (FLOAT_WEIGHT - INT8_WEIGHT)) for layer in layers}
        before, after = self.cost(plain), self.cost(trial)
        extra = before - after if before is not None and after is not None else 0.0
        return layer_costs(layers, plain.row.operators, trial.row.operators, extra)

    def _divergence(self, exporter: str, outputs: Artifact) -> float:
        """From the float artefact's answers, on the cases that both answered."""
        from edgeft.targets.divergence import divergence

        plain = self.floats[exporter].outputs
        total = int(self.executor.done["source/search"].facts["n"])
        if plain is None:
            return float("nan")
        ours, theirs = _cases(plain, total), _cases(outputs, total)
        common = sorted(set(ours) & set(theirs))
        reference, other = load_arrays(plain.path / "outputs.npz"), load_arrays(outputs.path / "outputs.npz")
        first, second = [ours[case] for case in common], [theirs[case] for case in common]
        return divergence(
            {name: array[first] for name, array in reference.items()},
            {name: array[second] for name, array in other.items() if len(array) == len(theirs)},
        )

    def _refused(self, why: str) -> Answer:
        self.executor.leave_out(why)
        return Answer(refused=why)

    def _seconds(self, candidate: Candidate) -> float:
        """Time of the candidate's steps that no earlier answer counted; a cached step counts what it took then."""
        rows = self.executor.rows
        mine = {step for step in rows if step == candidate.id or step.startswith(f"{candidate.id}/")} - self._counted
        self._counted |= mine
        return round(sum(rows[step].seconds for step in mine), 3)


def _cases(outputs: Artifact, total: int) -> dict[int, int]:
    """Case of the source's answers -> row of these outputs."""
    n = int(outputs.facts["n"])
    return {case: row for row, case in enumerate(thin_index(total, n) or range(n))}
