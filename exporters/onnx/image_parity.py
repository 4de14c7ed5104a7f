"""A decoder in the graph against the plain path: PNG to the last bit, JPEG within what decoders differ by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgeft.exporter import Unsupported

from .front import front_session

if TYPE_CHECKING:
    import onnx
    import pyarrow as pa

    from edgeft.tasks.image_spec import ImageSpec

PREFIX = "file/"
JPEG_MEAN, JPEG_MOST = 2.0, 32
"""Levels of 255, per image after resizing. libjpeg (in the operator) and libjpeg-turbo (in Pillow) are at most 1 apart
where colour has full resolution; where it has half, they enlarge it differently: 0.4 on average and 10 at most on two
photographs at 224 x 224, 1.8 and 21 on noise at its own size. Swapped colours were 63 on average."""


def prove_pixels(model: onnx.ModelProto, rows: pa.Table, spec: ImageSpec) -> dict[str, Any]:
    """Every image as stored, as PNG and as JPEG, and hard forms of the first. Facts: image_files, jpeg_mean, jpeg_most.

    Raises Unsupported with the first file whose pixels differ, or which the decoder does not take.
    """
    import numpy as np

    session, _ = front_session(model, PREFIX)
    count, mean, most = 0, 0.0, 0
    for name, raw, plain in _files(rows, spec):
        apart = np.abs(_decode(session, raw, name).astype(np.int64) - plain)
        jpeg = raw.startswith(b"\xff\xd8")
        if apart.max() > (JPEG_MOST if jpeg else 0) or apart.mean() > JPEG_MEAN:
            raise Unsupported(
                f"the decoder in the graph gives other pixels of '{name}': {apart.mean():.2f} levels on average, "
                f"{apart.max()} at most; serve: embed_preprocessing: pixels"
            )
        count += 1
        if jpeg:
            mean, most = max(mean, float(apart.mean())), max(most, int(apart.max()))
    return {"image_files": count, "jpeg_mean": round(mean, 3), "jpeg_most": most}


def _files(rows: pa.Table, spec: ImageSpec) -> Iterator[tuple[str, bytes, Any]]:
    """(name, file, the plain path's pixels of it)."""
    import numpy as np

    from edgeft.data.pack import image_bytes
    from edgeft.tasks.image_files import golden_files, write_jpeg, write_png
    from edgeft.tasks.images import decode, fit

    for place, (name, raw) in enumerate(image_bytes(rows)):
        image = decode(raw, spec.channels, name)
        forms = {name: raw, f"{name} as PNG": write_png(image), f"{name} as JPEG": write_jpeg(image)}
        if place == 0:
            forms |= {f"{name} as {form}": file for form, file in golden_files(image).items()}
        for form, file in forms.items():
            pixels = np.asarray(fit(decode(file, spec.channels, form), spec), np.int64)
            yield form, file, pixels.reshape(1, spec.height, spec.width, spec.channels)


def _decode(session: Any, raw: bytes, name: str) -> Any:
    import numpy as np
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument, RuntimeException

    from edgeft.runtimes.ort import short

    try:
        return session.run(None, {session.get_inputs()[0].name: np.frombuffer(raw, np.uint8)[None]})[0]
    except (InvalidArgument, RuntimeException) as error:
        raise Unsupported(f"the decoder in the graph does not take '{name}': {short(error)}") from error
