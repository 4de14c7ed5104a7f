"""Write a segmentation or a report beside its source: the parent's half, which parses no DICOM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError
from edgeft.medical.codes import LabelCode
from edgeft.medical.dicom_out.child import ANSWER, MASK, OBJECT, REQUEST
from edgeft.medical.dicom_out.origin import Origin
from edgeft.medical.limits import Limits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.medical.dicom_out.sr import Finding

BASE_BYTES, BYTES_PER_HEADER = 1 << 30, 1 << 20
BASE_SECONDS, SECONDS_PER_IMAGE = 120.0, 2.0
"""Generous: a report of 200 images takes about 15 s of one core, and other programs may need it, too."""
DRAFT = ".edgeft-"
"""How the folder's name begins that an object is written in; a killed run leaves it."""
LARGEST, FINDING = 64 << 20, 64 << 10
"""Bytes that an object may have beyond its masks, and for each finding."""
COPIES = 24
"""How often a mask is held while it is packed: bits as bytes, per segment and per frame."""
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); from edgeft.medical.dicom_out import child; child.main(sys.argv[2])"
)


@dataclass(frozen=True)
class Source:
    """The images an object is derived from: files in the order of the volume's slices, and where the volume lies.

    affine: (slice, row, column, 1) -> mm, LPS; None for images without a position.
    """

    files: Sequence[Path]
    affine: NDArray[np.float64] | None


@dataclass(frozen=True)
class Written:
    """path: of the object. instance: its SOP Instance UID. frames: of a segmentation. notes: what was left out."""

    path: Path
    instance: str
    frames: int
    notes: tuple[str, ...] = ()


def write_segmentation(
    mask: NDArray[np.uint8], source: Source, labels: Mapping[str, LabelCode], origin: Origin, folder: Path
) -> Written:
    """FOLDER/seg-UID.dcm. mask: (slices, rows, columns) on the source's grid; labels: without the background.

    StepError where DICOM cannot say it or the source cannot be read; nothing is left in `folder` then.
    """
    request = {"kind": "segmentation", "findings": []}
    return _write(request, mask, source, labels, origin, folder)


def write_report(
    findings: Sequence[Finding], source: Source, labels: Mapping[str, LabelCode], origin: Origin, folder: Path
) -> Written:
    """FOLDER/sr-UID.dcm, one finding per slice of the source; StepError as above."""
    rows = [{"label": row.label, "probabilities": dict(row.probabilities)} for row in findings]
    return _write({"kind": "classification", "findings": rows}, None, source, labels, origin, folder)


def _write(
    request: Mapping[str, Any],
    mask: NDArray[np.uint8] | None,
    source: Source,
    labels: Mapping[str, LabelCode],
    origin: Origin,
    folder: Path,
) -> Written:
    size, count = 0 if mask is None else mask.nbytes, len(source.files)
    memory = BASE_BYTES + COPIES * size + BYTES_PER_HEADER * count
    whole = {
        **request,
        "files": [str(path.absolute()) for path in source.files],
        "affine": None if source.affine is None else source.affine.tolist(),
        "labels": [[label, code.to_json()] for label, code in labels.items()],
        "origin": origin.to_json(),
        "limits": Limits().to_dict(),
        "memory": memory,
        "largest": LARGEST + 2 * size * len(labels) + FINDING * len(request["findings"]),
    }
    try:
        # On the same disk, so that the last step is one new name: whoever looks sees no object, or a whole one.
        beside = folder if folder.exists() else folder.parent
        beside.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=DRAFT, dir=beside) as private:
            work = Path(private).resolve()
            if mask is not None:
                _save_mask(work / MASK, mask)
            (work / REQUEST).write_text(json.dumps(whole), encoding="utf-8")
            images = max(count, len(request["findings"]))
            answer = _run_child(work, BASE_SECONDS + SECONDS_PER_IMAGE * images + size / 1e6, source)
            kind = "seg" if mask is not None else "sr"
            path = folder / f"{kind}-{answer['instance']}.dcm"
            folder.mkdir(exist_ok=True)
            _put(work / OBJECT, path)
    except OSError as error:
        raise StepError(f"cannot be written: {error.strerror or error}", where=str(folder)) from error
    notes = () if answer["listed"] else ("the images lack attributes of an image list: it was left out",)
    return Written(path, str(answer["instance"]), int(answer["frames"]), notes)


def _save_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    import numpy as np

    np.save(path, np.ascontiguousarray(mask, np.uint8), allow_pickle=False)


def _put(draft: Path, path: Path) -> None:
    """Give a finished draft its name; FileExistsError where that is taken: nothing is ever overwritten."""
    with draft.open("rb+") as stream:
        os.fsync(stream.fileno())
    try:
        os.link(draft, path)  # fails where the name is taken, as a rename does not
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links (FAT, some shares)
        if path.exists():
            raise FileExistsError(f"{path.name} is there already") from None
        draft.rename(path)


def _run_child(work: Path, seconds: float, source: Source) -> dict[str, Any]:
    """answer.json of the child; StepError in its words, with the file it names."""
    keep = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "TEMP", "TMP")
    environment = {name: os.environ[name] for name in keep if name in os.environ} | {"OMP_NUM_THREADS": "1"}
    # -I: no PYTHON* variables, no user site, no current folder.
    command = [sys.executable, "-I", "-B", "-c", _PROGRAM, str(Path(__file__).resolve().parents[3]), str(work)]
    where = str(source.files[0].parent)
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise StepError(f"was not written within {seconds:.0f} seconds: stopped", where=where) from None
    try:
        answer: dict[str, Any] = json.loads((work / ANSWER).read_bytes())
    except (OSError, ValueError):
        if b"No module named" in done.stderr:
            what = "pydicom and highdicom are needed to write DICOM"
            raise StepError(what, where=where, hint="pip install 'edgeft[medical]'") from None
        # Its last line may quote the header: the exit code must do.
        what = f"the child process that writes ended early (exit code {done.returncode})"
        raise StepError(what, where=where, hint="it may need more memory than this machine has") from None
    if "refused" in answer:
        place = answer.get("file")
        file = source.files[place].name if isinstance(place, int) and 0 <= place < len(source.files) else where
        raise StepError(str(answer["refused"]), where=file, hint=str(answer.get("hint", "")))
    return answer
