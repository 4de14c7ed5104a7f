"""A whole volume through a bundle's artefact, window by window, and the answer back on the grid it came on."""

from __future__ import annotations

import gzip
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import RecipeError, StepError
from edgeft.ship.bundle import Bundle
from edgeft.ship.dicom.pixels import prepare_slices, read_medical
from edgeft.ship.session import Session, open_session
from edgeft.tasks.volume_spec import read_volume_spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.medical.volume import Volume

NIFTI = (".nii", ".nii.gz")
BATCH = 1
"""Windows in one call, where the artefact does not fix how many."""
OnWindows = Callable[[int, int], None]
"""(windows done, all of them)."""


@dataclass(frozen=True)
class Segmented:
    """A file's answer. millilitres: label -> volume of its voxels, the background left out."""

    path: Path
    shares: dict[str, float]
    millilitres: dict[str, float]


def segment_nifti(bundle: Bundle, source: Path, out: Path, tell: OnWindows, warn: Callable[[str], None]) -> Segmented:
    """Write NAME-mask.nii.gz into `out`: class numbers on the file's own grid, with its affine.

    The file is read in a child process under limits. RecipeError for what is no NIfTI file, StepError as the parts say.
    """
    import numpy as np

    from edgeft.medical.read import Reader, Reading

    suffix = next((end for end in sorted(NIFTI, key=len, reverse=True) if source.name.lower().endswith(end)), None)
    if suffix is None:
        hint = "give a .nii or .nii.gz file; a DICOM series: --dicom PATH --out FOLDER"
        raise RecipeError("this bundle takes volumes", where="INPUT", hint=hint)
    with Reader(reading=Reading(root=source.parent), key=secrets.token_bytes(32)) as reader:
        volume = reader.read(source)
    for text in volume.warnings:
        warn(text)
    mask = segment_volume(bundle, volume, tell)
    path = out / f"{source.name[: -len(suffix)]}-mask.nii.gz"
    _write(path, mask, volume)
    labels = list(bundle.manifest["labels"])
    counts = np.bincount(mask.ravel(), minlength=len(labels)).tolist()
    voxel = float(np.prod(volume.spacing)) / 1000
    return Segmented(
        path,
        {label: counts[place] / mask.size for place, label in enumerate(labels)},
        {label: counts[place] * voxel for place, label in enumerate(labels) if place},
    )


def segment_volume(bundle: Bundle, volume: Volume, tell: OnWindows) -> NDArray[np.uint8]:
    """uint8 (slices, rows, columns) of places in the labels, on the volume's own grid, by nearest neighbour from the
    grid that the network was trained on."""
    from edgeft.medical.order import restore_mask
    from edgeft.medical.sliding import segment

    spec, medical = read_volume_spec(bundle.folder), read_medical(bundle.folder)
    grey = prepare_slices(volume, medical)
    case = grey[..., None] if spec.embed == "pixels" else spec.values(grey[None])
    name = spec.feed().name
    with open_session(bundle) as session:
        plan = replace(spec.plan(), batch=session.batch or BATCH)
        answer = segment(
            case, plan, lambda windows: _logits(session, {name: windows}), lambda done, of: tell(int(done), int(of))
        )
    _check_finite(answer.mean_logits)
    restored: NDArray[np.uint8] = restore_mask(answer.classes, volume.affine, volume.values.shape, medical)
    return restored


def takes_volumes(bundle: Bundle) -> bool:
    """Whether the bundle's network sees windows of volumes."""
    from edgeft import plugins
    from edgeft.task import WindowedTask

    return isinstance(plugins.load("tasks", bundle.manifest["task"])(), WindowedTask)


def _logits(session: Session, feeds: dict[str, Any]) -> Any:
    return session.run(feeds, "a window")["logits"]


def _check_finite(mean: Any) -> None:
    import numpy as np

    if not np.isfinite(mean).all():
        raise StepError("the artefact's answers are NaN or infinite", hint="`edgeft verify` checks the bundle")


def _write(path: Path, mask: NDArray[np.uint8], volume: Volume) -> None:
    """A NIfTI-1 file in the axes and with the affine of the volume's own; in place once it is whole."""
    import nibabel
    import numpy as np

    affine = np.diag((-1.0, -1.0, 1.0, 1.0)) @ volume.affine[:, [2, 1, 0, 3]]  # LPS to RAS, axes as NIfTI has them
    image = nibabel.Nifti1Image(np.ascontiguousarray(mask.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("mm")
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        draft.write_bytes(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise StepError(f"cannot be written: {error.strerror}", where=str(path)) from error
