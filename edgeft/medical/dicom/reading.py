"""A DICOM file or series to values in modality units: headers first, then the pixels of the slices in their order."""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from pathlib import Path
from typing import Any

from edgeft.medical.dicom.opened import Opened, is_dicom, open_dicom
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
At = Callable[[int], None]
Reopen = Callable[[int], AbstractContextManager[Opened]]


def read_series(
    request: Mapping[str, Any], files: Sequence[Path], limits: Limits, key: bytes, folder: Path, at: At
) -> dict[str, Any]:
    """The answer to a request of op "dicom": values in a .npy file, the rest as JSON."""
    if not request["folder"]:
        with open_dicom(files[0], limits) as opened:
            entry = describe(opened, 0, limits, key)
            return _read([entry], [], request, limits, folder, lambda _: nullcontext(opened))

    def reopen(place: int) -> AbstractContextManager[Opened]:
        at(place)
        return open_dicom(files[place], limits)

    entries, warnings = read_entries(files, limits, key, at)
    return _read(choose_series(entries, str(request["series"])), warnings, request, limits, folder, reopen)


def read_entries(
    files: Sequence[Path], limits: Limits, key: bytes, at: At, images_only: bool = False
) -> tuple[list[Entry], list[str]]:
    """Headers of all files. What is no image is passed over and counted in a warning, or refused if `images_only`."""
    entries: list[Entry] = []
    passed, copies = 0, 0
    first: dict[str, int] = {}
    for place, path in enumerate(files):
        at(place)
        if not images_only and _is_beside(path):
            passed += 1
            continue
        with open_dicom(path, limits) as opened:
            if not images_only and not _is_image(opened):
                passed += 1
                continue
            entry = describe(opened, place, limits, key)
        uid = entry.slices[0].uid
        if uid in first and filecmp.cmp(path, files[first[uid]], shallow=False):
            copies += 1
            continue
        first.setdefault(uid, place)
        entries.append(entry)
    if not entries:
        raise Refusal("holds no DICOM image", "DICOM files begin with 128 bytes and DICM, whatever their names")
    counts = {"no images": passed, "copies of others": copies}
    return entries, [f"files passed over because they are {what}: {count}" for what, count in counts.items() if count]


def describe(opened: Opened, place: int, limits: Limits, key: bytes) -> Entry:
    """What is needed of one header; Refusal where it is no image or makes no sense."""
    header = opened.header
    modality = text(header, "Modality")
    if modality == "SEG":
        raise Refusal("is a DICOM SEG: a mask, not an image", "name it as the mask of an image")
    form = pixel_form(opened, limits)
    facts = read_facts(header)
    burned = burned_in_warning(facts)
    return Entry(
        file=place,
        form=form,
        slices=read_slices(opened, form, place),
        syntax=opened.syntax,
        modality=str(facts.get("modality", "")),
        unit=read_unit(header, modality),
        series=(text(header, "SeriesInstanceUID"), text(header, "SeriesDescription"), text(header, "SeriesNumber")),
        patient=pseudonym(text(header, "PatientID"), key),
        facts=facts,
        warnings=[burned] if burned else [],
    )


def _read(
    entries: Sequence[Entry],
    warnings: Sequence[str],
    request: Mapping[str, Any],
    limits: Limits,
    folder: Path,
    reopen: Reopen,
) -> dict[str, Any]:
    stack = stack_slices(entries, limits, uneven=request["uneven"] == "accept")
    first = entries[0]
    check_syntax(first.syntax)
    writer = FrameWriter(folder, (len(stack.slices), first.form.rows, first.form.columns), _maybe_small(entries))
    _write_values(entries, stack, limits, str(request["colour"]), writer, reopen)
    rounded = ["whole numbers above 16,777,216 were rounded to float32"] if writer.rounded else []
    return {
        "npy": writer.close().name,
        "shape": writer.shape,
        "affine": stack.affine.tolist(),
        "spacing": stack.spacing,
        "inverted": first.form.photometric == "MONOCHROME1",
        "modality": first.modality,
        "unit": first.unit,
        "patient": first.patient,
        "facts": _shared_facts(entries),
        "order": [item.file for item in stack.slices],
        "warnings": [*warnings, *rounded, *stack.warnings],
    }


def _write_values(
    entries: Sequence[Entry], stack: Stack, limits: Limits, colour: str, writer: FrameWriter, reopen: Reopen
) -> None:
    """Decode every slice in the stack's order; a file is opened once for its run of slices."""
    forms = {entry.file: entry.form for entry in entries}
    for place, run in groupby(stack.slices, key=lambda item: item.file):
        with reopen(place) as opened:
            if pixel_form(opened, limits) != forms[place]:
                raise Refusal("changed while it was read")
            for values, integral in decode_frames(opened, forms[place], list(run), colour):
                writer.add(values, integral)


def _shared_facts(entries: Sequence[Entry]) -> dict[str, Any]:
    """Facts that all files of a series state alike."""
    facts = dict(entries[0].facts)
    for entry in entries[1:]:
        facts = {name: value for name, value in facts.items() if entry.facts.get(name) == value}
    return facts


def _maybe_small(entries: Sequence[Entry]) -> bool:
    """False where the headers alone say that int16 does not do: no file is written twice then."""
    whole = all(item.slope.is_integer() and item.intercept.is_integer() for entry in entries for item in entry.slices)
    return whole and all(entry.form.kind == "int" for entry in entries)


def _is_image(opened: Opened) -> bool:
    return bool(opened.found.tag) and text(opened.header, "Modality") not in NO_IMAGES


def _is_beside(path: Path) -> bool:
    """A file that lies among images and is none: hidden, the media directory, or no DICOM by name and content."""
    if path.name.startswith(".") or path.name.upper() == _MEDIA_DIRECTORY:
        return True
    return path.suffix.lower() not in SUFFIXES and not is_dicom(path)
