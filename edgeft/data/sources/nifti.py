"""NIfTI volumes as slices, by two folders or a table of cases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from edgeft.data.sources.cases import CASES
from edgeft.data.sources.medical import Case, MedicalSource, inside
from edgeft.errors import RecipeError, StepError

IMAGES, MASKS = "images", "masks"
SUFFIXES = (".nii.gz", ".nii")


class NiftiSource(MedicalSource):
    """`path/images/NAME.nii.gz` with `path/masks/NAME.nii.gz`, whose values are places in data.labels; or
    `path/cases.csv` with `file`, `label` or `mask`, and any further columns.

    The format names no patients: data.group names a column of cases.csv, or `ungrouped: true` says that you accept it.
    """

    name: ClassVar[str] = "nifti"
    needs: ClassVar[Mapping[str, str]] = {"nibabel": "medical"}
    tools: ClassVar[tuple[str, ...]] = ("nibabel", "numpy", "pillow")
    patients: ClassVar[Literal["", "column", "none"]] = "none"

    axis: Literal["stored", "axial", "coronal", "sagittal"] = Field("axial", description="How volumes are sliced.")

    def cases(self, root: Path) -> list[Case]:
        """cases.csv, else pairs of equal names in images/ and masks/."""
        if (root / CASES).is_file():
            return super().cases(root)
        found = {folder: _files(root, folder) for folder in (IMAGES, MASKS)}
        alone = sorted(found[IMAGES].keys() ^ found[MASKS].keys())
        if alone:
            side = MASKS if alone[0] in found[IMAGES] else IMAGES
            raise StepError(f"'{alone[0]}' has no file in {side}/ ({len(alone)} such)", where=str(root))
        if not found[IMAGES]:
            raise StepError("no image", where=str(root / IMAGES))
        return [Case(path, found[MASKS][name]) for name, path in sorted(found[IMAGES].items())]


def _files(root: Path, folder: str) -> dict[str, Path]:
    """Name without suffix -> file."""
    if not (root / folder).is_dir():
        raise RecipeError(
            f"there is neither {CASES} nor a folder '{folder}'", where=str(root), hint="images/ and masks/"
        )
    found: dict[str, Path] = {}
    for path in sorted((root / folder).iterdir()):
        suffix = next((end for end in SUFFIXES if path.name.lower().endswith(end)), None)
        if suffix is None or path.name.startswith("."):
            continue
        name = path.name[: -len(suffix)]
        if name in found:
            raise StepError(f"two files are called '{name}'", where=str(root / folder))
        found[name] = inside(root, f"{folder}/{path.name}", str(root / folder))
    return found
