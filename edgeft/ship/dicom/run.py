"""`edgeft run --dicom`: a series in, a DICOM segmentation or report out, each step checked before the next."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import RecipeError, StepError
from edgeft.medical.codes import MAX_CODES_BYTES, LabelCode, code_labels, fit, read_codes
from edgeft.medical.dicom_out.origin import Origin, Qualification
from edgeft.medical.dicom_out.write import DRAFT, Source, Written, write_report, write_segmentation
from edgeft.ship.bundle import Bundle, BundleError
from edgeft.ship.dicom.answer import Answering, OnSlices, find_slices, mask_volume, open_answering
from edgeft.ship.postprocess import read_codes_of, read_thresholds
from edgeft.ship.verify import MANIFEST, NOT_SHIPPED

if TYPE_CHECKING:
    from edgeft.medical.volume import Volume

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What the command line says. series: which of several, by number, description or UID. force: write into a folder
    that holds something; what is there stays as it is."""

    source: Path
    out: Path
    series: str = ""
    codes: Path | None = None
    manufacturer: str = "edgeft"
    qualification: Qualification = "RESEARCH"
    force: bool = False


@dataclass(frozen=True)
class Answer:
    """What was written. shares: label -> share of the volume's pixels, of a segmentation. findings: of a report."""

    written: Written
    slices: int
    shares: Mapping[str, float] = field(default_factory=dict)
    findings: Sequence[Mapping[str, Any]] = ()


def run_dicom(bundle: Bundle, wanted: Wanted, tell: OnSlices, warn: Warn) -> Answer:
    """Write one object into `wanted.out`. EdgeftError says what is refused, and nothing is left behind then."""
    check_out(wanted.out, wanted.force)
    answering = open_answering(bundle)
    thresholds = read_thresholds(bundle.folder)
    codes = label_codes(answering, read_codes_of(bundle.folder), wanted.codes, warn)
    origin = origin_of(bundle, wanted, thresholds)
    check_answers(bundle)
    volume = read_source(wanted, warn)
    check_takes(bundle, volume)
    source = Source(tuple(dict.fromkeys(volume.files)), volume.affine)
    if answering.dense:
        mask = mask_volume(answering, volume, tell)
        written = write_segmentation(mask, source, codes, origin, wanted.out)
        answer = Answer(written, len(mask), shares=_shares(mask, answering.labels))
        if not any(answer.shares.values()):
            warn("no pixel has a label other than the background: every segment is empty")
    else:
        found = find_slices(answering, volume, thresholds, tell)
        written = write_report(found, source, codes, origin, wanted.out)
        rows = [{"label": row.label, "probabilities": dict(row.probabilities)} for row in found]
        answer = Answer(written, len(found), findings=rows)
    for note in written.notes:
        warn(note)
    return answer


def check_out(out: Path, force: bool) -> None:
    """RecipeError for an output folder that is a file, cannot be written to, or holds anything unless `force`."""
    if out.exists() and not out.is_dir():
        raise RecipeError("is no folder", where="--out", hint="name a folder; the object's file gets its own name")
    try:
        held = [path.name for path in out.iterdir() if not path.name.startswith(DRAFT)] if out.exists() else []
    except OSError as error:
        raise RecipeError(f"cannot be read: {error.strerror}", where="--out") from error
    place = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not os.access(place, os.W_OK):
        raise RecipeError(f"{place} cannot be written to", where="--out", hint="name another folder")
    if held and not force:
        hint = "name an empty folder, or write beside them with --force"
        count = "a file" if len(held) == 1 else f"{len(held)} files"
        raise RecipeError(f"{out} holds {count} already", where="--out", hint=hint)


def label_codes(
    answering: Answering, stated: Mapping[str, LabelCode], file: Path | None, warn: Warn
) -> dict[str, LabelCode]:
    """Label -> code, of the labels that the object names: those of a mask without the background.

    The file's codes come before the bundle's own; a label with neither gets a private code, and a warning says so.
    """
    labels, where = answering.labels, f"--codes {file}"
    if file is not None:
        try:
            with file.open("rb") as stream:
                raw = stream.read(MAX_CODES_BYTES + 1)
        except OSError as error:
            hint = "give a JSON file, label -> code"
            raise RecipeError(f"cannot be read: {error.strerror}", where=where, hint=hint) from error
        stated = {**stated, **read_codes(raw, labels, where)}
    found = code_labels(labels[1:] if answering.dense else labels, stated)
    if private := [label for label, code in found.items() if code.private]:
        warn(
            f"no code is stated for {', '.join(private[:10])}: other systems see a private code (99EDGEFT) and the word"
        )
    return found


