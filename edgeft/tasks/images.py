"""Encoded images to feeds on the host: decoded, turned upright, resized by Pillow, and normalised by plain numpy."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from edgeft.data.pack import image_bytes
from edgeft.errors import StepError
from edgeft.tasks.image_spec import PIXELS, VALUES, ImageSpec

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from PIL import Image

    Pixels = NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
MAX_PIXELS = 1_000_000_000
DEEP = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
"""Pillow's modes of more than 8 bits a channel: there is no one way to bring them to 0..255."""


def decode(raw: bytes, channels: int, name: str) -> Image.Image:
    """An upright 8-bit image, RGB or L; StepError for what cannot be decoded or holds more than 8 bits a channel."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            if image.size[0] * image.size[1] > MAX_PIXELS:
                raise StepError(f"{image.size[0]} x {image.size[1]} pixels are too many", where=name)
            if image.mode in DEEP:
                hint = "write 8-bit files, with the range of values you want to keep"
                raise StepError(f"an image of mode {image.mode}, more than 8 bits a channel", where=name, hint=hint)
            turned = ImageOps.exif_transpose(image)
            return turned.convert("L" if channels == 1 else "RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise StepError(f"cannot be decoded: {str(error)[:200]}", where=name, hint="save the image anew") from error


def given_image(raw: bytes, spec: ImageSpec, name: str) -> Image.Image:
    """A case's image at the size that is given to the artefact: an encoded file, or a decoded medical slice."""
    from edgeft.medical import order, reference

    if not raw.startswith(reference.MAGIC):
        return fit(decode(raw, spec.channels, name), spec)
    from PIL import Image

    stated = {"image": spec.model_dump(), "medical": spec.medical}
    try:
        if spec.medical is None:
            raise ValueError("preprocess.json states no window for it")
        pixels = reference.pixels(raw, stated, order)
    except (ValueError, TypeError, KeyError) as error:
        raise StepError(f"a slice cannot be brought to pixels: {error}", where=name) from error
    return Image.fromarray(pixels[:, :, 0] if spec.channels == 1 else pixels)


def fit(image: Image.Image, spec: ImageSpec, *, nearest: bool = False) -> Image.Image:
    """Resized to what the feed holds. nearest: for masks, whose values may not be mixed."""
    from PIL import Image

    how = Image.Resampling.NEAREST if nearest else Image.Resampling[spec.filter.upper()]
    height, width = spec.given
    if spec.shortest is None:
        return image if image.size == (width, height) else image.resize((width, height), how)
    across, down = (side * spec.shortest // min(image.size) for side in image.size)
    grown = (max(width, across), max(height, down))
    if image.size != grown:
        image = image.resize(grown, how)
    left, top = (grown[0] - width) // 2, (grown[1] - height) // 2
    return image.crop((left, top, left + width, top + height))


def read_pixels(rows: pa.Table, spec: ImageSpec) -> Pixels:
    """uint8 (n, rows, columns, channels) of a table's images, in its order."""
    import numpy as np

    found = np.empty((rows.num_rows, *spec.given, spec.channels), np.uint8)
    for place, (name, raw) in enumerate(image_bytes(rows)):
        image = given_image(raw, spec, name)
        found[place] = np.asarray(image, np.uint8).reshape(*spec.given, spec.channels)
    return found


def to_values(pixels: Any, spec: ImageSpec) -> NDArray[np.float32]:
    """float32 (n, channels, height, width): what the network sees, computed without torch and without any runtime."""
    import numpy as np

    from edgeft.medical.reference import resize_matrix

    x = np.asarray(pixels)
    if spec.source and spec.source != (spec.height, spec.width):
        rows, columns = resize_matrix(spec.source[0], spec.height), resize_matrix(spec.source[1], spec.width)
        x = np.einsum("yh,nhwc->nywc", rows, x.astype(np.float64), optimize=True)
        x = np.einsum("xw,nywc->nyxc", columns, x, optimize=True)
    values = (x.astype(np.float64) * spec.scale).transpose(0, 3, 1, 2)
    if spec.order == "BGR":
        values = values[:, ::-1]
    shape = (1, spec.channels, 1, 1)
    values = (values - np.reshape(spec.mean, shape)) / np.reshape(spec.std, shape)
    return np.ascontiguousarray(values.astype(np.float32))


def plain_values(feeds: Any, spec: ImageSpec) -> dict[str, Any]:
    """The canonical feed as the torch model takes it."""
    return {VALUES: to_values(feeds[PIXELS], spec) if spec.embed != "none" else feeds[VALUES]}
