"""Writes one object: what `write.py` starts in a child process, because source files are parsed for it.

The work folder holds request.json and mask.npy; object.dcm and answer.json are written there, nothing elsewhere.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.confined import fence, set_limits
from edgeft.medical.codes import LabelCode
from edgeft.medical.dicom_out.origin import Origin
from edgeft.medical.limits import Limits, Refusal

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

REQUEST, MASK, OBJECT, ANSWER = "request.json", "mask.npy", "object.dcm", "answer.json"


def main(work: str) -> None:
    """Write, and say what became of it in answer.json. work: the folder."""
    folder = Path(work)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")  # pydicom's quote values of the header
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    _import_writers()
    limits = Limits.from_dict(request["limits"])
    set_limits(int(request["memory"]), int(request["largest"]))
    ours = {str(folder / name) for name in (OBJECT, ANSWER)}
    fence(lambda path: path in ours)
    try:
        answer = _write(folder, request, limits)
    except Refusal as refusal:
        answer = {"refused": refusal.what, "hint": refusal.hint, "file": refusal.file}
    except (MemoryError, RecursionError) as error:
        answer = {"refused": f"asks for more than is allowed ({type(error).__name__})", "hint": "", "file": None}
    except OSError as error:
        answer = {"refused": f"cannot be written: {error.strerror or 'error'}", "hint": "", "file": None}
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        # The library's words may quote the header, which names a patient: the kind and the place must do.
        answer = {"refused": f"no object can be derived from these images: {_place(error)}", "hint": "", "file": None}
    (folder / ANSWER).write_text(json.dumps(answer), encoding="utf-8")


def _import_writers() -> None:
    """Everything is loaded before the limits and the fence stand."""
    import highdicom  # noqa: F401
    import numpy  # noqa: F401  noqa: ICN001
    import pydicom.encoders
    import pydicom.sr.codedict  # noqa: F401


def _write(folder: Path, request: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    import numpy as np
    from pydicom import config

    from edgeft.medical.dicom_out.headers import read_headers
    from edgeft.medical.dicom_out.seg import make_segmentation
    from edgeft.medical.dicom_out.sr import Finding, make_report

    # What is copied from the source is written as it stands there, sound or not.
    config.settings.writing_validation_mode = config.WARN
    headers = read_headers([Path(name) for name in request["files"]], limits)
    affine = None if request["affine"] is None else np.array(request["affine"], np.float64)
    labels = {name: LabelCode.of(row) for name, row in request["labels"]}
    origin, listed = Origin.of(request["origin"]), True
    if request["kind"] == "segmentation":
        mask = np.load(folder / MASK, allow_pickle=False)
        made = make_segmentation(headers, mask, affine, labels, origin)
    else:
        findings = [Finding(row["label"], row["probabilities"]) for row in request["findings"]]
        made, listed = make_report(headers, findings, affine, labels, origin)
    _save(made, folder / OBJECT)
    return {"instance": str(made.SOPInstanceUID), "frames": int(made.get("NumberOfFrames") or 0), "listed": listed}


def _save(made: Dataset, path: Path) -> None:
    made.save_as(path, enforce_file_format=True)


def _place(error: BaseException) -> str:
    """`ValueError in seg/sop.py, line 512`: of the innermost frame outside this package."""
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {'/'.join(Path(last.filename).parts[-2:])}, line {last.lineno}"
