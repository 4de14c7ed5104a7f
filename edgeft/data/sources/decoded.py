"""Volumes as slices, and slices on disk: values as decoded, masks on the declared grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.data.pack import pixels_digest
from edgeft.data.source import Intake

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.medical.volume import Volume

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Name -> axis of LPS that the slices are stacked along."""


@dataclass(frozen=True)
class Slice:
    """values (1, rows, columns) in modality units and mask, uint8 of that shape or None; place: which `of` how many."""

    values: NDArray[Any]
    affine: NDArray[np.float64]
    inverted: bool
    mask: NDArray[np.uint8] | None
    place: int
    of: int

    @property
    def labelled(self) -> bool:
        """Whether its mask has anything but background."""
        return self.mask is not None and bool(self.mask.any())


def slices_of(volume: Volume, mask: NDArray[np.uint8] | None, axis: str) -> Iterator[Slice]:
    """Each slice in order. axis: `stored` keeps the volume's first; else the one closest to that of the patient."""
    import numpy as np

    first = 0
    if axis != "stored":
        unit = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
        first = int(np.abs(unit[AXES[axis]]).argmax())
    order = (first, *(other for other in range(3) if other != first))
    values = volume.values.transpose(order)
    turned = None if mask is None else mask.transpose(order)
    affine = volume.affine[:, [*order, 3]]
    for place in range(len(values)):
        own = affine.copy()
        own[:3, 3] += own[:3, 0] * place
        part = None if turned is None else np.ascontiguousarray(turned[place : place + 1])
        yield Slice(np.ascontiguousarray(values[place : place + 1]), own, volume.inverted, part, place, len(values))


def whole_of(volume: Volume, mask: NDArray[np.uint8] | None) -> Iterator[Slice]:
    """The volume as the one slice of itself."""
    yield Slice(volume.values, volume.affine, volume.inverted, mask, 0, 1)


class Writer:
    """Slices as files of the intake's folder, numbered; what a row says of each."""

    def __init__(self, intake: Intake, dense: bool) -> None:
        from edgeft.medical.order import MedicalSpec

        self.folder, self.dense, self.count = intake.folder, dense, 0
        self.spec = MedicalSpec.from_dict(intake.medical or {})

    def write(self, one: Slice) -> dict[str, str]:
        """Its columns: file, pixels, spacing (mm of rows and columns on the declared grid); of masks also mask_file,
        present and label, the value of the largest area that is not background."""
        import numpy as np

        from edgeft.medical.reference import pack

        file = self.folder / f"{self.count:07d}.slice"
        self.count += 1
        file.write_bytes(pack(one.values, one.affine, one.inverted))
        spacing = np.linalg.norm(one.affine[:3, :3], axis=0)
        found = {"file": str(file), "pixels": pixels_digest(one.values)}
        if self.dense and one.mask is not None:
            more, spacing = self._write_mask(one.mask, one.affine, file.with_suffix(".png"))
            found |= more
        elif self.spec.spacing is not None:
            spacing = np.where(np.array(self.spec.spacing) > 0, self.spec.spacing, spacing)
        return {**found, "spacing": f"{spacing[1]:.6g} {spacing[2]:.6g}"}

    def _write_mask(
        self, drawn: NDArray[np.uint8], affine: NDArray[np.float64], file: Path
    ) -> tuple[dict[str, str], NDArray[Any]]:
        import numpy as np
        from PIL import Image

        from edgeft.medical.order import prepare_mask

        mask, affine = prepare_mask(drawn, affine, self.spec)
        Image.fromarray(mask[0].astype(np.uint8)).save(file, format="PNG", compress_level=1)
        return {"mask_file": str(file), **describe_mask(mask)}, np.linalg.norm(affine[:3, :3], axis=0)


class VolumeWriter(Writer):
    """Volumes as files of the intake's folder: grey levels on the declared grid, since a window of one is read alone.

    Columns as above; spacing in mm of slices, rows and columns.
    """

    def write(self, one: Slice) -> dict[str, str]:
        """Its columns. Values and mask are brought to the grid together, so that they have one shape."""
        import numpy as np

        from edgeft.data.volumes import volume_bytes
        from edgeft.medical.order import prepare, prepare_mask, quantise

        shown, affine = prepare(one.values, one.affine, one.inverted, self.spec)
        file = self.folder / f"{self.count:07d}.npy"
        self.count += 1
        file.write_bytes(volume_bytes(quantise(np.clip(shown, 0, 1))))
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        found = {
            "file": str(file), "pixels": pixels_digest(one.values), "spacing": " ".join(f"{mm:.6g}" for mm in spacing)
        }  # fmt: skip
        if not self.dense or one.mask is None:
            return found
        mask, _ = prepare_mask(one.mask, one.affine, self.spec)
        drawn = file.with_suffix(".mask.npy")
        drawn.write_bytes(volume_bytes(mask.astype(np.uint8)))
        return {**found, "mask_file": str(drawn), **describe_mask(mask)}


def describe_mask(mask: NDArray[Any]) -> dict[str, str]:
    """label: the value of the largest area that is not background, else 0; present: all values, with spaces."""
    import numpy as np

    counts = np.bincount(mask.ravel(), minlength=2)
    largest = int(counts[1:].argmax()) + 1 if counts[1:].any() else 0
    return {"label": str(largest), "present": " ".join(str(value) for value in np.flatnonzero(counts))}
