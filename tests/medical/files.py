"""Small DICOM, NIfTI and MedMNIST files that are made here: every value in them is synthetic."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 24
"""Rows; columns are 4 less, so that a transposed image is seen."""


def disc(seed: int, ill: bool, rows: int = SIDE, columns: int = SIDE - 4) -> Any:
    """int16 (rows, columns): 0..1000 noise, with a bright disc in the upper left where `ill`."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    values = draw.normal(300, 40, (rows, columns)) + 20 * np.sin(x / 3)
    if ill:
        values[(y - rows / 3) ** 2 + (x - columns / 3) ** 2 < (rows / 6) ** 2] += 450
    return np.clip(values, 0, 1000).astype(np.int16)


def write_dicom(
    path: Path, values: Any, *, patient: str = "p1", number: int = 1, position: float = 0.0, slope: float = 1.0,
    intercept: float = 0.0, photometric: str = "MONOCHROME2", series: str = "1.2.3", more: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """One CT or CR image, stored as int16; `more`: further attributes by keyword."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    uid = generate_uid(entropy_srcs=[str(path.name), patient, str(number)])
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item = Dataset()
    item.file_meta = meta
    item.SOPClassUID, item.SOPInstanceUID = CTImageStorage, uid
    item.StudyInstanceUID, item.SeriesInstanceUID, item.FrameOfReferenceUID = "1.2", series, "1.2.9"
    item.PatientID, item.PatientName, item.Modality, item.InstanceNumber = patient, "X^Y", "CT", number
    item.Rows, item.Columns = values.shape
    item.SamplesPerPixel, item.PhotometricInterpretation = 1, photometric
    item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 16, 15, 1
    item.RescaleSlope, item.RescaleIntercept = slope, intercept
    item.PixelSpacing, item.SliceThickness = [0.8, 0.8], 2
    item.ImageOrientationPatient, item.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, position]
    for name, value in (more or {}).items():
        setattr(item, name, value)
    item.PixelData = values.astype("<i2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    item.save_as(path, enforce_file_format=True)
    return path


def write_table(root: Path, rows: Sequence[Mapping[str, str]], name: str = "cases.csv") -> Path:
    """cases.csv of these rows."""
    with (root / name).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root / name


def chest_study(root: Path, patients: int = 40, each: int = 2, **options: Any) -> Path:
    """One file an image, `each` of every patient, half of the patients ill; cases.csv with label and site."""
    rows = []
    for patient in range(patients):
        for image in range(each):
            name = f"scans/p{patient:03d}-{image}.dcm"
            ill = patient % 2 == 1
            write_dicom(
                root / name, disc(patient * 10 + image, ill), patient=f"ID{patient}", number=image + 1, **options
            )
            site = ("north", "south")[patient % 4 // 2]
            rows.append({"file": name, "label": "ill" if ill else "well", "site": site})
    write_table(root, rows)
    return root


def write_nifti(path: Path, values: Any, spacing: Sequence[float] = (1.0, 1.0, 2.0)) -> Path:
    """values: (x, y, z), RAS."""
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([*spacing, 1.0])), path)
    return path


def nifti_study(root: Path, volumes: int = 12, slices: int = 4) -> Path:
    """images/ and masks/ with one bright box in the middle slices of each volume; cases.csv with patient and scanner."""
    rows = []
    for volume in range(volumes):
        draw = np.random.default_rng(volume)
        values = draw.normal(100, 10, (SIDE - 4, SIDE, slices))
        mask = np.zeros(values.shape, np.uint8)
        mask[3:9, 4:14, 1 : slices - 1] = 1
        values[mask == 1] += 120
        name = f"v{volume:02d}.nii.gz"
        write_nifti(root / "images" / name, values.astype(np.float32))
        write_nifti(root / "masks" / name, mask)
        row = {"file": f"images/{name}", "mask": f"masks/{name}", "patient": f"n{volume}"}
        rows.append({**row, "scanner": ("a", "b")[volume % 2]})
    write_table(root, rows)
    return root


def medmnist_file(path: Path, sizes: Sequence[int] = (120, 60, 60), rgb: bool = False, side: int = 28) -> Path:
    """An .npz as medmnist.com publishes it: two labels, one image in four ill."""
    arrays: dict[str, Any] = {}
    for at, (part, n) in enumerate(zip(("train", "val", "test"), sizes, strict=True)):
        labels = (np.arange(n) % 4 == 0).astype(np.uint8)
        images = np.stack([disc(at * 100_000 + i, bool(label), side, side) // 4 for i, label in enumerate(labels)])
        arrays[f"{part}_images"] = (
            np.repeat(images[..., None], 3, 3).astype(np.uint8) if rgb else images.astype(np.uint8)
        )
        arrays[f"{part}_labels"] = labels[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path
