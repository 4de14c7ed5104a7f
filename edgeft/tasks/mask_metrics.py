"""Metrics of masks beyond their overlap, case by case and label by label: border distances and volumes.

Masks are compared on the grid the network answers on; a truth that was brought there from another size has its spacing
scaled with it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import prod
from typing import TYPE_CHECKING

from edgeft.data.pack import image_bytes
from edgeft.data.spacing import COLUMN, read_spacing
from edgeft.errors import StepError
from edgeft.gate import Gate
from edgeft.metric_names import (
    DISTANCE_METRICS,
    MASK_FAMILIES,
    ML_METRICS,
    SPACED_METRICS,
    SURFACE_DICE,
    VOLUME_METRICS,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Maps = NDArray[np.uint8]
    Floats = NDArray[np.float64]

MEASURED = (*SURFACE_DICE, *VOLUME_METRICS, *DISTANCE_METRICS, *ML_METRICS)
ML = 1000.0
"""Cubic millimetres in a millilitre."""
Spacing = tuple[float, ...]


def measure_masks(
    answered: Maps, truth: Maps, labels: Sequence[str], wanted: Collection[Gate], spacings: Sequence[Spacing] | None
) -> dict[str, Floats]:
    """`gate.values` -> (n,) values of n cases, for the gates on these metrics; other gates are left alone.

    answered, truth: classes, (n, [depth,] height, width); labels: their names, the background first. spacings: of each
    case in mm along ([slices,] rows, columns); the thickness of single slices is used for volumes in ml alone. None
    where it is not known: StepError for a metric that needs it. `mean_` metrics are means over all labels but the
    background.
    """
    import numpy as np

    found = {gate.values: gate for gate in wanted if gate.metric.startswith(MEASURED)}
    values = {name: np.empty(len(answered)) for name in found}
    if spacings is None and (spaced := next((it for it in found.values() if is_spaced(it.metric)), None)):
        what = f"{spaced.metric} needs the size of a pixel in mm, and these cases have none"
        raise StepError(what, hint=f"a source gives it as the column '{COLUMN}'")
    places = {name: _places(gate.metric, labels) for name, gate in found.items()}
    asked = sorted({place for kept in places.values() for place in kept})
    for case in range(len(answered)):
        spacing = spacings[case] if spacings is not None else (1.0,) * (answered.ndim - 1)
        per_label = {
            place: _measure(answered[case] == place, truth[case] == place, spacing, found, places, place)
            for place in asked
        }
        for name, kept in places.items():
            values[name][case] = np.mean([per_label[place][name] for place in kept])
    return values


def is_spaced(metric: str) -> bool:
    """Whether it cannot be had without the size of a pixel."""
    return metric.startswith(SPACED_METRICS)


def scored_spacings(rows: pa.Table, size: tuple[int, int]) -> list[Spacing] | None:
    """Of each row's mask brought to (height, width); None where the rows state none."""
    if COLUMN not in rows.column_names:
        return None
    found = []
    stated = rows.column(COLUMN).to_pylist()
    for (_, raw), text in zip(image_bytes(rows, "mask_at", "mask_size"), stated, strict=True):
        *slices, down, across = read_spacing(text)
        width, height = (int.from_bytes(raw[at : at + 4], "big") for at in (16, 20))  # of a PNG's first chunk
        found.append((*slices, down * height / size[0], across * width / size[1]))
    return found


def _places(metric: str, labels: Sequence[str]) -> list[int]:
    """Which labels a metric is the mean of: one, or all but the background."""
    if metric.startswith("mean_"):
        return list(range(1, len(labels)))
    label = next(metric.removeprefix(family) for family in MASK_FAMILIES if metric.startswith(family))
    if label not in labels[1:]:
        raise StepError(f"no label is called '{label}'", hint=f"the labels are {', '.join(labels[1:])}")
    return [list(labels).index(label)]


def _measure(
    answer: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    spacing: Spacing,
    gates: dict[str, Gate],
    places: dict[str, list[int]],
    place: int,
) -> dict[str, float]:
    """The values of one label in one case that any of the gates wants."""
    from edgeft.evaluate.surfaces import border_distances, hd95, surface_dice, volume_error

    asked = {name: gate for name, gate in gates.items() if place in places[name]}
    borders = None
    if any(gate.metric.startswith((*SURFACE_DICE, *DISTANCE_METRICS)) for gate in asked.values()):
        borders = border_distances(answer, truth, spacing[-answer.ndim :])
    ours, theirs, values = int(answer.sum()), int(truth.sum()), {}
    for name, gate in asked.items():
        if borders is not None and gate.metric.startswith(DISTANCE_METRICS):
            values[name] = hd95(borders)
        elif borders is not None and gate.metric.startswith(SURFACE_DICE):
            values[name] = surface_dice(borders, gate.tolerance_mm or 0.0)
        elif gate.metric.startswith(ML_METRICS):
            values[name] = abs(ours - theirs) * element_ml(spacing, gate.metric)
        else:
            values[name] = volume_error(ours, theirs)
    return values


def element_ml(spacing: Spacing, metric: str) -> float:
    """Millilitres of a pixel or voxel; StepError for a slice whose thickness is not known."""
    if len(spacing) != 3:
        what = f"{metric} needs three numbers of spacing: slices, rows, columns; the thickness of a slice is missing"
        raise StepError(what, hint="gate volume_error, which needs none, or state the spacing of slices too")
    return prod(spacing) / ML
