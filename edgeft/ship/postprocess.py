"""postprocess.json: what turns the artefact's outputs into an answer, so that no app has to guess it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeft.artifact import Signature
from edgeft.gate import OperatingPoint
from edgeft.medical.codes import LabelCode
from edgeft.task import DecidingTask, Task

FORMAT = 1
POSTPROCESS = "postprocess.json"
MAX_BYTES = 4 << 20

THRESHOLDS_FIRST = "of the labels whose probability reaches their threshold the likeliest; where none does, "
"""How a rule begins where a gate froze thresholds of the source."""


def postprocess_json(
    task: Task,
    labels: Sequence[str],
    signature: Signature,
    *,
    thresholds: Mapping[OperatingPoint, float] = MappingProxyType({}),
    codes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Labels in order, outputs by canonical name, and the task's rule; `rule` null where the task states none.

    thresholds: point of the source -> least probability at which its label is the answer, as gates froze them.
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
        "thresholds": {point.label: least for point, least in thresholds.items()},
        "points": {point.label: point.words for point in thresholds},
        "codes": dict(codes or {}),
    }


def _rule(rule: str | None, thresholds: Mapping[OperatingPoint, float]) -> str | None:
    """The task's rule, with what goes before it."""
    if rule is None or not thresholds or rule.startswith(EACH):
        return rule
    return f"{THRESHOLDS_FIRST}of the others: {rule}"


EACH = "each label"
"""A rule of tasks whose cases have any number of labels; thresholds are part of it."""


def read_thresholds(folder: Path) -> dict[str, float]:
    """Label -> least probability, as a bundle's postprocess.json has them; none in bundles of before there were any.
    BundleError for a file that is none."""
    return {label: float(least) for label, least in _section(folder, "thresholds", (int, float)).items()}


def read_points(folder: Path) -> dict[str, str]:
    """Label -> where the source's threshold was fixed, in the words of its OperatingPoint. Errors as above."""
    return {label: str(words) for label, words in _section(folder, "points", (str,)).items()}


def read_codes_of(folder: Path) -> dict[str, LabelCode]:
    """Label -> code, as the recipe's data.codes stated them. Errors as above."""
    stated = _section(folder, "codes", (dict,))
    try:
        return {label: LabelCode.of(code) for label, code in stated.items()}
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise _unreadable(folder, error) from error


def _section(folder: Path, name: str, kinds: tuple[type, ...]) -> dict[str, Any]:
    from edgeft.ship.verify import Refused, parse_json, read_small

    path = folder / POSTPROCESS
    if not path.exists():
        return {}
    try:
        found = parse_json(read_small(path, MAX_BYTES, "postprocess"), "postprocess", POSTPROCESS).get(name, {})
        if not isinstance(found, dict) or not all(isinstance(value, kinds) for value in found.values()):
            raise ValueError(f"{name} is not as edgeft writes it")
    except (Refused, ValueError) as error:
        raise _unreadable(folder, error) from error
    return found


def _unreadable(folder: Path, error: Exception) -> Exception:
    from edgeft.ship.bundle import BundleError

    return BundleError(f"{POSTPROCESS} cannot be read: {error}", where=str(folder), hint="build the bundle anew")
