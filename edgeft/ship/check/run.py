"""From two opened sides and cases to a record: accuracy, then latency, then size; each one done or said not to be."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edgeft import __version__
from edgeft.artifact import Signature
from edgeft.device.profile import Device
from edgeft.device.protocol import OnProgress
from edgeft.gate import Status
from edgeft.pipeline.steps.answers import thin
from edgeft.ship.check.asking import Answered, answer_cases, naming, tell_agreement
from edgeft.ship.check.completing import by_thresholds, complete, is_answered
from edgeft.ship.check.record import CheckRecord, CheckVerdict, DataRow, Kind, LeftOut
from edgeft.ship.check.scans import Scans
from edgeft.ship.check.sides import Contender, are_identical, content_digest, label_order, read_signature_of
from edgeft.ship.check.stated import Margin
from edgeft.ship.check.timing import feed_sides, tell_outputs, time_sides
from edgeft.ship.check.verdicts import (
    custom_of,
    decide_accuracy,
    decide_latency,
    decide_size,
    latency_name,
    margin_not_checked,
    not_checked,
    same_file,
    withhold,
)
from edgeft.ship.check.volumes import ask_volumes, check_fit, tell_voxels
from edgeft.targets.measure import describe_device
from edgeft.targets.profile.run import Ask

if TYPE_CHECKING:
    import pyarrow as pa

Show = Callable[[str], OnProgress]
NO_DATA = "accuracy was not checked: there are no labelled cases (--data FILE, or --no-accuracy to leave it out)"


@dataclass(frozen=True)
class Limits:
    """margins: of accuracy. latency, size: shares above the baseline's that are allowed, and who stated them.
    left_out: checks the user does not want, with the option that says so."""

    margins: Sequence[Margin]
    latency: tuple[float, str]
    size: tuple[float, str]
    left_out: dict[Kind, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Match:
    """Two sides, the cases both are asked (None: there are none), and what is asked of them. scans: where cases are
    whole volumes, those of each side. trained: which side was trained on any of them, in words; empty: no such
    case is known."""

    candidate: Contender
    baseline: Contender
    rows: pa.Table | None
    data: DataRow | None
    limits: Limits
    ask: Ask
    scans: Scans | None = None
    trained: str = ""


@dataclass
class _Found:
    """What grows while a check runs."""

    verdicts: list[CheckVerdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    outputs: str = ""
    conditions: dict[str, str] = field(default_factory=dict)


def run_check(device: Device, match: Match, notes: Sequence[str], show: Show) -> CheckRecord:
    """Every check that is not left out has a verdict; what could not be done is INCONCLUSIVE.

    StepError, DeviceError and RecipeError as the parts raise them, with the side's name.
    """
    started, clock = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), time.monotonic()
    found = _Found(notes=list(notes))
    identical = are_identical(match.candidate, match.baseline)
    if identical:
        _pass_identical(match, found)
    else:
        _measure(device, match, found, show)
    return CheckRecord(
        edgeft=__version__,
        started=started,
        seconds=round(time.monotonic() - clock, 3),
        device=device.name,
        how=device.how,
        status=overall_status(found.verdicts),
        candidate=match.candidate.row(),
        baseline=match.baseline.row(),
        identical=identical,
        data=match.data,
        verdicts=found.verdicts,
        left_out=[LeftOut(check=kind, why=why) for kind, why in match.limits.left_out.items()],
        outputs=found.outputs,
        notes=found.notes,
        conditions=found.conditions,
    )


def overall_status(verdicts: Sequence[CheckVerdict]) -> Status:
    """The worst of what blocks: FAIL before INCONCLUSIVE before PASS; nothing that blocks is INCONCLUSIVE."""
    found = {verdict.status for verdict in verdicts if verdict.severity == "block"}
    return "FAIL" if "FAIL" in found else "PASS" if found == {"PASS"} else "INCONCLUSIVE"


def _wanted(match: Match, kind: Kind) -> bool:
    return kind not in match.limits.left_out


def _pass_identical(match: Match, found: _Found) -> None:
    sha256 = content_digest(match.candidate.model)
    limits = match.limits
    undone: dict[Kind, list[CheckVerdict]] = {
        "accuracy": _undecided(limits.margins),
        "latency": [not_checked("latency", latency_name(limits.latency[0]), "", 1 + limits.latency[0])],
        "size": [_size(match)],
    }
    for kind, verdicts in undone.items():
        if _wanted(match, kind):
            found.verdicts += [same_file(verdict, sha256) for verdict in verdicts]
    found.notes.append("candidate and baseline are the same model: was the right one named?")


def _measure(device: Device, match: Match, found: _Found, show: Show) -> None:
    timed = _wanted(match, "latency") and device.times_count
    answers = _wanted(match, "accuracy") and match.rows is not None
    if timed or answers:
        signatures = _read_signatures(device, match, found)
        if answers:
            _check_accuracy(device, match, signatures, found, show)
        if timed:
            _check_latency(device, match, signatures, found, show)
        found.conditions = describe_device(device, match.candidate.model.runtime)
    if _wanted(match, "accuracy") and match.rows is None:
        found.verdicts += _undecided(match.limits.margins)
    if _wanted(match, "latency") and not device.times_count:
        margin, origin = match.limits.latency
        what = "is emulated" if device.how == "emulated" else "runs no worker, another machine answers for it"
        why = f"{device.name} {what}: a time taken there says nothing about the device (--no-latency leaves it out)"
        found.verdicts.append(not_checked("latency", latency_name(margin), why, 1 + margin, origin))
    if _wanted(match, "size"):
        found.verdicts.append(_size(match))


def _read_signatures(device: Device, match: Match, found: _Found) -> tuple[Signature, Signature]:
    """(candidate's, baseline's)."""
    read = []
    for side in (match.candidate, match.baseline):
        with naming(side):
            signature, note = read_signature_of(device, side)
        read.append(signature)
        if note:
            found.notes.append(note)
    return read[0], read[1]


def _check_accuracy(
    device: Device, match: Match, signatures: tuple[Signature, Signature], found: _Found, show: Show
) -> None:
    ours, theirs = match.candidate.reading, match.baseline.reading
    if match.rows is None or ours is None or theirs is None:
        raise ValueError("cases are asked of sides that can be fed")
    order = label_order(ours, theirs)
    if order is not None:
        found.notes.append("the sides name their labels in another order; answers are compared by name")
    if ours.prepared != theirs.prepared and ours.labels == theirs.labels:
        found.notes.append("the sides prepare their inputs differently; each is fed by its own preprocessing")
    if match.scans is not None:
        check_fit([(match.candidate, signatures[0]), (match.baseline, signatures[1])])
    answered: list[Answered] = []
    for side, signature, places in (
        (match.candidate, signatures[0], order),
        (match.baseline, signatures[1], None),
    ):
        asked = theirs.labels, places, match.ask.batch or 1, show(f"asking the {side.role}")
        if match.scans is not None:
            answered.append(ask_volumes(device, side, signature, (match.rows, match.scans), *asked))
        else:
            answered.append(answer_cases(device, side, signature, match.rows, *asked))
    gates, note = [margin.gate for margin in match.limits.margins], found.notes.append
    sides = (match.candidate, match.baseline)
    scores = [complete(each, theirs, side, match.rows, gates, note) for each, side in zip(answered, sides, strict=True)]
    if ours.thresholds or theirs.thresholds:
        same = ours.thresholds == theirs.thresholds
        note(f"answers are those of the frozen thresholds{'' if same else ', which differ: each side has its own'}")
    told = [by_thresholds(score, side, match.rows) for score, side in zip(scores, sides, strict=True)]
    if match.scans is not None:
        found.outputs = tell_voxels(answered[0], answered[1], match.rows, match.scans)
    else:
        pairs = zip(answered, told, strict=True)
        found.outputs = tell_agreement(*(replace(each, score=score) for each, score in pairs))
    for margin in match.limits.margins:
        custom = custom_of(margin, answered[0].outputs, answered[1].outputs, match.rows)
        pair = told if is_answered(margin.gate) else scores
        verdict = decide_accuracy(margin, device.name, pair[0], pair[1], match.rows, custom)
        found.verdicts.append(withhold(verdict, match.trained))


def _check_latency(
    device: Device, match: Match, signatures: tuple[Signature, Signature], found: _Found, show: Show
) -> None:
    sides = (match.candidate, signatures[0]), (match.baseline, signatures[1])
    fed = feed_sides(*sides, match.rows, match.ask, match.scans)
    if match.rows is None:
        found.outputs = tell_outputs(device, fed)
    compared = time_sides(device, fed, match.ask, show("timing both in turns"))
    found.notes.append(f"timed on {fed.said}, {fed.batch} a run")
    found.verdicts.append(decide_latency(compared, *match.limits.latency, device.name))


def _undecided(margins: Sequence[Margin]) -> list[CheckVerdict]:
    """Of accuracy without cases; margins may be unknown too."""
    found = [margin_not_checked(margin, NO_DATA) for margin in margins]
    return found or [not_checked("accuracy", "accuracy", NO_DATA)]


def _size(match: Match) -> CheckVerdict:
    return decide_size(match.candidate.model.bytes, match.baseline.model.bytes, *match.limits.size)


def take_cases(rows: pa.Table, data: DataRow, cases: int | None) -> tuple[pa.Table, DataRow]:
    """At most `cases` rows, evenly spaced in an order that the content gives, and the row that says so."""
    from edgeft.data.table import column_array

    few = thin(rows, cases)
    units = len(set(column_array(few, "unit").tolist()))
    return few, data.model_copy(update={"n": few.num_rows, "units": units})
