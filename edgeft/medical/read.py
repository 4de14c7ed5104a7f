"""Medical images and masks to arrays: every file is parsed in a child process under limits on memory and time.

DICOM: a file or a folder with one series. NIfTI: .nii and .nii.gz. What a file may ask for is `Limits`; what is refused
is a StepError that names the file, relative to `root`, and says what to do. No error, warning or Volume holds a value
that may identify a patient; a file's own name is shown, so name no file after one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from edgeft.errors import RecipeError, StepError
from edgeft.medical.key import pseudonym_key
from edgeft.medical.limits import Limits
from edgeft.medical.process import Child, require
from edgeft.medical.volume import Volume

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NIFTI = (".nii", ".nii.gz")
_NEEDS = {
    "nifti": ("nibabel", "reading NIfTI"),
    "png": ("PIL", "reading PNG"),
    "seg": ("pydicom", "reading DICOM"),
}
Warn = Callable[[str], None]


@dataclass(frozen=True)
class Reading:
    """How files are read. series: UID, description or number, where a folder holds several.

    colour: grey turns RGB and palette images to grey (ITU-R BT.601). uneven: accept takes missing slices and uneven
    distances, for slices used one by one. root: folder that names in messages are relative to.
    """

    series: str = ""
    colour: Literal["refuse", "grey"] = "refuse"
    uneven: Literal["refuse", "accept"] = "refuse"
    root: Path | None = None


class Reader:
    """Reads any number of files with one child process, started at the first and again after a crash.

    limits: see `Limits`; None: the defaults. key: for pseudonyms of Patient IDs; None: `pseudonym_key()`.
    """

    def __init__(self, limits: Limits | None = None, reading: Reading | None = None, key: bytes | None = None) -> None:
        self.limits, self.reading = limits or Limits(), reading or Reading()
        self.child = Child(self.limits, pseudonym_key() if key is None else key)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.child.close()

    def read(self, path: Path) -> Volume:
        """The image in a file or folder. RecipeError for a path that is not there, StepError for what is refused."""
        if not path.exists():
            raise RecipeError("there is no such file or folder", where=show(path, self.reading.root))
        if path.is_dir():
            return self._read_dicom(path, self._listed(path), folder=True)
        if not path.is_file():
            raise RecipeError("is neither a file nor a folder", where=show(path, self.reading.root))
        if path.name.lower().endswith(NIFTI):
            return self._read_nifti(path)
        return self._read_dicom(path, [path], folder=False)

    def read_mask(self, path: Path, volume: Volume, labels: Sequence[str], threshold: float = 0.5) -> NDArray[np.uint8]:
        """The mask of an image: uint8 (slices, rows, columns) on the image's own grid, its values places in `labels`.

        DICOM SEG: segments by label or number; threshold: the fraction from which a pixel of a fractional one counts.
        NIfTI and PNG: values are places in `labels`; two labels may also be 0 and 255 in a PNG. StepError where the
        grid does not fit, segments overlap, or the file is another thing.
        """
        where = show(path, self.reading.root)
        if not path.is_file():
            raise RecipeError("there is no such file", where=where)
        if not 2 <= len(labels) <= 255 or not 0 < threshold <= 1:
            raise RecipeError("masks need 2 to 255 labels, the background first, and a threshold above 0", where=where)
        name = path.name.lower()
        kind = "nifti" if name.endswith(NIFTI) else "png" if name.endswith(".png") else "seg"
        require(*_NEEDS[kind])
        files = [path]
        if kind == "seg" and not volume.files[0].name.lower().endswith(NIFTI):
            files += dict.fromkeys(volume.files)
        request = {
            "op": "mask", "kind": kind, "shape": volume.values.shape, "affine": volume.affine.tolist(),
            "labels": list(labels), "threshold": threshold,
        }  # fmt: skip
        _, values = self.child.ask(request, files, [*(show(file, self.reading.root) for file in files), where])
        if values.dtype.str != "|u1" or values.shape != volume.values.shape:
            raise StepError("the process that read it gave no mask", where=where)
        return cast("NDArray[np.uint8]", values)

    def _listed(self, folder: Path) -> list[Path]:
        files = sorted(entry for entry in folder.rglob("*") if entry.is_file())
        where = show(folder, self.reading.root)
        if not files:
            raise StepError("the folder is empty", where=where)
        if len(files) > self.limits.files:
            what = f"the folder holds {len(files):,} files; the limit is {self.limits.files:,}"
            raise StepError(what, where=where, hint="one folder for each series")
        return files

    def _read_dicom(self, path: Path, files: Sequence[Path], folder: bool) -> Volume:
        require("pydicom", "reading DICOM")
        request = {
            "op": "dicom", "folder": folder, "series": self.reading.series, "colour": self.reading.colour,
            "uneven": self.reading.uneven,
        }  # fmt: skip
        shown = [show(file, self.reading.root) for file in files]
        answer, values = self.child.ask(request, files, [*shown, show(path, self.reading.root)])
        return self._volume(answer, values, tuple(files[place] for place in answer["order"]) if folder else (path,))

    def _read_nifti(self, path: Path) -> Volume:
        require("nibabel", "reading NIfTI")
        answer, values = self.child.ask({"op": "nifti"}, [path], [show(path, self.reading.root)])
        return self._volume(answer, values, (path,))

    def _volume(self, answer: Mapping[str, Any], values: Any, files: tuple[Path, ...]) -> Volume:
        import numpy as np

        first, second, third = (float(length) for length in answer["spacing"])
        return Volume(
            values=values,
            spacing=(first, second, third),
            affine=np.asarray(answer["affine"], np.float64).reshape(4, 4),
            inverted=bool(answer["inverted"]),
            modality=str(answer["modality"]),
            unit=str(answer["unit"]),
            patient=str(answer["patient"]),
            facts=dict(answer["facts"]),
            files=files,
            warnings=(*map(str, answer["warnings"]), *self._unlimited()),
        )

    def _unlimited(self) -> list[str]:
        """On systems that do not limit a process as Linux does: what stands there instead."""
        lacking = " and ".join(self.child.unlimited)
        rest = "the checks before decoding and the time limit hold"
        return [f"this system does not limit the {lacking} of the process that parses: {rest}"] if lacking else []


def read_volume(path: Path, limits: Limits | None = None, reading: Reading | None = None) -> Volume:
    """One image: a DICOM file, a folder with one DICOM series, .nii or .nii.gz. For many, `read_many` or `Reader`."""
    with Reader(limits, reading) as reader:
        return reader.read(Path(path))


def read_mask(
    path: Path, volume: Volume, labels: Sequence[str], limits: Limits | None = None, reading: Reading | None = None
) -> NDArray[np.uint8]:
    """One mask, as `Reader.read_mask` gives it."""
    with Reader(limits, reading) as reader:
        return reader.read_mask(Path(path), volume, labels)


def read_many(
    paths: Iterable[Path],
    limits: Limits | None = None,
    reading: Reading | None = None,
    *,
    on_unreadable: Literal["stop", "skip"] = "stop",
    warn: Warn = lambda _: None,
) -> Iterator[tuple[Path, Volume]]:
    """(path, image) of each path, one at a time, with one child process for all.

    on_unreadable: stop raises the StepError of the first file that is refused; skip tells `warn` and goes on.
    """
    with Reader(limits, reading) as reader:
        for path in paths:
            try:
                volume = reader.read(Path(path))
            except StepError as error:
                if on_unreadable == "stop":
                    raise
                warn(f"skipped {error.where}: {error.what}")
                continue
            yield Path(path), volume


def show(path: Path, root: Path | None) -> str:
    """A path as messages show it: relative to `root`, without characters that a terminal would obey."""
    try:
        short = path.relative_to(root) if root is not None else path
    except ValueError:
        short = Path(path.name)
    text = short.as_posix()
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)
