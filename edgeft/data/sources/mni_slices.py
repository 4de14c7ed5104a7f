"""Slices of the MNI152 average brain with its tissue maps, from files that lie inside the nilearn package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgeft.data.source import DataSpec, FileDigest, Source, Warn, require_columns
from edgeft.data.sources.written import own_folder, version_of, write_png
from edgeft.errors import RecipeError, StepError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Volume = NDArray[np.uint8]

COLUMNS = ("image", "label", "patient", "slab", "split", "scanner", "file", "mask_file", "present", "spacing")
SPACING = "1 1 1"
"""Slices, rows and columns, in mm."""
FILE = "datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
SHAPE = (197, 233, 189)
COLUMNS_KEPT, ROWS_KEPT = slice(98, 178), slice(20, 212)
"""Voxels right of the middle plane (x = 98), and front to back: 80 x 192, all of the brain's half."""
FIRST, GAP = 25, 10
SLABS = (
    ("calibration", 3), ("train", 9), ("gate", 8), ("train", 9),
    ("search", 6), ("validation", 4), ("gate", 8), ("train", 9),
)  # fmt: skip
"""(split, slices) from below upwards, `GAP` unused slices between neighbours; the first slice is `FIRST`."""
LIKELY = 128
"""A voxel is of a tissue from this value of its map (0..255) on: a probability of one half."""
PATIENT = "mni152"
"""152 people averaged into one: what statistics over patients have to count as."""
Scanner = Literal["plain", "bias", "noise", "contrast"]


class MniSlicesSource(Source):
    """Axial slices of one half of ICBM 2009a (Fonov et al. 2011), 192 x 80 pixels of 1 mm: 0 rest, 1 grey, 2 white.

    The template is one average of 152 brains and an exact mirror image of itself, so only the right half is used;
    neighbouring slices are nearly equal, so column `split` gives whole slabs with gaps of 10 slices between them
    (column `slab`). `scanner`: plain; bias, brightness that changes smoothly across the slice; noise, Rician; contrast,
    bright tissue compressed (a power of 0.6). The last three are made up: they are no model of a real scanner. Column
    `label` is the larger of the two tissues; `patient` is one and the same, the average brain.
    """

    name: ClassVar[str] = "mni-slices"
    version: ClassVar[int] = 2

    scanners: tuple[Scanner, ...] = Field(
        ("plain", "bias", "noise"), min_length=1, description="Versions of every slice."
    )
    folder: str | None = Field(None, description="Where the PNG files are written; default a temporary folder.")

    def fingerprint(self, spec: DataSpec, file_digest: FileDigest) -> dict[str, Any]:
        """The three files, and the versions that decide pixels and bytes."""
        files = {kind: file_digest(path) for kind, path in template_files().items()}
        versions = {name: version_of(name, "examples") for name in ("nibabel", "numpy", "pillow")}
        options = {"scanners": list(self.scanners)}
        content = {"files": files, "versions": versions}
        return {"source": self.name, "version": self.version, "options": options, "content": content}

    def says_spacing(self, spec: DataSpec) -> bool:
        """It does: 1 mm each way."""
        return True

    def read(self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn) -> pa.Table:
        """From below upwards, the scanners of a slice one after the other."""
        import numpy as np
        import pyarrow as pa

        require_columns(columns, COLUMNS, "source 'mni-slices'")
        found: dict[str, list[str]] = {name: [] for name in COLUMNS}
        root = own_folder("mni", self.folder)
        brain, tissues = read_half()
        for place, (part, slab) in used_slices():
            mask_file = root / "masks" / f"z{place:03d}.png"
            write_png(_picture(tissues[:, :, place]), mask_file)
            counts = np.bincount(tissues[:, :, place].ravel(), minlength=3)
            for scanner in self.scanners:
                name = f"{scanner}/z{place:03d}.png"
                write_png(_picture(seen_by(scanner, brain[:, :, place], place)), root / name)
                row = {
                    "image": name, "label": str(int(counts[1:].argmax()) + 1), "patient": PATIENT, "slab": slab,
                    "split": part, "scanner": scanner, "file": str(root / name), "mask_file": str(mask_file),
                    "present": " ".join(str(value) for value in np.flatnonzero(counts)), "spacing": SPACING,
                }  # fmt: skip
                for column in COLUMNS:
                    found[column].append(row[column])
        return pa.table({column: pa.array(values, pa.string()) for column, values in found.items()})


def used_slices() -> Iterator[tuple[int, tuple[str, str]]]:
    """(slice, (split, slab)) of every slice that is used."""
    start = FIRST
    for number, (part, thick) in enumerate(SLABS):
        for place in range(start, start + thick):
            yield place, (part, f"slab{number}")
        start += thick + GAP


def template_files() -> dict[str, Path]:
    """The three volumes, found without importing nilearn."""
    spec = PathFinder.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        what = "nilearn, which brings the MNI152 template, is not installed"
        raise RecipeError(what, where="data.source", hint="pip install 'edgeft[examples]'")
    root = Path(next(iter(spec.submodule_search_locations)))
    found = {kind: root / FILE.format(kind) for kind in ("t1", "gm", "wm")}
    absent = [path for path in found.values() if not path.is_file()]
    if absent:
        hint = "this version of nilearn brings other files; 0.11 to 0.14 have them"
        raise RecipeError(f"nilearn has no {absent[0].name}", where="data.source", hint=hint)
    return found


def read_half() -> tuple[Volume, Volume]:
    """(T1, tissue 0..2), each uint8 (80, 192, 189)."""
    import numpy as np

    version_of("nibabel", "examples")
    import nibabel

    volumes: dict[str, Volume] = {}
    for kind, path in template_files().items():
        values = np.asarray(nibabel.load(path).dataobj)
        if values.shape != SHAPE or values.dtype != np.uint8:
            what = f"a volume of {values.dtype} {values.shape}, uint8 {SHAPE} is expected"
            raise StepError(what, where=str(path), hint="this version of nilearn brings another template")
        volumes[kind] = values[COLUMNS_KEPT, ROWS_KEPT]
    tissues = np.where(volumes["wm"] >= LIKELY, 2, np.where(volumes["gm"] >= LIKELY, 1, 0)).astype(np.uint8)
    return volumes["t1"], tissues


def seen_by(scanner: str, plane: Volume, place: int) -> Volume:
    """One slice, uint8 (80, 192), as the made-up scanner shows it."""
    import numpy as np

    values = plane.astype(np.float64)
    if scanner == "bias":
        across, along = (np.linspace(-1, 1, side) for side in plane.shape)
        values = values * (1 + 0.12 * across[:, None] - 0.15 * along[None, :] ** 2)
    if scanner == "noise":
        draw = np.random.Generator(np.random.Philox(place))
        real, imaginary = draw.normal(0, 8, (2, *plane.shape))
        values = np.hypot(values + real, imaginary)
    if scanner == "contrast":
        values = 255 * (values / 255) ** 0.6
    return np.round(np.clip(values, 0, 255)).astype(np.uint8)


def _picture(plane: Volume) -> Any:
    """Upright: front of the head at the top, 192 rows of 80."""
    from PIL import Image

    return Image.fromarray(plane.T[::-1].copy())
