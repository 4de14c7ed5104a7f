"""scikit-learn's handwritten digits (1,797 images of 8 x 8, Alpaydin & Kaynak 1998) as an image data set."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from edgeft.data.source import DataSpec, FileDigest, Source, Warn, require_columns
from edgeft.errors import RecipeError, StepError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("image", "label")
LEVELS = 16
"""Grey values of the set: 0..16."""


class DigitsSource(Source):
    """Columns `image` and `label` (0..9): PNG files of `size` pixels, white on black, enlarged by Pillow's bilinear.

    Written once as `<label>/<number>.png` into `folder`, by default below the temporary folder of the system. The set
    does not say who wrote which digit, so images of one writer may lie on both sides of a split.
    """

    name: ClassVar[str] = "digits"

    size: int = Field(32, ge=8, le=256, description="Height and width of the images.")
    folder: str | None = Field(None, description="Where the PNG files are written; default a temporary folder.")

    def fingerprint(self, spec: DataSpec, file_digest: FileDigest) -> dict[str, Any]:
        """The versions that decide the pixels and the bytes; nothing is read."""
        versions = {name: _version(name) for name in ("scikit-learn", "pillow")}
        options = {"size": self.size}
        return {"source": self.name, "version": self.version, "options": options, "content": versions}

    def read(self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn) -> pa.Table:
        """All images in the set's order."""
        import pyarrow as pa
        from sklearn.datasets import load_digits

        require_columns(columns, COLUMNS, "source 'digits'")
        found = load_digits()
        root = Path(self.folder) if self.folder else Path(tempfile.gettempdir()) / f"edgeft-digits-{os.getuid()}"
        try:
            names = [
                self._write(root, place, image, label)
                for place, (image, label) in enumerate(zip(found.images, found.target.tolist(), strict=True))
            ]
        except OSError as error:
            raise StepError(
                f"cannot be written: {error.strerror}", where=str(root), hint="data.options.folder"
            ) from error
        rows = {
            "image": names,
            "label": [str(label) for label in found.target.tolist()],
            "file": [str(root / str(self.size) / name) for name in names],
        }
        return pa.table({name: pa.array(column, pa.string()) for name, column in rows.items()})

    def _write(self, root: Path, place: int, image: Any, label: int) -> str:
        """Write one PNG where it is not there yet; its name below the size's folder."""
        import numpy as np
        from PIL import Image

        name = f"{label}/{place:04d}.png"
        path = root / str(self.size) / name
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = Image.fromarray(np.round(image * (255 / LEVELS)).astype(np.uint8))
            draft = path.with_suffix(f".{os.getpid()}.png")
            grey.resize((self.size, self.size), Image.Resampling.BILINEAR).save(draft, format="PNG")
            draft.replace(path)
        return name


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        raise RecipeError(f"{distribution} is not installed", where="data.source", hint="pip install edgeft") from None
