"""Blocks of the MNI152 average brain with its tissue maps: one volume cut in small ones, for trying 3-D networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgeft.data.source import DataSpec, Warn, require_columns
from edgeft.data.sources.mni_slices import MniSlicesSource, _read_half, _seen_by
from edgeft.data.sources.written import own_folder, write_own
from edgeft.data.volumes import volume_bytes

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("image", "label", "slab", "split", "scanner", "file", "mask_file", "present", "spacing")
GAP = 10
SLABS = (
    ("gate", 18), ("train", 24), ("calibration", 12), ("gate", 16), ("search", 12), ("train", 24), ("validation", 12),
)  # fmt: skip
"""(split, voxels) from back to front, `GAP` unused voxels between neighbours; the first begins at `FIRST_ROW`."""
FIRST_ROW = 8
FIRST_PLANE, BLOCK_PLANES, BLOCKS = 12, 24, 6
"""A slab is cut into six blocks from below upwards, and into a middle and an outer half."""
BLOCK_COLUMNS = 40
SPACING = "1 1 1"


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
    blocks are no patients and no independent cases. `scanner`: as in mni-slices, made up.
    """

    name: ClassVar[str] = "mni-volumes"
    version: ClassVar[int] = 1

    def read(self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn) -> pa.Table:
        """Slab by slab, from below upwards, the scanners of a block one after the other."""
        import numpy as np
        import pyarrow as pa

        require_columns(columns, COLUMNS, f"source '{self.name}'")
        found: dict[str, list[str]] = {name: [] for name in COLUMNS}
        root = own_folder(self.name, self.folder)
        brain, tissues = _read_half()
        truth = tissues.transpose(2, 1, 0)
        for scanner in self.scanners:
            planes = [_seen_by(scanner, brain[:, :, place], place) for place in range(brain.shape[2])]
            seen = np.stack([plane.T for plane in planes])
            for block in blocks():
                name, mask_file = f"{scanner}/{block.name}.npy", root / "masks" / f"{block.name}.npy"
                write_own(volume_bytes(seen[block.at]), root / name)
                write_own(volume_bytes(truth[block.at]), mask_file)
                row = {
                    "image": name, "slab": block.slab, "split": block.split, "scanner": scanner,
                    "file": str(root / name), "mask_file": str(mask_file), "spacing": SPACING,
                    **describe_mask(truth[block.at]),
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


def describe_mask(mask: Any) -> dict[str, str]:
    """label: the most frequent value that is not 0, else 0; present: all values, with a space between."""
    import numpy as np

    counts = np.bincount(np.asarray(mask).ravel(), minlength=2)
    largest = int(counts[1:].argmax()) + 1 if counts[1:].any() else 0
    return {"label": str(largest), "present": " ".join(str(value) for value in np.flatnonzero(counts))}
