"""Files to one series, its slices sorted along their normal; what makes no volume is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeft.medical.dicom.slices import Entry, Slice
from edgeft.medical.grid import MAX_TILT, Affine, check_affine, plane_affine
from edgeft.medical.limits import Limits, Refusal, check_pixels

Distances = NDArray[np.float64]

UNEVEN = 0.05
"""Part of the usual distance by which a distance between neighbours may differ before it is called uneven."""
SAME_PLACE = 1e-3
"""mm between two positions that are one."""
ORIENTED_ALIKE = 1e-2
"""Largest difference of direction cosines within one series: 0.6 degrees."""


@dataclass
class Stack:
    """Slices in the order of their positions, and the grid they make."""

    slices: list[Slice]
    affine: Affine
    spacing: tuple[float, float, float]
    warnings: list[str] = field(default_factory=list)


def choose_series(entries: Sequence[Entry], wanted: str) -> list[Entry]:
    """The entries of the series `wanted` (UID, description or number), or of the only one."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.series[0], []).append(entry)
    if wanted:
        found = [group for group in groups.values() if any(wanted == name for name in group[0].series)]
        if len(found) == 1:
            return found[0]
        what = "several series here have" if found else "no series here has"
        raise Refusal(f"{what} this UID, description or number; {_list(groups)}", "give the Series Instance UID")
    if len(groups) > 1:
        hint = "say which: series, its UID, description or number"
        raise Refusal(f"the folder holds {len(groups)} series: {_list(groups)}", hint)
    return next(iter(groups.values()))


def _list(groups: dict[str, list[Entry]]) -> str:
    """Series by what identifies nobody: number, modality, size."""
    shown = []
    for group in sorted(groups.values(), key=lambda group: (group[0].series[2].zfill(8), group[0].file))[:8]:
        form, frames = group[0].form, sum(entry.form.frames for entry in group)
        label = group[0].series[2]
        label = label if label.isdigit() and len(label) <= 6 else "without"
        shown.append(f"number {label} ({group[0].modality or 'no modality'}, {frames} x {form.rows} x {form.columns})")
    return ", ".join(shown) + (", ..." if len(groups) > 8 else "")


def stack_slices(entries: Sequence[Entry], limits: Limits, uneven: bool = False) -> Stack:
    """Order, check and place the slices of one series.

    uneven: accept missing slices and uneven distances; the volume's spacing is then the usual distance, and a warning
    says so. Refusal names the file (its place in the list) where one is to blame.
    """
    _check_alike(entries)
    slices = [item for entry in entries for item in entry.slices]
    form = entries[0].form
    check_pixels(form.rows, form.columns, len(slices), limits)
    warnings = list(dict.fromkeys(warning for entry in entries for warning in entry.warnings))
    if len({(item.slope, item.intercept, id(item.lut)) for item in slices}) > 1:
        warnings.append("slices differ in slope or intercept: each was converted by its own")
    spacing = slices[0].spacing
    if spacing is None:
        warnings.append("no pixel spacing is stated: 1 mm is assumed, and sizes in mm mean nothing")
        spacing = (1.0, 1.0)
    if len(slices) == 1:
        step = slices[0].thickness or 1.0
        affine = plane_affine(slices[0].position, slices[0].orientation, spacing, step)
        return Stack(slices, affine, _stated(affine, step, spacing), warnings)
    if any(item.position is None or item.orientation is None for item in slices):
        return _unplaced(entries, slices, spacing, warnings)
    return _placed(slices, spacing, warnings, uneven)


def _check_alike(entries: Sequence[Entry]) -> None:
    first = entries[0]
    for entry in entries[1:]:
        if (entry.form.rows, entry.form.columns) != (first.form.rows, first.form.columns):
            what = f"has {entry.form.rows} x {entry.form.columns} pixels, others of its series "
            raise Refusal(f"{what}{first.form.rows} x {first.form.columns}", file=entry.file)
        if entry.form.photometric != first.form.photometric:
            raise Refusal(f"is {entry.form.photometric}, others of its series {first.form.photometric}", "", entry.file)
        if entry.unit != first.unit:
            raise Refusal("has another unit (RescaleType or Units) than others of its series", file=entry.file)
        if entry.patient != first.patient:
            raise Refusal("has another Patient ID than others of its series", "sort the files first", entry.file)
        if not np.allclose(entry.slices[0].spacing or (), first.slices[0].spacing or (), rtol=1e-3):
            raise Refusal("has another pixel spacing than others of its series", file=entry.file)


