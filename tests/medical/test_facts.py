"""Nothing that identifies a patient leaves the child process: a marker in every such attribute, looked for everywhere."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from edgeft.errors import RecipeError, StepError
from edgeft.medical.facts import NAMES, age_band, burned_in_warning, pseudonym
from edgeft.medical.key import pseudonym_key
from edgeft.medical.read import Reader, Reading, read_many, read_volume, show
from tests.medical.material import image, save, write_series

MARK = "ZQXMARKER"
NAMED = (
    *("PatientName", "PatientID", "OtherPatientIDs", "PatientAddress", "PatientTelephoneNumbers", "PatientComments"),
    *("PatientMotherBirthName", "MedicalRecordLocator", "IssuerOfPatientID", "AccessionNumber", "InstitutionName"),
    *("InstitutionAddress", "InstitutionalDepartmentName", "ReferringPhysicianName", "PerformingPhysicianName"),
    *("OperatorsName", "PhysiciansOfRecord", "StudyDescription", "SeriesDescription", "StudyID", "StationName"),
    *("ProtocolName", "ImageComments", "AdditionalPatientHistory", "Occupation", "RequestedProcedureDescription"),
    *("PerformedProcedureStepDescription", "DerivationDescription", "DeviceSerialNumber", "RequestAttributesSequence"),
)
DATES = ("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
BIRTH, UID = "19471103", "1.2.276.0.7230010.99.77"


def marked(pixels: Any, **attributes: Any) -> Dataset:
    """An image with the marker in every identifying attribute, in private ones and in nested items."""
    data = image(pixels, **attributes)
    for keyword in NAMED:
        if dictionary_VR(keyword) == "SQ":
            item = Dataset()
            item.RequestedProcedureID = MARK
            setattr(data, keyword, [item])
        else:
            setattr(
                data, keyword, f"{MARK}^{keyword[:3]}"[:16] if dictionary_VR(keyword) in ("SH", "LO", "PN") else MARK
            )
    for keyword in DATES:
        setattr(data, keyword, BIRTH)
    for place, keyword in enumerate(UIDS):
        setattr(data, keyword, f"{UID}.{place}")
    data.file_meta.MediaStorageSOPInstanceUID = f"{UID}.2"
    block = data.private_block(0x0029, MARK, create=True)
    block.add_new(1, "LO", MARK)
    data.PatientAge, data.PatientSex, data.Manufacturer = "057Y", "F", "Acme"
    return data


def everything(volume: Any) -> str:
    """Every field of a volume but its pixels, as text."""
    fields = {field.name: getattr(volume, field.name) for field in dataclasses.fields(volume)}
    fields.pop("values")
    return repr(fields)


def clean(text: str) -> None:
    for secret in (MARK, BIRTH, UID, "1947"):
        assert secret not in text, secret


def test_nothing_identifying_is_in_a_volume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    path = save(marked(np.ones((4, 6), np.int16), ImagePositionPatient=[0, 0, 1.0]), tmp_path / "a.dcm")
    assert MARK.encode() in path.read_bytes()
    volume = read_volume(path)
    clean(everything(volume))
    assert volume.facts == {
        "modality": "CT", "manufacturer": "Acme", "slice_thickness_mm": 2.0, "sex": "F", "age_band": "50-59",
        "burned_in_annotation": "unknown",
    }  # fmt: skip
    assert len(volume.patient) == 16
    clean(caplog.text)
    clean("".join(capfd.readouterr()))


BROKEN: tuple[dict[str, Any], ...] = (
    {"PixelSpacing": None, "Rows": 70000 % 65536}, {"BitsStored": 99}, {"PhotometricInterpretation": MARK},
    {"RescaleSlope": 0}, {"HighBit": 3}, {"Modality": "SEG"}, {"SamplesPerPixel": 3}, {"ImageOrientationPatient": [1] * 6},
    {"PixelData": b"\0\0"}, {"NumberOfFrames": 30000},
)  # fmt: skip


@pytest.mark.parametrize("attributes", BROKEN, ids=lambda value: "-".join(value))
def test_nothing_identifying_is_in_an_error(tmp_path: Path, attributes: dict[str, Any]) -> None:
    path = save(marked(np.ones((4, 6), np.int16), **attributes), tmp_path / "a.dcm")
    said: list[str] = []
    with pytest.raises(StepError) as caught:
        read_volume(path, reading=Reading(root=tmp_path))
    assert caught.value.where == "a.dcm"
    assert not list(read_many([path], on_unreadable="skip", warn=said.append))
    clean(caught.value.render() + repr(caught.value.__cause__) + repr(caught.value.__context__) + "".join(said))


def test_damaged_numbers_are_not_quoted(tmp_path: Path) -> None:
    """A marker typed into a number: pydicom's own messages quote it, ours name the attribute."""
    path = save(marked(np.ones((4, 6), np.int16), SliceThickness=2.0, RescaleIntercept=1234567), tmp_path / "a.dcm")
    assert b"1234567.0" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b"1234567.0", MARK.encode()))
    with pytest.raises(StepError, match="RescaleIntercept that") as caught:
        read_volume(path)
    clean(caught.value.render())


