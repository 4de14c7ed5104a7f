"""A volume's slices on their way to the artefact, and its answers back on the grid that they were acquired on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError
from edgeft.tasks.image_spec import PREPROCESS, ImageSpec
from edgeft.tasks.tokenizer import read_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.medical.order import MedicalSpec
    from edgeft.medical.volume import Volume


def read_medical(folder: Path) -> MedicalSpec:
    """What preprocess.json does to modality units. StepError where it states nothing: no window can be guessed."""
    from edgeft.medical.order import MedicalSpec

    stated, where = read_json(folder / PREPROCESS).get("medical"), str(folder / PREPROCESS)
    if stated is None:
        what = "this bundle takes pictures, not DICOM: it states no window from modality units to grey levels"
        raise StepError(what, where=where, hint="build it from a recipe with `preprocess: {window: [lo, hi]}`")
    try:
        return MedicalSpec.from_dict(stated)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise StepError(f"the medical preprocessing is damaged: {error}", where=where, hint="copy it again") from error


def prepare_slices(volume: Volume, spec: MedicalSpec) -> NDArray[np.uint8]:
    """A whole volume as grey levels, uint8 (slices, rows, columns), on the grid that a network of volumes sees."""
    from edgeft.medical.order import prepare, quantise

    shown, _ = prepare(volume.values, volume.affine, volume.inverted, spec)
    grey: NDArray[np.uint8] = quantise(shown)
    return grey


def slice_affine(volume: Volume, place: int) -> NDArray[np.float64]:
    """(slice, row, column, 1) -> mm of one slice by itself."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 0] * place
    return affine


def pack_slices(volume: Volume, start: int, stop: int) -> tuple[list[str], list[bytes]]:
    """(names, decoded slices) as the task takes them: from here on they go the way that training images went."""
    from edgeft.medical.reference import pack

    places = range(start, stop)
    packed = [pack(volume.values[place : place + 1], slice_affine(volume, place), volume.inverted) for place in places]
    return [f"slice {place + 1}" for place in places], packed


def acquired_mask(logits: Any, volume: Volume, place: int, image: ImageSpec, spec: MedicalSpec) -> NDArray[np.uint8]:
    """uint8 (rows, columns) of one acquired slice from logits (classes, height, width), which cover all of it.

    Back in the opposite order. The network's size: probabilities (softmax over classes) are resized bilinearly, and the
    highest wins in each pixel, so that an edge lies where the network is undecided, not where the nearest of its
    coarser pixels ends. Spacing and orientation: `restore_mask`, the nearest pixel; exact where nothing was resampled.
    """
    import numpy as np

    from edgeft.medical.order import prepare_mask, restore_mask

    if image.shortest is not None:
        raise StepError("this bundle cuts the middle out of a slice: nothing is known of the rest", hint="build anew")
    shape, affine = (1, *volume.values.shape[1:]), slice_affine(volume, place)
    prepared, _ = prepare_mask(np.zeros(shape, np.uint8), affine, spec)
    mask = classes_at(logits, prepared.shape[1], prepared.shape[2])
    return np.asarray(restore_mask(mask[None], affine, shape, spec)[0], np.uint8)


def classes_at(logits: Any, rows: int, columns: int) -> NDArray[np.uint8]:
    """uint8 (rows, columns): the highest of the probabilities there. logits: (classes, height, width)."""
    import numpy as np

    from edgeft.medical.reference import resize_matrix

    if logits.shape[1:] == (rows, columns):
        return np.asarray(logits.argmax(axis=0), np.uint8)
    scores = logits.astype(np.float32)
    powers = np.exp(scores - scores.max(axis=0, keepdims=True))
    powers /= powers.sum(axis=0, keepdims=True)
    down = resize_matrix(logits.shape[1], rows).astype(np.float32)
    across = resize_matrix(logits.shape[2], columns).astype(np.float32)
    return np.asarray((down @ powers @ across.T).argmax(axis=0), np.uint8)


def batches(count: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive runs of at most `size`."""
    for start in range(0, count, size):
        yield start, min(count, start + size)
