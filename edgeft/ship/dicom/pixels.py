"""A volume's slices as the bundle's preprocessing makes them, and answers back on the grid they were acquired on."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError
from edgeft.medical.reference import resize_matrix
from edgeft.tasks.image_spec import PREPROCESS, ImageSpec
from edgeft.tasks.tokenizer import read_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.medical.order import MedicalSpec
    from edgeft.medical.volume import Volume

MEDICAL = "medical"
"""Key of preprocess.json that holds what is done to modality units."""


def read_medical(folder: Path) -> MedicalSpec:
    """The part of preprocess.json for medical images. StepError where there is none: no window can be guessed."""
    from edgeft.medical.order import MedicalSpec

    stated, where = read_json(folder / PREPROCESS).get(MEDICAL), str(folder / PREPROCESS)
    if stated is None:
        what = "this bundle takes pictures, not DICOM: it states no window from modality units to grey levels"
        raise StepError(what, where=where, hint="build it from a recipe with a `preprocess:` section")
    try:
        spec = MedicalSpec.from_dict(stated)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise StepError(f"the medical preprocessing is damaged: {error}", where=where) from error
    if spec.window is None:
        raise StepError("the medical preprocessing states no window", where=where, hint="state preprocess.window")
    return spec


def prepare_slices(volume: Volume, spec: MedicalSpec) -> NDArray[np.uint8]:
    """Grey levels, uint8 (slices, rows, columns), on the grid that the network was trained on."""
    from edgeft.medical.order import prepare, quantise

    shown, _ = prepare(volume.values, volume.affine, volume.inverted, spec)
    grey: NDArray[np.uint8] = quantise(shown)
    return grey


def encode_slices(grey: NDArray[np.uint8], start: int, stop: int) -> tuple[list[str], list[bytes]]:
    """(names, PNG files) of some slices: the form that the task takes, so that they go the way training images went."""
    from PIL import Image

    files = []
    for plane in grey[start:stop]:
        stream = io.BytesIO()
        Image.fromarray(plane).save(stream, format="PNG", compress_level=1)
        files.append(stream.getvalue())
    return [f"slice {place + 1}" for place in range(start, start + len(files))], files


def classes_at(logits: Any, size: Sequence[int], image: ImageSpec) -> NDArray[np.uint8]:
    """uint8 (n, rows, columns) at `size` of logits (n, classes, height, width), which cover the whole slice.

    Probabilities (softmax over classes) are resized, antialiased bilinear, and the highest of them wins in each pixel:
    an edge then lies where the network is undecided, not where the nearest of its coarser pixels ends.
    """
    import numpy as np

    if image.shortest is not None:
        raise StepError("this bundle cuts the middle out of a slice: nothing is known of the rest", hint="build anew")
    rows, columns = size
    if logits.shape[2:] == (rows, columns):
        return np.asarray(logits.argmax(axis=1), np.uint8)
    down = resize_matrix(logits.shape[2], rows).astype(np.float32)
    across = resize_matrix(logits.shape[3], columns).astype(np.float32)
    found = np.empty((len(logits), rows, columns), np.uint8)
    for place, scores in enumerate(logits.astype(np.float32)):
        powers = np.exp(scores - scores.max(axis=0, keepdims=True))
        powers /= powers.sum(axis=0, keepdims=True)
        found[place] = (down @ powers @ across.T).argmax(axis=0)
    return found


def acquired_slices(volume: Volume, spec: MedicalSpec, count: int) -> list[int]:
    """For each acquired slice the prepared one that shows it. StepError where preprocessing cuts the volume anew."""
    from edgeft.medical.order import turns

    order, flipped = turns(volume.affine, spec.orientation)
    if order[0] != 0 or count != len(volume.values):
        what = "the bundle cuts the volume into other slices than it was acquired in: no image is behind an answer"
        raise StepError(what, where="--dicom", hint=f"give a series acquired in the orientation {spec.orientation}")
    places = list(range(count))
    return places[::-1] if 0 in flipped else places


def batches(count: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive runs of at most `size`."""
    for start in range(0, count, size):
        yield start, min(count, start + size)
