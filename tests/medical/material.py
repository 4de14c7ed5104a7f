"""DICOM and NIfTI files made for tests: synthetic, every value in them is invented here."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
AXIAL = [1.0, 0, 0, 0, 1, 0]


def image(pixels: Any, **attributes: Any) -> Dataset:
    """A CT slice of `pixels` (rows, columns) of any integer type; attributes by keyword override or, as None, remove."""
    pixels = np.asarray(pixels)
    bits = pixels.dtype.itemsize * 8
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.SeriesInstanceUID, data.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
    data.PatientID, data.Modality, data.SeriesNumber = "made-up-1", "CT", 3
    data.Rows, data.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        data.NumberOfFrames = len(pixels)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelSpacing, data.SliceThickness = [0.5, 0.75], 2.0
    data.ImagePositionPatient, data.ImageOrientationPatient = [0.0, 0, 0], AXIAL
    data.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    data["PixelData"].VR = "OB" if bits == 8 else "OW"
    for keyword, value in attributes.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    return data


def save(data: Dataset, path: Path) -> Path:
    """Written as a PS3.10 file, whatever nonsense is in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, places: list[float], **attributes: Any) -> list[Path]:
    """A slice at each place along z, its pixels all equal to its number in the list; names in no useful order."""
    files = []
    for number, place in enumerate(places):
        pixels = np.full((4, 6), number, np.int16)
        own = {"ImagePositionPatient": [0.0, 0, place], "InstanceNumber": (7 * number) % 5, **attributes}
        files.append(save(image(pixels, **own), folder / f"{(number * 13) % 17:02d}-{number}.dcm"))
    return files


def deflated(data: bytes) -> bytes:
    """Raw deflate, as DICOM's deflated transfer syntax has it."""
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    return machine.compress(data) + machine.flush()


def prefix(syntax: str) -> bytes:
    """Preamble and a file meta information that states the transfer syntax alone."""
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    return bytes(128) + b"DICM" + b"\x02\x00\x10\x00UI" + struct.pack("<H", len(uid)) + uid


def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
    """One explicit little endian element; long form where the VR has it."""
    head = struct.pack("<HH", group, number) + kind
    if kind in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return head + b"\0\0" + struct.pack("<L", len(value)) + value
    return head + struct.pack("<H", len(value)) + value
