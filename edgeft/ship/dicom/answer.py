"""Every slice of a volume through a bundle's artefact: a mask volume, or a finding per slice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.errors import RecipeError
from edgeft.ship.bundle import Bundle
from edgeft.ship.dicom.pixels import acquired_mask, batches, pack_slices, read_medical
from edgeft.ship.session import open_session
from edgeft.ship.volumes import segment_volume
from edgeft.task import DenseTask, ProbableTask, WindowedTask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.medical.dicom_out.sr import Finding
    from edgeft.medical.order import MedicalSpec
    from edgeft.medical.volume import Volume

SLICES = 16
"""Slices in one call, where the artefact does not fix how many."""
OnSlices = Callable[[int, int], None]
"""(slices done, all of them)."""


@dataclass(frozen=True)
class Answering:
    """A bundle whose task was loaded. dense: it answers a label per pixel, else how probable each label is."""

    bundle: Bundle
    task: Any
    dense: bool
    spec: MedicalSpec

    @property
    def labels(self) -> list[str]:
        """In the order of the artefact's classes."""
        return list(self.bundle.manifest["labels"])


def open_answering(bundle: Bundle) -> Answering:
    """RecipeError for a task whose answer has no DICOM form here, StepError for a bundle that states no window."""
    from edgeft import plugins

    name = bundle.manifest["task"]
    task = plugins.load("tasks", name)()
    dense = isinstance(task, DenseTask)
    if "image" not in task.columns or not (dense or isinstance(task, ProbableTask)):
        raise RecipeError(f"a bundle of {name} answers no DICOM images", where="--dicom", hint="give INPUT instead")
    return Answering(bundle, task, dense, read_medical(bundle.folder))


def mask_volume(answering: Answering, volume: Volume, tell: OnSlices) -> NDArray[np.uint8]:
    """uint8 (slices, rows, columns) of places in `labels`, on the grid that the volume was acquired on."""
    import numpy as np

    from edgeft.tasks.mask_answers import checked

    if isinstance(answering.task, WindowedTask):
        return segment_volume(answering.bundle, volume, tell)
    image, mask = answering.task.spec(answering.bundle.folder), np.empty(volume.values.shape, np.uint8)
    for start, outputs in _outputs(answering, volume, tell):
        for place, logits in enumerate(checked(outputs), start):
            mask[place] = acquired_mask(logits, volume, place, image, answering.spec)
    return mask


def find_slices(answering: Answering, volume: Volume, thresholds: Mapping[str, float], tell: OnSlices) -> list[Finding]:
    """A finding for each slice, in their order, decided as the task does.

    thresholds: label -> least probability at which it is the answer, where gates froze any.
    """
    from edgeft.medical.dicom_out.sr import Finding

    found, labels = [], answering.labels
    more = {"thresholds": thresholds} if thresholds else {}
    for _, outputs in _outputs(answering, volume, tell):
        decided = answering.task.answer(outputs, labels, **more)
        for row, one in zip(answering.task.probabilities(outputs, labels), decided, strict=True):
            found.append(Finding(one["label"], dict(zip(labels, map(float, row), strict=True))))
    return found


def _outputs(answering: Answering, volume: Volume, tell: OnSlices) -> Iterator[tuple[int, dict[str, Any]]]:
    """(first slice, canonical outputs) of runs of slices; no more than one run's feeds are held."""
    import pyarrow as pa

    count = len(volume.values)
    with open_session(answering.bundle) as session:
        for start, stop in batches(count, session.batch or SLICES):
            names, packed = pack_slices(volume, start, stop)
            feeds = answering.task.feeds(pa.table({"image": names, "bytes": packed}), answering.bundle.folder)
            yield start, session.run(feeds, names[0])
            tell(stop, count)
