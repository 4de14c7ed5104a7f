"""Blocks of the MNI152 average brain with its tissue maps: one volume cut in small ones, for trying 3-D networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeft.data.source import DataSpec, Intake, Warn, require_columns
from edgeft.data.sources.decoded import Slice, VolumeWriter
from edgeft.data.sources.mni_slices import MniSlicesSource, read_half, seen_by
from edgeft.errors import RecipeError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("image", "label", "slab", "split", "scanner", "file", "mask_file", "present", "pixels", "spacing")
GAP = 10
SLABS = (
    ("gate", 18), ("train", 24), ("calibration", 12), ("gate", 16), ("search", 12), ("train", 24), ("validation", 12),
)  # fmt: skip
"""(split, voxels) from back to front, `GAP` unused voxels between neighbours; the first begins at `FIRST_ROW`."""
FIRST_ROW = 8
FIRST_PLANE, BLOCK_PLANES, BLOCKS = 12, 24, 6
"""A slab is cut into six blocks from below upwards, and into a middle and an outer half."""
BLOCK_COLUMNS = 40
WINDOW = "preprocess: {window: [0, 255], orientation: stored}"


@dataclass(frozen=True)
class Block:
    """Where a block lies in the half's (planes, rows, columns), and what it is for."""

    name: str
    split: str
    slab: str
    at: tuple[slice, slice, slice]


class MniVolumesSource(MniSlicesSource):
    """Blocks of one half of ICBM 2009a (Fonov et al. 2011), 24 x 12..24 x 40 voxels of 1 mm: 0 rest, 1 grey, 2 white.

    ONE average brain of 152, and an exact mirror image of itself, so only the right half is used. It is cut into slabs
    from back to front with gaps of 10 voxels (columns `slab` and `split`), and each slab into 12 blocks, which touch:
    blocks are no patients and no independent cases. `scanner`: as in mni-slices, made up. Values are those of the
    files, 0..255; stored are planes upwards, rows forwards, columns to the right.
    """

    name: ClassVar[str] = "mni-volumes"
    version: ClassVar[int] = 1
    decodes: ClassVar[bool] = True

    @property
    def whole(self) -> bool:
        """Always."""
        return True

    def read_into(
        self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn, intake: Intake
    ) -> pa.Table:
        """Scanner by scanner, slab by slab, from below upwards."""
        import numpy as np
        import pyarrow as pa

        require_columns(columns, COLUMNS, f"source '{self.name}'")
        if intake.medical is None:
            raise RecipeError(f"source '{self.name}' needs a window", where="preprocess", hint=WINDOW)
        found: dict[str, list[str]] = {name: [] for name in COLUMNS}
        writer = VolumeWriter(intake, dense=True)
        brain, tissues = read_half()
        truth = tissues.transpose(2, 1, 0)
        for scanner in self.scanners:
            planes = [seen_by(scanner, brain[:, :, place], place).T for place in range(brain.shape[2])]
            seen = np.stack(planes)
            for block in blocks():
                row = {
                    "image": f"{scanner}/{block.name}", "slab": block.slab, "split": block.split, "scanner": scanner,
                    **writer.write(Slice(seen[block.at], _affine(block), False, truth[block.at], 0, 1)),
                }  # fmt: skip
                for column in COLUMNS:
                    found[column].append(row[column])
        return pa.table({column: pa.array(values, pa.string()) for column, values in found.items()})


def blocks() -> Iterator[Block]:
    """All of them."""
    start = FIRST_ROW
    for number, (split, thick) in enumerate(SLABS):
        for level in range(BLOCKS):
            for side, first in (("middle", 0), ("outer", BLOCK_COLUMNS)):
                low = FIRST_PLANE + level * BLOCK_PLANES
                at = (slice(low, low + BLOCK_PLANES), slice(start, start + thick), slice(first, first + BLOCK_COLUMNS))
                yield Block(f"slab{number}-{level}-{side}", split, f"slab{number}", at)
        start += thick + GAP


def _affine(block: Block) -> Any:
    """LPS: planes grow to S, rows to A, columns to R; 1 mm. The origin is the half's corner, not the template's."""
    import numpy as np

    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 1, -1, -1, 1
    affine[:3, 3] = -block.at[2].start, -block.at[1].start, block.at[0].start
    return affine
