"""Preprocessing computed twice: by the host, which trains with it, and by a target or by the user's own function."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.device.profile import Device
from edgeft.device.protocol import Job
from edgeft.device.transport import run_job
from edgeft.errors import StepError
from edgeft.record import ImagePairRow, PreprocessRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEVELS = 1.0
"""Grey levels of 255 that a target may differ by: the same sums in another order fall on the other side of a half."""
LARGEST = 256
"""Pixels of a picture's longer side."""
CONTRAST = 8
"""By how much a difference is enlarged, to be seen."""


def reference_files() -> tuple[Path, Path]:
    """(reference.py, order.py): what travels to every target, and with the bundle."""
    from edgeft.medical import order, reference

    return Path(str(reference.__file__)), Path(str(order.__file__))


def run_reference(device: Device, slices: Sequence[bytes], stated: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Pixels (n, rows, columns, channels) of decoded slices, computed by the device's own numpy."""
    import numpy as np

    runtime, _ = reference_files()
    feeds = {f"case{place:03d}": np.frombuffer(raw, np.uint8) for place, raw in enumerate(slices)}
    settings = {"stated": {name: stated[name] for name in ("image", "medical")}}
    result = run_job(device, Job("preprocess", runtime, feeds={"feeds": feeds}, settings=settings))
    if "pixels" not in result.arrays:
        raise StepError("the device gave no pixels", where=device.name)
    return np.asarray(result.arrays["pixels"])


def compare(
    ours: NDArray[Any], theirs: NDArray[Any], names: Sequence[str], *, against: str, how: str, origin: str,
    tolerance: float, unit: str, white: float,
) -> PreprocessRow:  # fmt: skip
    """Largest difference of (n, rows, columns, channels) arrays; the worst case as pictures where it is too large.

    white: the value of a picture's brightest level, 0 that of its darkest. Another shape, or a value that is no
    number, differs by all there is.
    """
    import numpy as np

    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if a.shape != b.shape:
        what = f"{against} gives {b.shape[1:]} (rows, columns, channels), {a.shape[1:]} is what the network sees"
        raise StepError(what, where="preprocess", hint="the sizes are those of serve.height and serve.width")
    apart = np.nan_to_num(np.abs(a - b), nan=np.inf).reshape(len(a), -1).max(axis=1)
    worst = int(apart.argmax())
    largest = float(min(apart[worst], 1e9))
    passed = largest <= tolerance
    pair = None if passed else draw_pair(names[worst], a[worst] / white, b[worst] / white)
    return PreprocessRow.model_validate(
        {
            "against": against, "how": how, "cases": len(a), "origin": origin, "difference": largest,
            "tolerance": tolerance, "unit": unit, "passed": passed, "pair": pair,
        }
    )  # fmt: skip


def refuse_difference(row: PreprocessRow) -> None:
    """StepError where the two sides do not agree; the report shows both images."""
    if row.passed:
        return
    what = (
        f"preprocessing differs: {row.against} is up to {row.difference:.3g} {row.unit} from what training sees, "
        f"{row.tolerance:g} is allowed ({row.cases} cases of the {row.origin})"
    )
    hint = "report.html shows the worst case as both sides see it: a flip, another window or another size is usual"
    raise StepError(what, where="preprocess", hint=hint)


def draw_pair(name: str, ours: NDArray[Any], theirs: NDArray[Any]) -> ImagePairRow:
    """Both images of one case, (rows, columns, channels) with 1 for white, and where they differ."""
    import numpy as np

    apart = np.clip(np.nan_to_num(np.abs(ours - theirs), nan=1.0) * CONTRAST, 0, 1)
    pictures = [_picture(image) for image in (ours, theirs, apart)]
    height, width = pictures[0][1]
    shown = [raw for raw, _ in pictures]
    return ImagePairRow(case=name, size=(height, width), ours=shown[0], theirs=shown[1], difference=shown[2])


def _picture(image: NDArray[Any]) -> tuple[str, tuple[int, int]]:
    import numpy as np
    from PIL import Image

    levels = np.rint(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    shown = Image.fromarray(levels[:, :, 0] if levels.shape[2] != 3 else levels)
    shown.thumbnail((LARGEST, LARGEST))
    raw = io.BytesIO()
    shown.save(raw, format="PNG", optimize=True)
    return base64.b64encode(raw.getvalue()).decode("ascii"), (shown.height, shown.width)
