"""postprocess.json: what turns the artefact's outputs into an answer, so that no app has to guess it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeft.artifact import Signature
from edgeft.task import NO_THRESHOLDS, DecidingTask, Task

FORMAT = 1


THRESHOLDS_FIRST = "of the labels whose probability reaches their threshold the likeliest; where none does, "
"""How a rule begins where a gate froze thresholds of the source."""


def postprocess_json(
    task: Task,
    labels: Sequence[str],
    signature: Signature,
    *,
    thresholds: Mapping[str, float] = NO_THRESHOLDS,
    codes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Labels in order, outputs by canonical name, and the task's rule; `rule` null where the task states none.

    thresholds: label -> least probability at which it is the answer, fixed on the source by the gates that passed.
    codes: label -> {value, scheme, meaning, category?}, coded concepts for DICOM; {} where the recipe states none.
    """
    decision: Mapping[str, Any] = task.decision() if isinstance(task, DecidingTask) else {}
    return {
        "format": FORMAT,
        "task": task.name,
        "labels": list(labels),
        "outputs": {name: asdict(spec) for name, spec in signature.outputs.items()},
        "output": decision.get("output"),
        "activation": decision.get("activation"),
        "axis": decision.get("axis"),
        "rule": _rule(decision.get("rule"), thresholds),
        "thresholds": {**decision.get("thresholds", {}), **thresholds},
        "codes": dict(codes or {}),
    }


def _rule(rule: str | None, thresholds: Mapping[str, float]) -> str | None:
    """The task's rule, with what goes before it."""
    if rule is None or not thresholds or rule.startswith(EACH):
        return rule
    return f"{THRESHOLDS_FIRST}of the others: {rule}"


EACH = "each label"
"""A rule of tasks whose cases have any number of labels; thresholds are part of it."""


def read_thresholds(folder: Path) -> dict[str, float]:
    """Label -> least probability, as a bundle's postprocess.json has them; none in bundles of before there were any.
    BundleError for a file that is none."""
    from edgeft.ship.bundle import BundleError

    path = folder / "postprocess.json"
    if not path.is_file():
        return {}
    try:
        stated = json.loads(path.read_text(encoding="utf-8")).get("thresholds", {})
        return {str(label): float(least) for label, least in stated.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        what = f"postprocess.json cannot be read: {error}"
        raise BundleError(what, where=str(folder), hint="build the bundle anew") from error
