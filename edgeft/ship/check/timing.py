"""Both sides timed in turns on the device: what they are fed, and how far their outputs differ on made-up inputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeft.artifact import Signature
from edgeft.device.profile import Device
from edgeft.device.protocol import OnProgress
from edgeft.ship.check.asking import feeds_of
from edgeft.ship.check.scans import Scans
from edgeft.ship.check.sides import Contender
from edgeft.ship.check.volumes import tell_windows, windows_of
from edgeft.targets.compare import Side
from edgeft.targets.profile.differences import match_tensors, measure_differences, translate_feeds
from edgeft.targets.profile.inputs import Feeds
from edgeft.targets.profile.run import Ask
from edgeft.targets.sessions import PLANS, Timing, time_in_sessions
from edgeft.task import declared_inputs

if TYPE_CHECKING:
    import pyarrow as pa

TIMED_CASES = 64
"""Different real cases that take turns, so that no answer can come from a cache of the last input."""


@dataclass(frozen=True)
class Fed:
    """Baseline and candidate ready to run. same: both get the same arrays. said: what these are, in words."""

    baseline: Side
    candidate: Side
    batch: int
    same: bool
    said: str


def feed_sides(
    candidate: tuple[Contender, Signature], baseline: tuple[Contender, Signature], rows: pa.Table | None, ask: Ask,
    scans: Scans | None = None,
) -> Fed:  # fmt: skip
    """The user's arrays, else real cases or windows of them, else made-up ones. RecipeError where the sides take
    different inputs and nothing says how each is fed."""
    (ours, our), (theirs, their) = candidate, baseline
    if ask.inputs is None and rows is not None:
        most = max(TIMED_CASES, ask.batch or 1)
        if scans is not None:
            old, new = (windows_of(side, rows, scans, most) for side in (theirs, ours))
            said = tell_windows(theirs, len(next(iter(old.values()))))
        else:
            old, new = (feeds_of(side, rows.slice(0, most)) for side in (theirs, ours))
            said = f"{min(most, rows.num_rows)} of the labelled cases, each side by its own preprocessing"
        return Fed(_side(theirs, their, old), _side(ours, our, new), ask.batch or 1, _alike(our, their), said)
    if ask.inputs is None and not _alike(our, their) and ours.reading and theirs.reading:
        made = _make(theirs, their, ask), _make(ours, our, ask)
        sides = _side(theirs, their, made[0].arrays), _side(ours, our, made[1].arrays)
        return Fed(*sides, made[0].batch, False, f"baseline: {made[0].said}; candidate: {made[1].said}")
    feeds = _make(theirs, their, ask)
    other = translate_feeds(feeds.arrays, their, our)
    return Fed(_side(theirs, their, feeds.arrays), _side(ours, our, other), feeds.batch, True, feeds.said)


def time_sides(device: Device, fed: Fed, ask: Ask, on_progress: OnProgress) -> Timing:
    """The candidate against the baseline, as long as was asked for."""
    return time_in_sessions(device, fed.baseline, fed.candidate, fed.batch, PLANS[ask.protocol], on_progress)


def tell_outputs(device: Device, fed: Fed) -> str:
    """How far the candidate's outputs are from the baseline's on the same inputs, whatever those are."""
    if not fed.same:
        return "not compared: the sides take different inputs"
    rows, why = measure_differences(device, fed.baseline, fed.candidate, fed.batch)
    if why:
        return f"not compared: {why}"
    parts = []
    for row in rows:
        top = "" if row.top1_agreement is None else f", top-1 agrees on {row.top1_agreement:.1%}"
        parts.append(f"{row.name} differs by at most {row.max_abs:.3g}, on average {row.mean_abs:.3g}{top}")
    return f"{'; '.join(parts)} (on {fed.said})"


def _side(side: Contender, signature: Signature, feeds: object) -> Side:
    return Side(side.model.runtime, side.model.artifact, signature, feeds)  # type: ignore[arg-type]


def _alike(ours: Signature, theirs: Signature) -> bool:
    """Whether one array fits both: tensors that match, and no fixed size that differs."""
    names = match_tensors(theirs.inputs, ours.inputs)
    return names is not None and all(
        _fits(ours.inputs[name].shape[1:], theirs.inputs[other].shape[1:]) for name, other in names.items()
    )


def _fits(ours: Sequence[int | str], theirs: Sequence[int | str]) -> bool:
    return len(ours) == len(theirs) and all(
        isinstance(a, str) or isinstance(b, str) or a == b for a, b in zip(ours, theirs, strict=True)
    )


def _make(side: Contender, signature: Signature, ask: Ask) -> Feeds:
    """What the options ask for, in the shapes that the side's preprocessing makes."""
    shapes = dict(ask.shapes)
    if side.reading is not None and not shapes:
        about = json.loads((side.reading.folder / "preprocess.json").read_text(encoding="utf-8"))
        sizes = {"batch": ask.batch or 1, "length": int(about.get("length", 1))}
        for spec in declared_inputs(side.reading.folder):
            own = signature.inputs.get(spec.name)
            if own is not None and any(isinstance(extent, str) for extent in own.shape):
                made = [extent if isinstance(extent, int) else sizes[extent] for extent in spec.shape]
                shapes[spec.name] = tuple(
                    given if isinstance(given, int) else size for given, size in zip(own.shape, made, strict=False)
                )
    return replace(ask, shapes=shapes).feeds(signature)
