"""Generated DICOM series, complete enough for a validator; synthetic, for grids that no shipped file has."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
SPACING, STEP = (1.7, 0.8), 3.0
"""mm between rows and between columns, and between slices: all three differ."""
NAME = "Müller^Grete"


def oblique() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Directions of columns, rows and slices: turned by 20 degrees about x and 14 about z, right-handed."""
    a, b = np.radians(20), np.radians(14)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    turned = about_z @ about_x
    return turned[:, 0], turned[:, 1], turned[:, 2]


def feet_first() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Columns grow to the right of the patient, rows to the front: both against LPS; slices upwards."""
    return np.array([-1.0, 0, 0]), np.array([0, -1.0, 0]), np.array([0, 0, 1.0])


def patient() -> Dataset:
    """Patient, study and equipment of a made-up person."""
    row = Dataset()
    row.SpecificCharacterSet = "ISO_IR 100"
    row.PatientName, row.PatientID, row.PatientBirthDate, row.PatientSex = NAME, "P-0815", "19600229", "F"
    row.StudyInstanceUID, row.StudyDate, row.StudyTime = generate_uid(), "20260102", "101112"
    row.StudyID, row.AccessionNumber, row.ReferringPhysicianName = "S1", "A1", "Doe^Jo"
    row.Manufacturer, row.ManufacturerModelName = "Synthetic", "Generator"
    row.SeriesInstanceUID, row.SeriesNumber, row.FrameOfReferenceUID = generate_uid(), 3, generate_uid()
    row.PositionReferenceIndicator = ""
    return row


def image(base: Mapping[Any, Any], pixels: NDArray[Any], sop_class: str, number: int) -> Dataset:
    """One image of `base`'s series: uint16 (rows, columns) or (frames, rows, columns)."""
    found = Dataset()
    found.update(base)
    found.SOPClassUID, found.SOPInstanceUID, found.InstanceNumber = sop_class, generate_uid(), number
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.Rows, found.Columns = pixels.shape[-2:]
    found.BitsAllocated, found.BitsStored, found.HighBit, found.PixelRepresentation = 16, 12, 11, 0
    found.PixelData = np.ascontiguousarray(pixels, "<u2").tobytes()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID, found.file_meta.MediaStorageSOPInstanceUID = (
        found.SOPClassUID,
        found.SOPInstanceUID,
    )
    return found


def write_ct(folder: Path, values: NDArray[np.int16], axes: Any, **changes: Any) -> list[Path]:
    """A CT series, files in the order of `values` (slices, rows, columns; HU), named and numbered in another order."""
    folder.mkdir(parents=True, exist_ok=True)
    across, down, normal = axes
    base, names = patient(), list(range(len(values)))
    random.Random(4).shuffle(names)
    files = []
    for place, plane in enumerate(values):
        item = image(base, plane.astype(np.int32) + 1024, CT, names[place] + 1)
        item.Modality, item.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        item.RescaleSlope, item.RescaleIntercept, item.RescaleType = 1, -1024, "HU"
        item.KVP, item.AcquisitionNumber = 120, 1
        item.PixelSpacing, item.SliceThickness = list(SPACING), STEP
        item.ImageOrientationPatient = [round(float(value), 9) for value in (*across, *down)]
        where = np.array([-40.0, -55.0, 12.0]) + normal * STEP * place
        item.ImagePositionPatient = [round(float(value), 6) for value in where]
        for keyword, value in changes.items():
            setattr(item, keyword, value)
        files.append(folder / f"IM{names[place]:04d}.dcm")
        item.save_as(files[-1], enforce_file_format=True)
    return files


def write_enhanced_ct(path: Path, values: NDArray[np.int16], axes: Any, order: list[int]) -> Path:
    """One multi-frame file; frame k shows slice order[k]."""
    across, down, normal = axes
    item = image(patient(), values[order].astype(np.int32) + 1024, ENHANCED_CT, 1)
    item.Modality, item.ImageType, item.NumberOfFrames = "CT", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], len(order)
    shared, measures, orientation, rescale = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(SPACING), STEP
    orientation.ImageOrientationPatient = [round(float(value), 9) for value in (*across, *down)]
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, -1024, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence = [rescale]
    item.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for place in order:
        group, position = Dataset(), Dataset()
        where = np.array([-40.0, -55.0, 12.0]) + normal * STEP * place
        position.ImagePositionPatient = [round(float(value), 6) for value in where]
        group.PlanePositionSequence = [position]
        groups.append(group)
    item.PerFrameFunctionalGroupsSequence = groups
    item.save_as(path, enforce_file_format=True)
    return path


