"""Both sides on whole volumes: windows by each side's own plan, answers on the grid that a file came on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Signature
from edgeft.device.profile import Device
from edgeft.device.protocol import OnProgress
from edgeft.errors import RecipeError, StepError
from edgeft.metric_names import is_own
from edgeft.pipeline.steps.windowed import answer_volumes
from edgeft.ship.check.asking import Answered, naming
from edgeft.ship.check.scans import Scans, grey_levels
from edgeft.ship.check.sides import Contender
from edgeft.ship.check.stated import Margin
from edgeft.task import Arrays, WindowedTask
from edgeft.tasks.volume_spec import read_volume_spec

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

MOST_BYTES = 256 << 20
"""Of the windows that are timed."""


def takes_windows(side: Contender) -> bool:
    """Whether a case of this side is a volume and its network sees windows of it."""
    return side.reading is not None and isinstance(side.reading.task, WindowedTask)


def check_plans(candidate: Contender, baseline: Contender, margins: Sequence[Margin], timed: bool) -> None:
    """RecipeError, before anything is read, for what could not be answered honestly of volumes. timed: whether latency
    is asked for."""
    own = next((item.gate.metric for item in margins if is_own(item.gate.metric)), None)
    if own is not None:
        what = f"'{own}' is code that is given logits, and those of whole volumes are not kept"
        raise RecipeError(what, where="--metric", hint="a metric of masks: mean_dice, dice_LABEL, mean_hd95_mm, ...")
    ours, theirs = _windows(candidate), _windows(baseline)
    if timed and (differing := [name for name in ours if ours[name] != theirs.get(name)]):
        parts = [f"{name} {ours[name]} against {theirs.get(name)}" for name in differing]
        what = f"a volume is other windows for the candidate than for the baseline: {'; '.join(parts)}"
        hint = "the time of one window does not say then which is slower on a volume: --no-latency leaves it out"
        raise RecipeError(what, where="--baseline", hint=hint)


def check_fit(sides: Sequence[tuple[Contender, Signature]]) -> None:
    """RecipeError, before either side is asked, for a model whose window is not that of its preprocessing."""
    for side, signature in sides:
        if side.reading is None or len(signature.inputs) != 1:
            continue
        made, (own,) = read_volume_spec(side.reading.folder).feed(), signature.inputs.values()
        pairs = list(zip(own.shape, made.shape, strict=False))[1:]
        if len(own.shape) == len(made.shape) and all(isinstance(a, str) or a == b for a, b in pairs):
            continue
        taken, given = (" x ".join(map(str, shape)) for shape in (own.shape, made.shape))
        what = f"it takes {taken}; the preprocessing ({side.reading.said}) makes windows of {given}"
        raise RecipeError(
            what, where=f"{side.role} {side.path}", hint="name its own bundle, or a --recipe of its window"
        )


def ask_volumes(
    device: Device,
    side: Contender,
    signature: Signature,
    cases: tuple[pa.Table, Scans],
    labels: Sequence[str],
    order: Sequence[int] | None,
    batch: int,
    on_progress: OnProgress,
) -> Answered:
    """Run all cases; labels and order as `answer_cases` has them. Answers lie in a file, a few volumes are in memory.

    `classes` are on the files' own grids, as `edgeft run` writes them: sides that resample differently answer the same
    voxels. StepError, with the side's name, where an answer cannot be scored; ArtefactRefused, DeviceError.
    """
    import numpy as np

    from edgeft.medical.order import restore_mask

    (rows, scans), reading = cases, side.reading
    if reading is None or not isinstance(reading.task, WindowedTask):
        raise ValueError(f"the {side.role} takes no volumes")
    grids, spec, means = scans.grids_of(rows), grey_levels(side), []
    largest = [max(extents) for extents in zip(*(grid.shape for grid in grids), strict=True)]
    classes = np.memmap(scans.folder / f"{side.role}.classes", np.uint8, "w+", shape=(len(grids), *largest))
    names = list(range(len(labels))) if order is None else list(order)
    places = np.argsort(names).astype(np.uint8)
    with naming(side):
        found = answer_volumes(
            device, side.model.runtime, side.model.artifact, signature, scans.rows(side.role, rows), reading.task,
            reading.folder, batch, on_progress,
        )  # fmt: skip
        for whole, grid, answer in zip(classes, grids, found, strict=True):
            _require_sound(answer.mean_logits, len(labels))
            own = restore_mask(answer.classes, grid.affine, grid.shape, spec)
            whole[tuple(slice(extent) for extent in grid.shape)] = places[own]
            means.append(answer.mean_logits[names])
        kept: Arrays = {"classes": classes, "mean_logits": np.stack(means)}
        return Answered(kept, reading.task.score(kept, rows, labels))


def windows_of(side: Contender, rows: pa.Table, scans: Scans, most: int) -> Arrays:
    """Canonical feeds of at most `most` windows, a few of each case, evenly spaced in it."""
    import numpy as np

    if side.reading is None:
        raise ValueError(f"the {side.role} has no preprocessing")
    parts: list[Arrays] = []
    with naming(side):
        for place in range(rows.num_rows):
            own = scans.rows(side.role, rows.slice(place, 1))
            parts.append(side.reading.task.feeds(own, side.reading.folder))
            size = sum(array.nbytes for part in parts for array in part.values())
            if size > MOST_BYTES or sum(len(next(iter(part.values()))) for part in parts) >= most:
                break
    return {name: np.concatenate([part[name] for part in parts])[:most] for name in parts[0]}


def tell_windows(side: Contender, windows: int) -> str:
    """What of the cases is timed, in words."""
    if side.reading is None:
        raise ValueError(f"the {side.role} has no preprocessing")
    patch = " x ".join(map(str, read_volume_spec(side.reading.folder).patch))
    return f"{windows} windows of {patch} voxels out of the labelled volumes, each side by its own preprocessing"


def tell_voxels(ours: Answered, theirs: Answered, rows: pa.Table, scans: Scans) -> str:
    """How often a voxel is answered as before, whether right or wrong."""
    same = total = 0
    for first, second, grid in zip(
        ours.outputs["classes"], theirs.outputs["classes"], scans.grids_of(rows), strict=True
    ):
        inside = tuple(slice(extent) for extent in grid.shape)
        same += int((first[inside] == second[inside]).sum())
        total += int(first[inside].size)
    return f"the same answer on {same:,} of {total:,} voxels ({same / total:.2%})"


def _windows(side: Contender) -> dict[str, Any]:
    """What decides how many windows of a volume are run."""
    if side.reading is None:
        raise ValueError(f"the {side.role} has no preprocessing")
    spec, medical = read_volume_spec(side.reading.folder), grey_levels(side)
    found = {
        "window": " x ".join(map(str, spec.patch)), "overlap": spec.overlap, "empty": spec.empty,
        "orientation": medical.orientation or "stored", "spacing": medical.spacing,
    }  # fmt: skip
    return found | ({} if spec.empty is None else {"grey levels": medical.window})


def _require_sound(mean: NDArray[np.float32], labels: int) -> None:
    import numpy as np

    if not np.isfinite(mean).all():
        raise StepError("the answers are NaN or infinite", hint="`edgeft verify` checks a bundle")
    if len(mean) != labels:
        raise StepError(f"it answers {len(mean)} classes, there are {labels} labels", hint="name the model of these")
