"""Image files as they are given to a decoder in the artefact: many in one array, written anew, and hard ones."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from PIL import Image

ORIENTATION = 0x0112
JPEG_QUALITY = 90
GOLDEN_SIDE = 192
"""Golden files are no larger: they are about forms of files, not about size."""


def pack_files(raws: Sequence[bytes]) -> NDArray[np.uint8]:
    """uint8 (n, longest), each file followed by zeros, which the decoder in the artefact does not look at."""
    import numpy as np

    found = np.zeros((len(raws), max(map(len, raws), default=0)), np.uint8)
    for place, raw in enumerate(raws):
        found[place, : len(raw)] = np.frombuffer(raw, np.uint8)
    return found


def write_png(image: Image.Image, **options: Any) -> bytes:
    """An image as a PNG file: decoders agree on those to the last bit."""
    return _write(image, "PNG", **options)


def write_jpeg(image: Image.Image, **options: Any) -> bytes:
    """An image as a colour JPEG of quality 90 with halved colour resolution, as cameras write them."""
    return _write(image.convert("RGB"), "JPEG", **{"quality": JPEG_QUALITY, "subsampling": 2, **options})


def golden_files(image: Image.Image) -> dict[str, bytes]:
    """Hard forms of one upright RGB or grey image, name -> PNG or JPEG file."""
    from PIL import Image

    small = image.convert("RGB")
    small.thumbnail((GOLDEN_SIDE, GOLDEN_SIDE))
    alpha = small.convert("RGBA")
    alpha.putalpha(small.convert("L"))
    found = {
        "alpha.png": write_png(alpha),
        "grey.png": write_png(small.convert("L")),
        "palette.png": write_png(small.quantize(16), bits=4),
        "one-wide.png": write_png(small.resize((1, small.height))),
        "one-high.png": write_png(small.resize((small.width, 1))),
        "progressive.jpg": write_jpeg(small, subsampling=0, progressive=True),
    }
    for turn in range(2, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = turn
        found[f"turned-{turn}.png"] = write_png(small, exif=exif)
        found[f"turned-{turn}.jpg"] = write_jpeg(small, exif=exif, subsampling=0)
    return found


def exact_rows(rows: pa.Table, channels: int) -> pa.Table:
    """The rows' images as PNG files behind golden ones of the first, for a comparison that no JPEG decoder blurs."""
    import pyarrow as pa

    from edgeft.data.pack import image_bytes
    from edgeft.tasks.images import decode

    images = [(name, decode(raw, channels, name)) for name, raw in image_bytes(rows)]
    hard = golden_files(images[0][1]) if images else {}
    files = {name: raw for name, raw in hard.items() if name.endswith(".png")}
    names = [*files, *(name for name, _ in images)]
    return pa.table({"image": names, "bytes": [*files.values(), *(write_png(image) for _, image in images)]})


def _write(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=form, **options)
    return stream.getvalue()