def test_nothing_identifying_is_in_errors_about_a_series(tmp_path: Path) -> None:
    for number, place in enumerate((0.0, 1.0, 5.0, 5.0)):
        data = marked(np.ones((4, 6), np.int16), ImagePositionPatient=[0, 0, place])
        data.SOPInstanceUID, data.file_meta.MediaStorageSOPInstanceUID = f"{UID}.{number}", f"{UID}.{number}"
        if number == 3:
            data.SeriesInstanceUID = f"{UID}.44"
        save(data, tmp_path / f"{number}.dcm")
    with pytest.raises(StepError, match="2 series") as caught:
        read_volume(tmp_path)
    clean(caught.value.render())
    with pytest.raises(StepError, match="no series here has") as caught:
        read_volume(tmp_path, reading=Reading(series="other"))
    clean(caught.value.render())


@pytest.mark.filterwarnings("ignore:Invalid value:UserWarning")
def test_a_fact_of_the_wrong_form_is_dropped(tmp_path: Path) -> None:
    attributes = {"Manufacturer": "Jane=Doe", "BodyPartExamined": "Jane^Doe", "PatientSex": "Jane", "PatientAge": "old"}
    facts = read_volume(save(image(np.ones((2, 2), np.int16), **attributes), tmp_path / "a.dcm")).facts
    assert set(facts) == {"modality", "slice_thickness_mm", "burned_in_annotation"} <= set(NAMES)


def test_facts_of_a_series_are_those_all_slices_share(tmp_path: Path, reader: Reader) -> None:
    write_series(tmp_path, [0.0, 1], Manufacturer="Acme")
    save(image(np.zeros((4, 6), np.int16), ImagePositionPatient=[0, 0, 2.0], Manufacturer="Other"), tmp_path / "x.dcm")
    assert "manufacturer" not in reader.read(tmp_path).facts


@pytest.mark.parametrize(
    ("age", "band"),
    [("000D", "0-9"), ("009Y", "0-9"), ("010Y", "10-19"), ("089Y", "80-89"), ("090Y", "90+"), ("101Y", "90+"),
     ("030M", "0-9"), ("999Y", ""), ("57", ""), ("", "")],
)  # fmt: skip
def test_age_bands(age: str, band: str) -> None:
    assert age_band(age) == band


@pytest.mark.parametrize(
    ("facts", "warned"),
    [
        ({"burned_in_annotation": "yes", "modality": "CT"}, True),
        ({"burned_in_annotation": "unknown", "modality": "US"}, True),
        ({"burned_in_annotation": "no", "modality": "US"}, False),
        ({"burned_in_annotation": "unknown", "modality": "CT"}, False),
    ],
)  # fmt: skip
def test_burned_in_text_is_warned_of(facts: dict[str, Any], warned: bool) -> None:
    assert bool(burned_in_warning(facts)) == warned


def test_pseudonyms_are_equal_for_equal_patients_and_keys() -> None:
    one, other = bytes(32), bytes(31) + b"\1"
    assert pseudonym("17", one) == pseudonym("17 ", one) != pseudonym("18", one)
    assert pseudonym("17", one) != pseudonym("17", other)
    assert pseudonym(" ", one) == ""


def test_the_key_is_made_once_for_a_store_and_only_its_owner_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEFT_PSEUDONYM_KEY", raising=False)
    first = pseudonym_key(tmp_path / "one")
    assert pseudonym_key(tmp_path / "one") == first != pseudonym_key(tmp_path / "two")
    assert (tmp_path / "one" / "pseudonym.key").stat().st_mode & 0o077 == 0
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["pseudonym.key"]


def test_the_key_may_be_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFT_PSEUDONYM_KEY", "a secret that two machines share")
    assert pseudonym_key(tmp_path / "one") == pseudonym_key(tmp_path / "two")
    assert not (tmp_path / "one").exists()
    monkeypatch.setenv("EDGEFT_PSEUDONYM_KEY", "short")
    with pytest.raises(RecipeError, match="at least 16 characters"):
        pseudonym_key(tmp_path)


def test_a_store_that_has_a_key_is_still_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key may be made before the store is."""
    from edgeft.store.layout import Layout

    monkeypatch.delenv("EDGEFT_PSEUDONYM_KEY", raising=False)
    key = pseudonym_key(tmp_path / "store")
    Layout(tmp_path / "store").open()
    assert pseudonym_key(tmp_path / "store") == key


def test_names_in_messages_are_short_and_tame() -> None:
    assert show(Path("/data/a/b.dcm"), Path("/data")) == "a/b.dcm"
    assert show(Path("/else/b.dcm"), Path("/data")) == "b.dcm"
    assert show(Path("/data/\x1b[31mred\n.dcm"), Path("/data")) == r"\x1b[31mred\x0a.dcm"