def write_dx(path: Path, values: NDArray[np.uint16], *, inverted: bool = False, **changes: Any) -> Path:
    """A radiograph without a place in space; inverted: stored as MONOCHROME1, shown alike over the window 0 to 4095."""
    base = patient()
    del base.FrameOfReferenceUID, base.PositionReferenceIndicator
    item = image(base, 4095 - values if inverted else values, DX, 1)
    item.Modality, item.ImageType = "DX", ["ORIGINAL", "PRIMARY", ""]
    item.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    item.ImagerPixelSpacing, item.PatientOrientation = [0.2, 0.2], ["L", "F"]
    item.BurnedInAnnotation = "NO"
    for keyword, value in changes.items():
        setattr(item, keyword, value)
    item.save_as(path, enforce_file_format=True)
    return path


def set_raw(file: Path, changes: Mapping[str, str]) -> None:
    """Give attributes values as they stand, sound or not: pydicom itself would not write them."""
    item = dcmread(file)
    for keyword, value in changes.items():
        tag, raw = Tag(keyword), value.encode()
        raw += b" " * (len(raw) % 2)
        item._dict[tag] = RawDataElement(tag, dictionary_VR(tag), len(raw), raw, 0, False, True)
    item.save_as(file)


def shapes(slices: int, rows: int, columns: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """(HU, mask): in each slice a bright square (1) and a dim disc (2) at places that no flip or turn maps to another."""
    seed = np.random.default_rng(7)
    values = seed.integers(0, 40, (slices, rows, columns)).astype(np.int16)
    mask = np.zeros(values.shape, np.uint8)
    down, across = np.mgrid[:rows, :columns]
    for place in range(slices):
        top, left = 2 + place, 3 + 2 * place
        square = (down >= top) & (down < top + rows // 3) & (across >= left) & (across < left + columns // 3)
        disc = (down - 3 * rows // 4) ** 2 + (across - 2 * columns // 3 + place) ** 2 < (rows // 6) ** 2
        mask[place][disc], mask[place][square] = 2, 1
    values[mask == 1] += 190
    values[mask == 2] += 90
    return values, mask


def write_mask_study(root: Path, patients: int = 60) -> None:
    """Two CT images of each patient with PNG masks of squares and discs, and cases.csv: what a recipe trains on."""
    from PIL import Image

    lines = ["file,mask"]
    for number in range(patients):
        values, mask = drawn(np.random.default_rng(number), slices=2, side=24)
        files = write_ct(root / f"p{number:03d}", values, oblique(), PatientID=f"ID{number}")
        for place, file in enumerate(files):
            name = f"p{number:03d}-{place}.png"
            Image.fromarray(mask[place]).save(root / name)
            lines.append(f"{file.relative_to(root).as_posix()},{name}")
    (root / "cases.csv").write_text("\n".join(lines) + "\n")


def write_digit_study(root: Path, labels: int = 3, each: int = 110) -> None:
    """scikit-learn's digits as radiographs of 16 x 16 pixels, one of each made-up patient, and cases.csv."""
    from sklearn.datasets import load_digits

    root.mkdir(parents=True)
    found, lines = load_digits(), ["file,label"]
    for label in range(labels):
        for place in np.flatnonzero(found.target == label)[:each]:
            pixels = np.kron(found.images[place], np.ones((2, 2))) * 15.9
            file = write_dx(root / f"{place:04d}.dcm", pixels.astype(np.uint16), PatientID=f"ID{place}")
            lines.append(f"{file.name},{label}")
    (root / "cases.csv").write_text("\n".join(lines) + "\n")


def drawn(seed: np.random.Generator, slices: int, side: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """(HU, mask): a bright square (1) and a dim disc (2) somewhere in each slice, on noise."""
    values = seed.integers(0, 40, (slices, side, side)).astype(np.int16)
    mask = np.zeros(values.shape, np.uint8)
    rows, columns = np.mgrid[:side, :side]
    for place in range(slices):
        top, left = seed.integers(0, side - 8, 2)
        y, x = seed.integers(4, side - 4, 2)
        mask[place][(rows - y) ** 2 + (columns - x) ** 2 < 16] = 2
        mask[place][(rows >= top) & (rows < top + 8) & (columns >= left) & (columns < left + 8)] = 1
    values[mask == 1] += 190
    values[mask == 2] += 90
    return values, mask
