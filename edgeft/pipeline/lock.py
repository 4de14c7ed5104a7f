"""choice.lock: what was chosen for each target, and the digest that `build --locked` must reproduce."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeft.canonical import canonical_json
from edgeft.errors import RecipeError, StepError
from edgeft.pipeline.judging.trial import Trial
from edgeft.pipeline.plan import Plan
from edgeft.pipeline.steps.candidates import Candidate
from edgeft.targets.search.asking import describe, restore

FILE = "choice.lock"
VERSION = 1
Locked = Mapping[str, Mapping[str, Any]]
"""Target -> {candidate, digest}, and for what a search found its variant: no ladder names it."""


def render(recipe: str, chosen: Mapping[str, Trial]) -> bytes:
    """The lock's canonical bytes."""
    targets = {
        device: {"candidate": trial.row.name, "digest": trial.row.digest, **_searched(trial.candidate)}
        for device, trial in chosen.items()
    }
    return canonical_json({"version": VERSION, "recipe": recipe, "targets": targets}, indent=1)


def read(path: Path, plan: Plan) -> Locked:
    """Target -> what is locked. RecipeError when it is missing, malformed or of other targets."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        targets = {str(device): _row(row) for device, row in content["targets"].items()}
        version = content["version"]
    except OSError:
        raise RecipeError(
            f"there is no {path}", where="--locked", hint="build once without --locked; it writes choice.lock"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RecipeError(
            f"{path} is not a choice.lock", where="--locked", hint="build once without --locked"
        ) from None
    if version != VERSION:
        raise RecipeError(
            f"{path} has version {version}, this edgeft reads {VERSION}",
            where="--locked",
            hint="build once without --locked",
        )
    if set(targets) != set(plan.devices):
        raise RecipeError(
            f"{path} is for {', '.join(sorted(targets))}; the recipe's targets are {', '.join(sorted(plan.devices))}",
            where="--locked",
            hint="build once without --locked",
        )
    known = {(candidate.device.name, candidate.name) for candidate in plan.candidates}
    for device, row in targets.items():
        if (device, row["candidate"]) not in known and not _is_searched(row, device, plan):
            raise RecipeError(
                f"{path} names {row['candidate']}, which {device} does not have",
                where="--locked",
                hint="build once without --locked",
            )
    return targets


def restrict(candidates: list[Candidate], locked: Locked) -> list[Candidate]:
    """Only the locked candidates and the float exports they are made from."""
    kept = []
    for candidate in candidates:
        variant = locked[candidate.device.name].get("variant")
        name = locked[candidate.device.name]["candidate"]
        if candidate.name == name or (candidate.variant is None and name.startswith(f"{candidate.exporter.name}/")):
            kept.append(candidate)
            if variant is not None and candidate.variant is None:
                kept.append(replace(candidate, variant=variant))
    return kept


def _searched(candidate: Candidate) -> dict[str, Any]:
    """The variant, where a search made it up."""
    variant = candidate.variant
    if variant is None or not candidate.target.searches:
        return {}
    return {"variant": describe(variant)}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """One target of the file, typed; KeyError, TypeError or ValueError where it is not one."""
    found: dict[str, Any] = {"candidate": str(row["candidate"]), "digest": str(row["digest"])}
    if "variant" in row:
        found["variant"] = restore(row["variant"])
    return found


def _is_searched(row: Mapping[str, Any], device: str, plan: Plan) -> bool:
    """Whether the lock itself tells the variant, under its candidate's name and of an exporter of the target."""
    exporter, _, name = str(row["candidate"]).partition("/")
    mine = [candidate for candidate in plan.candidates if candidate.device.name == device]
    return (
        "variant" in row
        and row["variant"].name == name
        and any(candidate.exporter.name == exporter and candidate.target.searches for candidate in mine)
    )


def apply(trials: Mapping[str, list[Trial]], locked: Locked) -> dict[str, Trial]:
    """The locked trials, or StepError where the bytes are not those that were locked."""
    chosen = {}
    for device, rows in trials.items():
        wanted = locked[device]
        trial = next(trial for trial in rows if trial.row.name == wanted["candidate"])
        if trial.row.digest != wanted["digest"]:
            raise StepError(
                f"{wanted['candidate']} on {device} came out as {trial.row.digest[:12] or trial.row.why}, "
                f"locked is {wanted['digest'][:12]}",
                where="--locked",
                hint="recipe, data, package versions or CPU differ from the locked build: see `edgeft plan`",
            )
        trial.row = trial.row.model_copy(update={"status": "chosen", "why": "pinned by choice.lock"})
        chosen[device] = trial
    return chosen
