"""The template's half brain as a DICOM series, to run a built brain-tissue bundle on.

`python -m edgeft_recipes.medical.brain_series FOLDER` writes a hundred MR images of 1 mm, of a made-up patient called
TEMPLATE. The values are those of ICBM 2009a (Fonov et al. 2011) inside the nilearn package; the scanner is none.
"""

from __future__ import annotations

import sys
from pathlib import Path

FIRST, LAST = 25, 125
MR = "1.2.840.10008.5.1.4.1.1.4"


def main(folder: Path) -> None:
    """One file for each slice, from below upwards; their names say nothing of their order."""
    import numpy as np
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    from edgeft.data.sources.mni_scans import slice_affine
    from edgeft.data.sources.mni_slices import read_half

    folder.mkdir(parents=True, exist_ok=True)
    brain, _ = read_half()
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for place in range(FIRST, LAST):
        plane = np.ascontiguousarray(brain[:, ::-1, place].T)
        item = Dataset()
        item.SpecificCharacterSet = "ISO_IR 192"
        item.SOPClassUID, item.SOPInstanceUID = MR, generate_uid()
        item.PatientName, item.PatientID, item.PatientBirthDate, item.PatientSex = "TEMPLATE^", "ICBM-2009A", "", ""
        item.StudyInstanceUID, item.StudyDate, item.StudyTime, item.StudyID = study, "20090101", "120000", "1"
        item.AccessionNumber, item.ReferringPhysicianName = "", ""
        item.Modality, item.SeriesInstanceUID, item.SeriesNumber = "MR", series, 1
        item.BodyPartExamined, item.PatientPosition = "BRAIN", "HFS"
        item.Manufacturer, item.FrameOfReferenceUID, item.PositionReferenceIndicator = "none", frame, ""
        item.InstanceNumber, item.ImageType = place - FIRST + 1, ["DERIVED", "SECONDARY", "OTHER"]
        item.ScanningSequence, item.SequenceVariant, item.ScanOptions, item.MRAcquisitionType = "RM", "NONE", "", "3D"
        item.EchoTime, item.EchoTrainLength, item.RepetitionTime = None, None, None
        affine = slice_affine(place)
        item.ImageOrientationPatient = [*affine[:3, 2], *affine[:3, 1]]
        item.ImagePositionPatient = list(affine[:3, 3])
        item.PixelSpacing, item.SliceThickness = [1, 1], 1
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.Rows, item.Columns = plane.shape
        item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 12, 11, 0
        item.PixelData = plane.astype("<u2").tobytes()
        item.file_meta = FileMetaDataset()
        item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item.file_meta.MediaStorageSOPClassUID = item.SOPClassUID
        item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
        item.save_as(folder / f"{item.SOPInstanceUID}.dcm", enforce_file_format=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
