"""What of a DICOM header may be kept, and the pseudonym that stands for a patient. Everything else stays unread.

The list allows; it does not forbid. A value that does not have the form its attribute should have is dropped, so that a
name typed into the wrong field does not pass. UIDs, dates, names, places, descriptions, comments and private elements
are not on the list.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any

from edgeft.medical.dicom.values import get, number, text
from edgeft.medical.limits import Refusal

WORDS = {
    "modality": ("Modality", 16), "manufacturer": ("Manufacturer", 64), "model": ("ManufacturerModelName", 64),
    "kernel": ("ConvolutionKernel", 16), "body_part": ("BodyPartExamined", 16), "view": ("ViewPosition", 16),
    "laterality": ("ImageLaterality", 1), "sequence": ("ScanningSequence", 16),
    "contrast_phase": ("AcquisitionContrast", 16),
}  # fmt: skip
"""Fact -> (attribute, longest value kept)."""
NUMBERS = {
    "field_strength_t": "MagneticFieldStrength", "kvp": "KVP", "slice_thickness_mm": "SliceThickness",
    "echo_time_ms": "EchoTime", "repetition_time_ms": "RepetitionTime",
}  # fmt: skip
NAMES = (*WORDS, *NUMBERS, "sex", "age_band", "burned_in_annotation")
"""Every fact there can be."""
_WORD = re.compile(r"[\w .,+/()&-]*\Z")
OFTEN_BURNED = ("US", "SC", "XA", "RF", "ES", "XC", "OT", "IVUS")
UNITS = {"HU", "OD", "US", "MGML", "Z_EFF", "BQML", "CNTS", "PROPCNTS", "GML", "SUV"}


def read_facts(header: Any) -> dict[str, Any]:
    """Facts of the allow-list that are there, as JSON."""
    facts: dict[str, Any] = {}
    for name, (keyword, longest) in WORDS.items():
        word = _quietly(text, header, keyword)
        if word and len(word) <= longest and _WORD.match(word):
            facts[name] = word
    for name, keyword in NUMBERS.items():
        value = _quietly(number, header, keyword)
        if value is not None:
            facts[name] = value
    sex = _quietly(text, header, "PatientSex")
    if sex in ("M", "F", "O"):
        facts["sex"] = sex
    band = age_band(_quietly(text, header, "PatientAge"))
    if band:
        facts["age_band"] = band
    facts["burned_in_annotation"] = {"YES": "yes", "NO": "no"}.get(
        _quietly(text, header, "BurnedInAnnotation"), "unknown"
    )
    return facts


def age_band(age: str) -> str:
    """'20-29' for '027Y': ten years, '90+' from ninety on; empty for what is no age of PS3.5 6.2 (AS)."""
    found = re.fullmatch(r"(\d{3})([DWMY])", age or "")
    if found is None:
        return ""
    years = int(found[1]) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[found[2]]
    if years > 130:
        return ""
    first = int(years) // 10 * 10
    return "90+" if first >= 90 else f"{first}-{first + 9}"


def burned_in_warning(facts: dict[str, Any]) -> str:
    """A sentence where text may be part of the pixels, else empty."""
    stated, modality = facts.get("burned_in_annotation"), facts.get("modality", "")
    if stated == "yes":
        return "pixels may show a patient's name: BurnedInAnnotation is YES"
    if stated == "unknown" and modality in OFTEN_BURNED:
        return f"pixels may show a patient's name: {modality} often does, and BurnedInAnnotation does not deny it"
    return ""


def pseudonym(patient_id: str, key: bytes) -> str:
    """16 hex digits of HMAC-SHA256 (RFC 2104) over the Patient ID; empty for an empty one."""
    plain = patient_id.strip("\0 ")
    return hmac.new(key, plain.encode(), hashlib.sha256).hexdigest()[:16] if plain else ""


def read_unit(header: Any, modality: str) -> str:
    """Unit of the values where the header states one that is known; HU for CT that states none."""
    for keyword in ("RescaleType", "Units"):
        stated = _quietly(text, header, keyword).upper()
        if stated:
            return stated if stated in UNITS else ""
    rescaled = get(header, "RescaleSlope") is not None
    return "HU" if modality == "CT" and rescaled else ""


def _quietly(read: Any, header: Any, keyword: str) -> Any:
    """A fact that cannot be read is a fact that is not there."""
    try:
        return read(header, keyword)
    except Refusal:
        return "" if read is text else None
