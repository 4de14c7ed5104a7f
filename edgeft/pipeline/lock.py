"""choice.lock: what was chosen for each target, and the digest that `build --locked` must reproduce."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft.canonical import canonical_json
from edgeft.errors import RecipeError, StepError
from edgeft.pipeline.candidates import Candidate
from edgeft.pipeline.plan import Plan
from edgeft.pipeline.trial import Trial

FILE = "choice.lock"
VERSION = 1
Locked = Mapping[str, Mapping[str, str]]
"""Target -> {candidate, digest}."""


def render(recipe: str, chosen: Mapping[str, Trial]) -> bytes:
    """The lock's canonical bytes."""
    targets = {device: {"candidate": trial.row.name, "digest": trial.row.digest} for device, trial in chosen.items()}
    return canonical_json({"version": VERSION, "recipe": recipe, "targets": targets}, indent=1)


def read(path: Path, plan: Plan) -> Locked:
    """Target -> {candidate, digest}. RecipeError when it is missing, malformed or of other targets."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        targets = {
            str(device): {"candidate": str(row["candidate"]), "digest": str(row["digest"])}
            for device, row in content["targets"].items()
        }
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
        if (device, row["candidate"]) not in known:
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
        name = locked[candidate.device.name]["candidate"]
        if candidate.name == name or (candidate.variant is None and name.startswith(f"{candidate.exporter.name}/")):
            kept.append(candidate)
    return kept


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
