"""Reports: label and probabilities that another reader finds, beside the image that they are about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
hd = pytest.importorskip("highdicom")

from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.sr.codedict import codes  # noqa: E402

from edgeft.errors import StepError  # noqa: E402
from edgeft.medical.codes import Code, LabelCode, code_labels  # noqa: E402
from edgeft.medical.dicom_out.sr import Finding  # noqa: E402
from edgeft.medical.dicom_out.write import write_report  # noqa: E402
from tests.dicom_out.conftest import Validator  # noqa: E402
from tests.dicom_out.material import oblique, shapes, write_ct, write_dx, write_enhanced_ct  # noqa: E402
from tests.dicom_out.test_seg import ORIGIN, source_of  # noqa: E402

pytestmark = pytest.mark.ml

PNEUMONIA = LabelCode(Code("233604007", "SCT", "Pneumonia"))
PNEUMONIA_CONCEPT = hd.sr.CodedConcept("233604007", "SCT", "Pneumonia")
LABELS = code_labels(["normal", "pneumonia"], {"pneumonia": PNEUMONIA})


def finding(sure: float) -> Finding:
    """Pneumonia with this probability."""
    return Finding("pneumonia" if sure > 0.5 else "normal", {"normal": 1 - sure, "pneumonia": sure})


def groups_of(path: Path) -> list[Any]:
    """Measurement groups, as highdicom reads them."""
    groups: list[Any] = hd.sr.srread(path).content.get_image_measurement_groups()
    return groups


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_label_and_probability_are_read_back(tmp_path: Path, errors_of: Validator, name: str) -> None:
    path = Path(str(get_testdata_file(name, download=False)))
    _, source = source_of(path)
    written = write_report([finding(0.912345678)], source, LABELS, ORIGIN, tmp_path)
    assert errors_of(written.path) == [] and written.notes == ()
    given = pydicom.dcmread(path)
    (group,) = groups_of(written.path)
    assert group.finding_type == hd.sr.CodedConcept("233604007", "SCT", "Pneumonia")
    (image,) = group.source_images
    assert image.referenced_sop_instance_uid == given.SOPInstanceUID
    (sure,) = group.get_measurements(name=codes.DCM.CertaintyOfFinding)
    assert (float(sure.value), sure.unit.value) == (91.2346, "%")
    (share,) = group.get_measurements(name=PNEUMONIA_CONCEPT)
    assert (float(share.value), share.unit.value) == (0.912346, "1")
    made = pydicom.dcmread(written.path)
    assert (made.PatientID, made.StudyInstanceUID) == (given.PatientID, given.StudyInstanceUID)
    assert (made.CompletionFlag, made.VerificationFlag, made.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    assert made.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (made.Manufacturer, made.ManufacturerModelName) == ("My Clinic", "digits")


def test_each_group_names_the_image_that_it_is_about(tmp_path: Path, errors_of: Validator) -> None:
    values, _ = shapes(4, 24, 30)
    files = write_ct(tmp_path / "series", values, oblique())
    _, source = source_of(tmp_path / "series")
    chances = [0.1, 0.7, 0.2, 0.95]
    written = write_report([finding(sure) for sure in chances], source, LABELS, ORIGIN, tmp_path / "out")
    assert errors_of(written.path) == []
    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in files]
    read = {
        group.source_images[0].referenced_sop_instance_uid: float(
            group.get_measurements(name=PNEUMONIA_CONCEPT)[0].value
        )
        for group in groups_of(written.path)
    }
    assert read == dict(zip(uids, chances, strict=True))
    assert [group.tracking_identifier for group in groups_of(written.path)] == [f"slice {n}" for n in (1, 2, 3, 4)]


def test_frames_of_one_file_are_named_by_number(tmp_path: Path, errors_of: Validator) -> None:
    values, _ = shapes(4, 24, 30)
    order = [2, 0, 3, 1]
    _, source = source_of(write_enhanced_ct(tmp_path / "many.dcm", values, oblique(), order))
    chances = [0.1, 0.7, 0.2, 0.95]
    written = write_report([finding(sure) for sure in chances], source, LABELS, ORIGIN, tmp_path / "out")
    assert errors_of(written.path) == [] and "image list" in written.notes[0]
    for group in groups_of(written.path):
        (frame,) = group.source_images[0].referenced_frame_numbers
        assert float(group.get_measurements(name=PNEUMONIA_CONCEPT)[0].value) == chances[order[frame - 1]]


def test_a_radiograph_without_a_place_in_space(tmp_path: Path, errors_of: Validator) -> None:
    values, _ = shapes(1, 24, 30)
    _, source = source_of(write_dx(tmp_path / "chest.dcm", values[0].astype(np.uint16)))
    written = write_report([finding(0.8)], source, LABELS, ORIGIN, tmp_path / "out")
    assert errors_of(written.path) == [] and len(groups_of(written.path)) == 1


def test_the_algorithm_is_identified_in_each_group(tmp_path: Path) -> None:
    _, source = source_of(Path(str(get_testdata_file("CT_small.dcm", download=False))))
    written = write_report([finding(0.8)], source, LABELS, ORIGIN, tmp_path)
    text = _texts(pydicom.dcmread(written.path))
    assert text["Algorithm Name"] == "digits" and text["Algorithm Version"] == "ab" * 32
    assert text["Algorithm Manufacturer"] == "My Clinic" and text["Algorithm Parameters"] == "runtime=onnxruntime"


def _texts(item: Any) -> dict[str, str]:
    """Meaning -> text of every TEXT item of the tree."""
    found = {}
    for child in item.get("ContentSequence", []):
        if child.ValueType == "TEXT":
            found[child.ConceptNameCodeSequence[0].CodeMeaning] = str(child.TextValue)
        found |= _texts(child)
    return found


def test_an_answer_of_other_labels_is_refused(tmp_path: Path) -> None:
    _, source = source_of(Path(str(get_testdata_file("CT_small.dcm", download=False))))
    with pytest.raises(StepError, match="every label"):
        write_report([Finding("normal", {"normal": 1.0})], source, LABELS, ORIGIN, tmp_path / "out")
    with pytest.raises(StepError, match="2 slices were answered"):
        write_report([finding(0.8)] * 2, source, LABELS, ORIGIN, tmp_path / "out")
    assert not (tmp_path / "out").exists()
