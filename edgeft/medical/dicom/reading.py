"""A DICOM file or series to values in modality units: headers first, then the pixels of the slices in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from edgeft.medical.dicom.opened import is_dicom, open_dicom
from edgeft.medical.dicom.pixels import check_syntax, decode_frames
from edgeft.medical.dicom.series import Stack, choose_series, stack_slices
from edgeft.medical.dicom.slices import Entry, pixel_form, read_slices
from edgeft.medical.dicom.values import text
from edgeft.medical.facts import burned_in_warning, pseudonym, read_facts, read_unit
from edgeft.medical.frames import FrameWriter
from edgeft.medical.limits import Limits, Refusal

SUFFIXES = (".dcm", ".dicom", ".ima")
NO_IMAGES = ("SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "REG", "SEG", "ECG")
_MEDIA_DIRECTORY = "DICOMDIR"


def read_series(
    request: Mapping[str, Any],
    files: Sequence[Path],
    limits: Limits,
    key: bytes,
    folder: Path,
    at: Callable[[int], None],
) -> dict[str, Any]:
    """The answer to a request of op "dicom": values in a .npy file, the rest as JSON."""
    entries, warnings = read_entries(files, limits, key, at, folder_of_files=bool(request["folder"]))
    chosen = choose_series(entries, str(request["series"])) if request["folder"] else entries
    stack = stack_slices(chosen, limits, uneven=request["uneven"] == "accept")
    first = chosen[0]
    check_syntax(first.syntax)
    writer = FrameWriter(folder, (len(stack.slices), first.form.rows, first.form.columns), _maybe_small(chosen))
    write_values(chosen, stack, files, limits, str(request["colour"]), writer, at)
    if writer.rounded:
        warnings.append("whole numbers above 16,777,216 were rounded to float32")
    facts = dict(first.facts)
    for entry in chosen[1:]:
        facts = {name: value for name, value in facts.items() if entry.facts.get(name) == value}
    return {
        "npy": writer.close().name, "shape": writer.shape, "affine": stack.affine.tolist(), "spacing": stack.spacing,
        "inverted": first.form.photometric == "MONOCHROME1", "modality": first.modality, "unit": first.unit,
        "patient": first.patient, "facts": facts, "order": [item.file for item in stack.slices],
        "warnings": [*warnings, *stack.warnings],
    }  # fmt: skip


def read_entries(
    files: Sequence[Path], limits: Limits, key: bytes, at: Callable[[int], None], folder_of_files: bool
) -> tuple[list[Entry], list[str]]:
    """Headers of all files. In a folder, what is no image is passed over and counted in a warning."""
    entries: list[Entry] = []
    passed = 0
    for place, path in enumerate(files):
        at(place)
        if folder_of_files and _is_beside(path):
            passed += 1
            continue
        entry = read_entry(path, place, limits, key, image_only=not folder_of_files)
        if entry is None:
            passed += 1
        else:
            entries.append(entry)
    if not entries:
        raise Refusal("holds no DICOM image", "DICOM files begin with 128 bytes and DICM, whatever their names")
    return entries, [f"{passed} files of the folder are no images and were passed over"] if passed else []


def read_entry(path: Path, place: int, limits: Limits, key: bytes, image_only: bool = True) -> Entry | None:
    """One header. None for a report, a segmentation and the like, unless `image_only`: then it is refused."""
    with open_dicom(path, limits) as opened:
        header = opened.header
        modality = text(header, "Modality")
        if not image_only and (modality in NO_IMAGES or not opened.found.tag):
            return None
        if modality == "SEG":
            raise Refusal("is a DICOM SEG: a mask, not an image", "name it as the mask of an image")
        form = pixel_form(opened, limits)
        facts = read_facts(header)
        series = (text(header, "SeriesInstanceUID"), text(header, "SeriesDescription"), text(header, "SeriesNumber"))
        burned = burned_in_warning(facts)
        return Entry(
            place, form, read_slices(opened, form, place), opened.syntax, str(facts.get("modality", "")),
            read_unit(header, modality), series, pseudonym(text(header, "PatientID"), key), facts,
            [burned] if burned else [],
        )  # fmt: skip


def write_values(
    entries: Sequence[Entry], stack: Stack, files: Sequence[Path], limits: Limits, colour: str, writer: FrameWriter,
    at: Callable[[int], None],
) -> None:  # fmt: skip
    """Decode every slice in the stack's order; a file is opened once for its run of slices."""
    forms = {entry.file: entry.form for entry in entries}
    for place, run in groupby(stack.slices, key=lambda item: item.file):
        at(place)
        with open_dicom(files[place], limits) as opened:
            form = pixel_form(opened, limits)
            if form != forms[place]:
                raise Refusal("changed while it was read")
            for values, integral in decode_frames(opened, form, list(run), colour):
                writer.add(values, integral)


def _maybe_small(entries: Sequence[Entry]) -> bool:
    """False where the headers alone say that int16 does not do: no file is written twice then."""
    whole = all(item.slope.is_integer() and item.intercept.is_integer() for entry in entries for item in entry.slices)
    return whole and all(entry.form.kind == "int" for entry in entries)


def _is_beside(path: Path) -> bool:
    """A file that lies among images and is none: hidden, the media directory, or no DICOM by name and content."""
    if path.name.startswith(".") or path.name.upper() == _MEDIA_DIRECTORY:
        return True
    return path.suffix.lower() not in SUFFIXES and not is_dicom(path)
