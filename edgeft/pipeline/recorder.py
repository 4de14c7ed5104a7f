"""A Build as a RunRecord: the one place where the flow's objects become the report's rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from edgeft import __version__
from edgeft.pipeline.build import Build, outcome
from edgeft.pipeline.checks.by_hand import what_is_left
from edgeft.pipeline.host import environment
from edgeft.record import (
    DataRow,
    ErrorRow,
    MergeRow,
    OpeningRow,
    PruneRow,
    RatioSearch,
    RunRecord,
    SplitRow,
    StepRow,
    TargetRow,
    TrainingRow,
)


def make_record(build: Build, started: datetime, seconds: float) -> RunRecord:
    """The record of a build, however far it came."""
    recipe = build.loaded.recipe
    status, code = outcome(build)
    tools = [tool for spec in build.plan.specs for tool in spec.tools] + ["edgeft"]
    return RunRecord(
        edgeft=__version__,
        name=recipe.name,
        recipe=build.loaded.ref,
        description=recipe.description,
        task=recipe.model.task,
        status=status,
        exit_code=int(code),
        started=started.isoformat(timespec="seconds"),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_seconds=round(seconds, 3),
        model=dict(build.plan.inputs.about),
        data=_data(build),
        steps=_steps(build),
        training=[TrainingRow.model_validate(facts["training"]) for facts in _facts(build, "training")],
        pruning=_pruning(build),
        merge=next((MergeRow.model_validate(facts["merge"]) for facts in reversed(_facts(build, "merge"))), None),
        source=dict(build.source.metrics) if build.source else {},
        preprocessing=build.preprocessing,
        targets=_targets(build),
        openings=_openings(build),
        environment=environment(tools),
        resolved_recipe=build.loaded.resolved_yaml,
        warnings=_warnings(build),
        error=_error(build),
    )


def _facts(build: Build, part: str) -> list[dict[str, Any]]:
    return [dict(artifact.facts) for artifact in build.executor.done.values() if part in artifact.facts]


def _pruning(build: Build) -> list[PruneRow]:
    """Every pruning step, with the search that found its ratio."""
    rows = []
    for facts in _facts(build, "prune"):
        row = PruneRow.model_validate(facts["prune"])
        ratio = build.executor.done.get(f"{row.step}/ratio")
        rows.append(
            row.model_copy(update={"search": RatioSearch.model_validate(ratio.facts["search"])}) if ratio else row
        )
    return rows


def _data(build: Build) -> DataRow | None:
    dataset = build.executor.dataset
    if dataset is None:
        return None
    truncated = build.executor.prepared.facts.get("truncated", {}) if build.executor.prepared else {}
    facts = dataset.facts
    splits = [
        SplitRow(
            name=name,
            n=about["n"],
            units=about["units"],
            groups=about["groups"],
            digest=about["digest"],
            classes=dict(about["classes"]),
            truncated=truncated.get(name),
        )
        for name, about in facts["splits"].items()
    ]
    return DataRow(
        source=build.loaded.recipe.data.source,
        labels=list(facts["labels"]),
        splits=splits,
        unit=facts["unit"],
        warnings=list(facts["warnings"]),
    )


def _steps(build: Build) -> list[StepRow]:
    rows = list(build.executor.rows.values())
    known = {row.id for row in rows}
    rest = [spec for spec in build.plan.specs if spec.id not in known]
    return rows + [
        StepRow(id=spec.id, title=spec.title, state="waiting" if build.error or build.interrupted else "skipped")
        for spec in rest
    ]


def _targets(build: Build) -> list[TargetRow]:
    rows = []
    for target, device in zip(build.loaded.recipe.targets, build.plan.devices.values(), strict=True):
        chosen = build.chosen.get(device.name)
        verdicts = build.judgement.verdicts.get(device.name, [])
        rows.append(
            TargetRow(
                device=device.name,
                how=device.how,
                optimise=target.optimise,
                candidates=[trial.row for trial in build.trials.get(device.name, [])],
                chosen=chosen.row.name if chosen else None,
                why=build.reasons.get(device.name, ""),
                gate_set=build.judgement.rows.get(device.name),
                verdicts=[verdict.to_json() for verdict in verdicts],
                differences=build.differences.get(device.name, []),
                search=build.searches.get(device.name),
                examples=build.examples.get(device.name, []),
                not_run=what_is_left(target, device),
                **_about(build, device.name),
            )
        )
    return rows


def _about(build: Build, device: str) -> dict[str, Any]:
    """conditions and probe of a target, where its probe step has run."""
    facts = build.about.get(device)
    if facts is None:
        return {}
    return {"conditions": dict(facts["conditions"]), "probe": facts["probe"]}


def _openings(build: Build) -> list[OpeningRow]:
    dataset = build.executor.dataset
    if dataset is None or "gate" not in dataset.facts["splits"]:
        return []
    rows = build.executor.store.openings(dataset.facts["splits"]["gate"]["digest"])
    return [OpeningRow.model_validate(row) for row in rows]


def _warnings(build: Build) -> list[str]:
    """Each step's warnings; the data step's are in the data table's own list."""
    found = [f"{row.id}: {text}" for row in build.executor.rows.values() if row.id != "data" for text in row.warnings]
    if build.executor.prepared is not None:
        found += [f"prepare: {text}" for text in build.executor.prepared.facts.get("warnings", ())]
    if not build.loaded.recipe.measure.times:
        found.append("no times and no memory were measured: the recipe says measure: {protocol: none}")
    return list(dict.fromkeys(found))


def _error(build: Build) -> ErrorRow | None:
    error = build.error
    if error is None:
        return None
    return ErrorRow(what=error.what, where=error.where, hint=error.hint, excerpt=error.excerpt, step=build.failed_step)
