"""What answers a search: each question is store steps, so a killed build goes on and equal questions cost nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edgeft.artifact import Artifact
from edgeft.device.protocol import ArtefactRefused
from edgeft.errors import StepError
from edgeft.exporter import Layer, Unsupported, Variant
from edgeft.metric_names import RESOURCE_METRICS
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.judging.gatekeeping import gates_for
from edgeft.pipeline.judging.likely import Likely, judge_likely
from edgeft.pipeline.judging.trial import Trial, make_compressed, new_trial, refusal_text, score_trial, try_one
from edgeft.pipeline.plan import Plan
from edgeft.pipeline.steps.answers import thin_index
from edgeft.pipeline.steps.arrays import load_arrays
from edgeft.pipeline.steps.candidates import Candidate, searched_ladder, worth_offering
from edgeft.pipeline.steps.measuring import outputs_spec
from edgeft.pipeline.steps.noise_step import noise_spec, read_noise
from edgeft.targets.choose import COSTS
from edgeft.targets.measure import artifact_bytes
from edgeft.targets.search.asking import HOPELESS, SCORED, Answer, Ask, Noise
from edgeft.targets.search.sensitivity import with_parts

TIMED = RESOURCE_METRICS - {"artifact_mb"}
FLOAT_WEIGHT, INT8_WEIGHT = 4, 1
"""Bytes of a weight."""


@dataclass
class Oracle:
    """Answers for one target. floats: exporter -> its float trial, which ran. trials: tried in full, by name.

    ran: how often a case was run for all answers together, whatever was looked at.
    """

    plan: Plan
    executor: Executor
    floats: Mapping[str, Trial]
    chance: float
    trials: dict[str, Trial] = field(default_factory=dict)
    ran: int = 0
    bare: dict[str, str] = field(default_factory=dict)
    """Exporter -> why it has nothing to try."""
    _begun: dict[str, int] = field(default_factory=dict)
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
            found = searched_ladder(trial.candidate, trial.artifact)
        except Unsupported as refusal:
            found, self.bare[exporter] = (), f"{exporter}: {refusal_text(refusal)}"
            self.executor.events.warn(f"{trial.candidate.device.name}/search", self.bare[exporter])
        if not found:
            self.bare.setdefault(exporter, f"{exporter} offers this model none of `candidates`")
        return found

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
        outputs = self._outputs(candidate, ask.cases)
        far, each = self._divergence(ask.exporter, outputs)
        return Answer(far, cases=int(outputs.facts["n"]), each=each)

    def _outputs(self, candidate: Candidate, few: int | None = None) -> Artifact:
        """Answers to so many search cases, or all; what an earlier look ran is not run again, unless answers may depend
        on what else is in their batch."""
        recipe = self.plan.loaded.recipe
        begun = self._begun.get(candidate.id) if recipe.serve.batch == 1 else None
        found = self.executor.perform(outputs_spec(candidate, recipe, "search", few, begun=begun))
        self.ran += int(found.facts["n"]) - (begun or 0)
        if few is not None:
            self._begun[candidate.id] = max(few, begun or 0)
        return found

    def _scored(self, ask: Ask, candidate: Candidate) -> Answer:
        """In full, with its time, where that is asked for; else only made and run over the search set."""
        trial = self.trials.get(candidate.name) or new_trial(candidate)
        if ask.timed and candidate.name not in self.trials:
            self.trials[candidate.name] = trial
            try_one(self.plan, self.executor, trial, timed=self._times_matter(candidate))
            self.ran += int(trial.outputs.facts["n"]) if trial.outputs is not None else 0
            if trial.row.status != "eligible":
                return Answer(refused=trial.row.why)
        elif trial.outputs is None:
            if ask.part and (hopeless := self._glimpse(ask, candidate)) is not None:
                return hopeless
            self._run(trial)
        if trial.outputs is None or trial.score is None:
            return Answer(refused=trial.row.why or "it did not run")
        likely = judge_likely(self.plan, self.executor, trial, self.chance)
        trial.unlikely = likely.miss
        cost = self.cost(trial)
        known = cost is not None and (ask.timed or trial.candidate.target.optimise == "size")
        return replace(self._judgement(ask, trial, likely), cost=cost if known else None)

    def _glimpse(self, ask: Ask, candidate: Candidate) -> Answer | None:
        """The answer by a part of the cases, where these leave a candidate next to no chance; None where it has one."""
        if candidate.emulated:
            return None
        trial = new_trial(candidate)
        self._run(trial, ask.part)
        likely = judge_likely(self.plan, self.executor, trial, self.chance)
        if likely.share >= HOPELESS or not likely.why:
            return None
        told = self._judgement(ask, trial, likely)
        return replace(told, said=f"left after {told.cases} of {ask.cases} cases: {likely.why}")

    def _judgement(self, ask: Ask, trial: Trial, likely: Likely) -> Answer:
        """What the answers of a trial say of it, without its cost."""
        if trial.outputs is None or trial.score is None:
            raise ValueError(f"{trial.candidate.name} did not run")
        far, each = self._divergence(ask.exporter, trial.outputs)
        return Answer(
            far, likely.slack, None, int(trial.outputs.facts["n"]), metrics=dict(trial.score.metrics),
            chance=likely.chance, said=likely.why, each=each,
        )  # fmt: skip

    def _times_matter(self, candidate: Candidate) -> bool:
        """Whether anything but the proposal must be timed: not if size is the aim and nothing limits time or memory."""
        if candidate.device.max_memory_mb is not None:
            return True
        gates = gates_for(self.plan.loaded.recipe.gates, candidate.device.name)
        return candidate.target.optimise != "size" or any(gate.metric in TIMED for gate in gates)

    def _run(self, trial: Trial, few: int | None = None) -> None:
        from edgeft.pipeline.steps.emulation import pace_spec

        recipe, candidate = self.plan.loaded.recipe, trial.candidate
        trial.artifact = make_compressed(self.plan, self.executor, candidate)
        if candidate.emulated and few is None:
            self.executor.perform(pace_spec(candidate, recipe))
        trial.outputs = self._outputs(candidate, few)
        score_trial(self.plan, self.executor, trial, trial.outputs)

    def _noise(self, ask: Ask, candidate: Candidate) -> Answer:
        spec = noise_spec(candidate, self.plan.loaded.recipe, ask.cases)
        noise = read_noise(self.executor.perform(spec).facts)
        self.ran += 2 * ask.cases
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
            found = read_noise(self.executor.perform(noise_spec(other, self.plan.loaded.recipe, ask.cases)).facts)
            self.ran += 2 * ask.cases
            return found
        except (Unsupported, StepError):
            self.executor.leave_out(f"this exporter cannot compress {part} alone")
            return {}

    def _costs(self, ask: Ask, candidate: Candidate) -> Mapping[str, float]:
        """Layer -> what it costs in float: bytes by its weights, or time by both profiles."""
        from edgeft.targets.search.sensitivity import layer_costs

        layers, plain, trial = self.layers(ask.exporter), self.floats[ask.exporter], self.trials.get(candidate.name)
        if candidate.target.optimise == "size" or trial is None:
            return {layer.name: float(layer.weights * (FLOAT_WEIGHT - INT8_WEIGHT)) for layer in layers}
        before, after = self.cost(plain), self.cost(trial)
        extra = before - after if before is not None and after is not None else 0.0
        return layer_costs(layers, plain.row.operators, trial.row.operators, extra)

    def _divergence(self, exporter: str, outputs: Artifact) -> tuple[float, dict[int, float]]:
        """From the float artefact's answers, on the cases that both answered: (in all, case -> of that case)."""
        from edgeft.targets.search.divergence import divergence, divergences

        plain = self.floats[exporter].outputs
        total = int(self.executor.done["source/search"].facts["n"])
        if plain is None:
            return float("nan"), {}
        ours, theirs = _cases(plain, total), _cases(outputs, total)
        common = sorted(set(ours) & set(theirs))
        reference, other = load_arrays(plain.path / "outputs.npz"), load_arrays(outputs.path / "outputs.npz")
        first, second = [ours[case] for case in common], [theirs[case] for case in common]
        ours_of = {name: array[first] for name, array in reference.items()}
        theirs_of = {name: array[second] for name, array in other.items() if len(array) == len(theirs)}
        return divergence(ours_of, theirs_of), dict(zip(common, divergences(ours_of, theirs_of), strict=True))

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
