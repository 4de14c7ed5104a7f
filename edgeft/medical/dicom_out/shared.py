"""What a segmentation and a report have in common: equipment, series, identifiers, coded concepts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from edgeft.medical.codes import OWN_SCHEME, Code, LabelCode
from edgeft.medical.dicom_out.origin import Origin

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LARGEST_NUMBER = 2**31 - 1


def common(source: Dataset, origin: Origin, what: str) -> dict[str, Any]:
    """Arguments that every object takes. A new series and instance each time: an object is never overwritten."""
    return {
        "series_instance_uid": new_uid(),
        "sop_instance_uid": new_uid(),
        "instance_number": 1,
        "manufacturer": origin.manufacturer,
        "manufacturer_model_name": origin.name,
        "software_versions": list(origin.software),
        "device_serial_number": origin.version,
        "series_description": origin.description(what),
        "content_qualification": origin.qualification,
    }


def new_uid() -> str:
    """2.25 and a random UUID as a number (PS3.5 B.2): needs no registered root, says nothing about who made it."""
    from pydicom.uid import generate_uid

    return str(generate_uid(prefix=None))


def series_number(source: Dataset, above: int) -> int:
    """The source's number raised by `above`, so that viewers list a result behind what it was made from."""
    try:
        number = int(source.get("SeriesNumber") or 0)
    except (ValueError, TypeError):
        number = 0
    return number + above if 0 <= number <= LARGEST_NUMBER - above else above


def concept(code: Code) -> Any:
    """The code in highdicom's form."""
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def own_scheme(codes: Iterable[LabelCode]) -> list[Any] | None:
    """Who defines the private scheme (PS3.3 C.12.1.4), where it is used."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    if not any(code.private for code in codes):
        return None
    name = "Labels of an edgeft recipe that states no code for them"
    return [CodingSchemeIdentificationItem(OWN_SCHEME, name=name, responsible_organization="edgeft")]
