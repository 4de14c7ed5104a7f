"""The process that parses medical files: one request a line on standard input, one answer a line on standard output.

Pixels go to .npy files in a folder of its own. It may write nowhere else, opens no socket, starts no process, and maps
no more memory than its limit. What it says of a file is a sentence made here, never a parser's own text, which may
quote a header. `Child` in process.py starts it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from edgeft.confined import fence, set_limits
from edgeft.medical.limits import Limits, Refusal

Answer = dict[str, Any]


def main() -> int:
    """Settings in the first line, then requests until the input ends."""
    answers, sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8"), sys.stderr
    # Decoders written in C print; nothing but answers may reach the parent.
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    settings = json.loads(sys.stdin.readline())
    limits, folder = Limits.from_dict(settings["limits"]), Path(settings["folder"])
    _prepare()
    unlimited = set_limits(limits.memory, limits.decoded + (1 << 20))
    inside = str(folder) + os.sep
    fence(lambda path: path.startswith(inside) and ".." not in path)
    _say(answers, {"ready": True, "unlimited": unlimited})
    for line in sys.stdin:
        answer = _answer(json.loads(line), limits, bytes.fromhex(settings["key"]), folder, answers)
        _say(answers, answer)
        if answer.get("last"):
            return 0
    return 0


def _prepare() -> None:
    """Import what parsing needs before memory is limited, and silence what would print a header's values."""
    import importlib.util

    import numpy as np  # noqa: F401

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    if importlib.util.find_spec("pydicom") is not None:
        import pydicom
        from pydicom import pixels  # noqa: F401

        pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def _answer(request: Mapping[str, Any], limits: Limits, key: bytes, folder: Path, answers: TextIO) -> Answer:
    files = [Path(file) for file in request["files"]]
    current: list[int | None] = [0 if len(files) == 1 else None]

    def at(place: int) -> None:
        """Tells the parent which file is being read: its clock starts again, and it can name the file of a crash."""
        current[0] = place
        _say(answers, {"at": place})

    try:
        return _operation(str(request["op"]))(request, files, limits, key, folder, at)
    except Refusal as refusal:
        place = refusal.file if refusal.file is not None else current[0]
        return {"refused": refusal.what, "hint": refusal.hint, "file": place}
    except MemoryError:
        what = f"asks for more than {limits.memory >> 20:,} MiB of memory: stopped"
        return {"refused": what, "hint": "it may be a bomb", "file": current[0], "last": True}
    except RecursionError:
        return {"refused": "has sequences nested too deeply", "hint": "", "file": current[0], "last": True}
    except PermissionError as error:
        if error.errno is None:  # the fence
            what = "tried something that reading an image never needs: stopped"
            return {"refused": what, "hint": "do not trust it", "file": current[0], "last": True}
        return {"refused": "may not be read (permissions)", "hint": "", "file": current[0]}
    except OSError as error:
        return {"refused": f"cannot be read: {error.strerror or 'error'}", "hint": "", "file": current[0]}
    except Exception as error:  # noqa: BLE001 - a parser's own text may quote the header: only the kind is said
        what = f"cannot be parsed ({type(error).__name__} in {_place(error)})"
        return {"refused": what, "hint": "is it complete? export or copy it again", "file": current[0]}


def _operation(name: str) -> Callable[..., Answer]:
    if name == "dicom":
        from edgeft.medical.dicom.reading import read_series

        return read_series
    if name == "nifti":
        return _read_nifti
    if name == "mask":
        from edgeft.medical.masks import read_mask

        return read_mask
    raise ValueError(name)


def _read_nifti(
    request: Mapping[str, Any],
    files: Sequence[Path],
    limits: Limits,
    key: bytes,
    folder: Path,
    at: Callable[[int], None],
) -> Answer:
    from edgeft.medical.frames import FrameWriter
    from edgeft.medical.nifti import open_nifti, read_frames

    with open_nifti(files[0], limits) as image:
        writer = FrameWriter(folder, image.shape, small=image.integral)
        for frame in read_frames(image):
            writer.add(frame, image.integral)
        rounded = ["whole numbers above 16,777,216 were rounded to float32"] if writer.rounded else []
        return {
            "npy": writer.close().name, "shape": image.shape, "affine": image.affine.tolist(), "spacing": image.spacing,
            "inverted": False, "modality": "", "unit": "", "patient": "", "facts": {}, "order": None,
            "warnings": [*image.warnings, *rounded],
        }  # fmt: skip


def _place(error: BaseException) -> str:
    """Module and line where an exception was raised: enough to report it, and no value."""
    trace, place = error.__traceback__, "?"
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__", "?"))
        place, trace = f"{name}:{trace.tb_lineno}", trace.tb_next
    return place


def _say(answers: TextIO, answer: Answer) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
