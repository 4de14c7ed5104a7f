"""postprocess.json: what turns the artefact's outputs into an answer, so that no app has to guess it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from edgeft.artifact import Signature
from edgeft.task import DecidingTask, Task

FORMAT = 1


def postprocess_json(
    task: Task, labels: Sequence[str], signature: Signature, codes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Labels in order, outputs by canonical name, and the task's rule; `rule` null where the task states none.

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
        "rule": decision.get("rule"),
        "thresholds": dict(decision.get("thresholds", {})),
        "codes": dict(codes or {}),
    }