def origin_of(bundle: Bundle, wanted: Wanted, thresholds: Mapping[str, float]) -> Origin:
    """Algorithm identification: the bundle's name, and the SHA-256 of its manifest, which covers every file of it."""
    from edgeft import __version__
    from edgeft.canonical import digest_file

    manifest = bundle.manifest
    parameters = {
        "candidate": str(manifest.get("candidate", "")), "runtime": manifest["runtime"],
        "device": str(manifest.get("device", "")), "artifact": str(manifest.get("artifact_digest", ""))[:16],
        **{f"threshold {label}": f"{least:.6g}" for label, least in thresholds.items()},
    }  # fmt: skip
    try:
        return Origin(
            name=fit(str(manifest.get("name", ""))) or "edgeft bundle",
            version=digest_file(bundle.folder / MANIFEST),
            manufacturer=wanted.manufacturer,
            software=(f"edgeft {__version__}", fit(f"bundle made by edgeft {manifest.get('edgeft', '?')}")),
            parameters={_parameter(name): _parameter(text) for name, text in parameters.items() if text},
            qualification=wanted.qualification,
            released=not (bundle.folder / NOT_SHIPPED).exists(),
        )
    except ValueError as error:
        raise RecipeError(str(error), where="--manufacturer", hint="a short name, as DICOM's LO takes it") from error


def _parameter(text: str) -> str:
    """Without what separates parameters in a segmentation."""
    return fit(text).replace(",", " ").replace("=", " ")


def check_answers(bundle: Bundle) -> None:
    """BundleError where this machine's runtime does not answer the bundle's golden cases as it did when built."""
    from edgeft.ship.verify_golden import check_golden

    found = check_golden(bundle.folder, bundle.manifest)
    if found.verdict in ("fail", "open"):
        hint = "`edgeft verify` shows the checks; on this machine the bundle is not what was gated"
        raise BundleError(f"golden cases: {found.said}", where=str(bundle.folder), hint=hint)


def read_source(wanted: Wanted, warn: Warn) -> Volume:
    """The series, read in a child process. Its warnings are told, and no pseudonym key of a store is made or used."""
    from edgeft.medical.read import Reader, Reading

    root = wanted.source if wanted.source.is_dir() else wanted.source.parent
    if not wanted.source.exists():
        raise RecipeError("there is no such file or folder", where="--dicom", hint="give a DICOM file or a folder")
    with Reader(reading=Reading(series=wanted.series, root=root), key=secrets.token_bytes(32)) as reader:
        volume = reader.read(wanted.source)
    if not volume.modality:
        raise StepError("is no DICOM image with a modality", where="--dicom", hint="NIfTI has no patient to refer to")
    for text in volume.warnings:
        warn(text)
    return volume


def check_takes(bundle: Bundle, volume: Volume) -> None:
    """RecipeError for images of another kind than the recipe expected (data.expect), as preprocess.json states it."""
    from edgeft.tasks.image_spec import PREPROCESS
    from edgeft.tasks.tokenizer import read_json

    stated = read_json(bundle.folder / PREPROCESS).get("takes", {})
    try:
        faults = list(_differences(stated, volume))
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        where = str(bundle.folder / PREPROCESS)
        raise BundleError("what it takes is damaged", where=where, hint="copy the bundle again") from error
    if faults:
        hint = "what it answers to others was never measured (data.expect of its recipe)"
        raise RecipeError(f"the bundle does not take these images: {faults[0]}", where="--dicom", hint=hint)


def _differences(stated: Mapping[str, Any], volume: Volume) -> Iterator[str]:
    if (kinds := stated.get("modalities")) and volume.modality not in kinds:
        yield f"they are {volume.modality}, it takes {' or '.join(kinds)}"
    shape = volume.values.shape[1:]
    if (sizes := stated.get("shape")) and any(
        want not in (None, have) for want, have in zip(sizes, shape, strict=True)
    ):
        wanted = " x ".join("any" if size is None else str(size) for size in sizes)
        yield f"they have {shape[0]} x {shape[1]} pixels, it takes {wanted}"
    if span := stated.get("spacing"):
        mm = volume.spacing[1:]
        if not span[0] <= min(mm) <= max(mm) <= span[1]:
            yield f"their pixels are {mm[0]:.4g} x {mm[1]:.4g} mm apart, it takes {span[0]:g} to {span[1]:g} mm"
    if span := stated.get("range"):
        low, high = float(volume.values.min()), float(volume.values.max())
        if not span[0] <= low <= high <= span[1]:
            yield f"their values go from {low:g} to {high:g}, it takes {span[0]:g} to {span[1]:g}"


def _shares(mask: Any, labels: Sequence[str]) -> dict[str, float]:
    """Label -> share of all pixels, the background left out."""
    import numpy as np

    counts = np.bincount(mask.ravel(), minlength=len(labels))
    return {label: float(counts[place] / mask.size) for place, label in enumerate(labels) if place}
