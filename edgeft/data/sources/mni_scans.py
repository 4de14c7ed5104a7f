"""The slices of mni-slices as a scanner gives them: values and their place in the patient, not pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from edgeft.data.source import DataSpec, Intake, Warn, require_columns
from edgeft.data.sources.decoded import Slice, Writer
from edgeft.data.sources.mni_slices import PATIENT, MniSlicesSource, read_half, seen_by, used_slices

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

COLUMNS = (
    "image", "label", "patient", "slab", "split", "scanner", "modality", "file", "mask_file", "present", "pixels",
    "spacing",
)  # fmt: skip


class MniScansSource(MniSlicesSource):
    """Axial slices of one half of ICBM 2009a (Fonov et al. 2011) with their affine: 0 rest, 1 grey, 2 white.

    The slices, slabs and made-up scanners of mni-slices; `preprocess:` brings the values, 0..255, to grey levels, so
    that a bundle takes DICOM series, too. Rows go backwards and columns to the patient's right, 1 mm each.
    """

    name: ClassVar[str] = "mni-scans"
    version: ClassVar[int] = 1
    decodes: ClassVar[bool] = True

    def read_into(
        self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn, intake: Intake
    ) -> pa.Table:
        """From below upwards, the scanners of a slice one after the other."""
        import pyarrow as pa

        require_columns(columns, COLUMNS, f"source '{self.name}'")
        found: dict[str, list[str]] = {name: [] for name in COLUMNS}
        writer = Writer(intake, dense=True)
        brain, tissues = read_half()
        for place, (part, slab) in used_slices():
            truth = tissues[:, ::-1, place].T[None]
            for scanner in self.scanners:
                seen = seen_by(scanner, brain[:, :, place], place)[:, ::-1].T[None]
                one = Slice(seen, slice_affine(place), False, truth, 0, 1)
                row = {
                    "image": f"{scanner}/z{place:03d}", "patient": PATIENT, "slab": slab, "split": part,
                    "modality": "MR", "scanner": scanner, **writer.write(one),
                }  # fmt: skip
                for column in COLUMNS:
                    found[column].append(row[column])
        return pa.table({column: pa.array(values, pa.string()) for column, values in found.items()})


def slice_affine(place: int) -> NDArray[np.float64]:
    """(slice, row, column, 1) -> mm, LPS. The origin is the half's own, not the template's."""
    import numpy as np

    affine: Any = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 1, 1, -1, 1
    affine[2, 3] = place
    return np.asarray(affine, dtype=np.float64)