def _unplaced(entries: Sequence[Entry], slices: list[Slice], spacing: Sequence[float], warnings: list[str]) -> Stack:
    """Frames without positions: a film loop or a time series of one file, in its own order."""
    if len(entries) > 1:
        lost = next(item for item in slices if item.position is None or item.orientation is None)
        what = "lacks ImagePositionPatient or ImageOrientationPatient: its place among the others is unknown"
        raise Refusal(what, "read such files one by one", lost.file)
    warnings.append("frames have no positions: they are kept in the file's order, 1 mm apart unless it states more")
    step = slices[0].thickness or 1.0
    affine = plane_affine(None, None, spacing, step)
    return Stack(slices, affine, _stated(affine, step, spacing), warnings)


def _placed(slices: list[Slice], spacing: Sequence[float], warnings: list[str], uneven: bool) -> Stack:
    orientation = np.array([item.orientation for item in slices])
    off = np.abs(orientation - orientation[0]).max(axis=1)
    if off.max() > ORIENTED_ALIKE:
        what = "is oriented otherwise than others of its series"
        raise Refusal(what, "is it a localiser? leave it out", slices[int(off.argmax())].file)
    affine = plane_affine(slices[0].position, slices[0].orientation, spacing, 1.0)
    normal = affine[:3, 0]
    along = np.array([item.position for item in slices]) @ normal
    order = np.argsort(along, kind="stable")
    slices, along = [slices[place] for place in order], along[order]
    _check_places(slices, along)
    if len(slices) > 1:
        step = _step(slices, along, warnings, uneven)
        _check_tilt(slices, normal)
    else:
        step = slices[0].thickness or 1.0
    affine = plane_affine(slices[0].position, slices[0].orientation, spacing, step)
    return Stack(slices, affine, _stated(affine, step, spacing), warnings)


def _check_places(slices: list[Slice], along: Distances) -> None:
    for this, apart in zip(slices[1:], np.diff(along), strict=True):
        if apart <= SAME_PLACE:
            what = "lies at the same position as another slice of its series"
            hint = "several echoes, times or directions in one series: split them into folders first"
            raise Refusal(what, hint, this.file)


def _step(slices: list[Slice], along: Distances, warnings: list[str], uneven: bool) -> float:
    """The usual distance in mm; Refusal, or a warning where `uneven` is declared, for gaps."""
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    odd = np.abs(gaps - usual) > UNEVEN * usual
    if not odd.any():
        return float((along[-1] - along[0]) / len(gaps))
    place = int(np.abs(gaps - usual).argmax())
    times = gaps[odd] / usual
    if (times > 1.5).all() and np.abs(times - np.rint(times)).max() < UNEVEN * times.max():
        count = int((np.rint(times) - 1).sum())
        what = f"{count} slice{'s are' if count > 1 else ' is'} missing: "
    else:
        what = "slices are unevenly spaced: "
    what += f"{gaps[place]:.3g} mm between slices {place + 1} and {place + 2} of {len(slices)}, usually {usual:.3g} mm"
    if not uneven:
        hint = "complete the series, or declare uneven: accept where slices are used one by one"
        raise Refusal(what, hint, slices[place + 1].file)
    warnings.append(what)
    return usual


def _check_tilt(slices: list[Slice], normal: Distances) -> None:
    travel = np.asarray(slices[-1].position) - np.asarray(slices[0].position)
    sideways = float(np.linalg.norm(travel - (travel @ normal) * normal))
    degrees = float(np.degrees(np.arctan2(sideways, abs(float(travel @ normal)))))
    if degrees > MAX_TILT:
        what = f"is sheared: its slices are stacked {degrees:.1f} degrees off their normal (gantry tilt)"
        raise Refusal(what, "correct the tilt first, for instance with dcm2niix, or read its slices one by one")


def _stated(affine: Affine, step: float, spacing: Sequence[float]) -> tuple[float, float, float]:
    """The spacing as stated, without the last bits that the lengths of an affine's columns would add."""
    check_affine(affine)
    return step, spacing[0], spacing[1]
