"""scikit-learn's handwritten digits (1,797 images of 8 x 8, Alpaydin & Kaynak 1998) as an image data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from edgeft.data.source import DataSpec, FileDigest, Source, Warn, require_columns
from edgeft.data.sources.written import own_folder, version_of, write_png

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image

COLUMNS = ("image", "label")
LEVELS = 16
"""Grey values of the set: 0..16."""


class DigitsSource(Source):
    """Columns `image` and `label` (0..9): PNG files of `size` pixels, white on black, enlarged by Pillow's bilinear.

    Written as `<size>/<label>/<number>.png` into `folder`, by default below the temporary folder of the system. The set
    does not say who wrote which digit, so images of one writer may lie on both sides of a split.
    """

    name: ClassVar[str] = "digits"

    size: int = Field(32, ge=8, le=256, description="Height and width of the images.")
    folder: str | None = Field(None, description="Where the PNG files are written; default a temporary folder.")

    def fingerprint(self, spec: DataSpec, file_digest: FileDigest) -> dict[str, Any]:
        """The versions that decide the pixels and the bytes; nothing is read."""
        versions = {name: version_of(name) for name in ("scikit-learn", "pillow")}
        options = {"size": self.size}
        return {"source": self.name, "version": self.version, "options": options, "content": versions}

    def read(self, spec: DataSpec, split: str | None, columns: Sequence[str], warn: Warn) -> pa.Table:
        """All images in the set's order."""
        import pyarrow as pa
        from sklearn.datasets import load_digits

        require_columns(columns, COLUMNS, "source 'digits'")
        found = load_digits()
        root = own_folder("digits", self.folder) / str(self.size)
        targets = found.target.tolist()
        names = [f"{label}/{place:04d}.png" for place, label in enumerate(targets)]
        for name, image in zip(names, found.images, strict=True):
            write_png(self._enlarged(image), root / name)
        rows = {
            "image": names,
            "label": [str(label) for label in targets],
            "file": [str(root / name) for name in names],
        }
        return pa.table({name: pa.array(column, pa.string()) for name, column in rows.items()})

    def _enlarged(self, image: Any) -> Image.Image:
        """(8, 8) values 0..16 as an 8-bit picture of `size`."""
        import numpy as np
        from PIL import Image

        grey = Image.fromarray(np.round(image * (255 / LEVELS)).astype(np.uint8))
        return grey.resize((self.size, self.size), Image.Resampling.BILINEAR)
