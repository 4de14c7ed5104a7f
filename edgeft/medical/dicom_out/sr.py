"""Classifications as a DICOM structured report: TID 1500 Measurement Report, one TID 1501 group per image.

The template and Comprehensive 3D SR are what IHE's AI Results profile asks of such results. In each group the finding
is the label that won; how sure the model was of it is (111012, DCM, "Certainty of Finding") in percent; the probability
of every label is a number named by that label's code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.medical.codes import Code, LabelCode
from edgeft.medical.dicom_out.headers import character_set, frame_slices
from edgeft.medical.dicom_out.origin import Origin
from edgeft.medical.dicom_out.seg import FAMILY
from edgeft.medical.dicom_out.shared import common, concept, new_uid, own_scheme, series_number
from edgeft.medical.limits import Refusal

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
PERCENT, UNITY = Code("%", "UCUM", "Percent"), Code("1", "UCUM", "no units")
PROCEDURES = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "CR": Code("43468-8", "LN", "XR unspecified body region"),
    "DX": Code("43468-8", "LN", "XR unspecified body region"),
    "NM": Code("49118-3", "LN", "NM unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
}
"""Of CID 100, by modality."""
ANY_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
DIGITS = 6


@dataclass(frozen=True)
class Finding:
    """What the model says of one slice. probabilities: of every label, each in [0, 1]."""

    label: str
    probabilities: Mapping[str, float]


def make_report(
    headers: Sequence[Dataset],
    findings: Sequence[Finding],
    affine: Any,
    labels: Mapping[str, LabelCode],
    origin: Origin,
) -> tuple[Dataset, bool]:
    """(report, whether it lists the images' geometry). findings: one per slice of the volume that `affine` places.

    The list of images (TID 1600) needs attributes that not every image has; without them it is left out, and each group
    still names its image.
    """
    import highdicom as hd

    first = headers[0]
    if any(finding.probabilities.keys() != labels.keys() for finding in findings):
        raise Refusal("an answer does not hold a probability of every label", "report this fault of edgeft")
    places = frame_slices(headers, affine, len(findings))
    images = sorted(zip(places, _images(headers), strict=True), key=lambda item: item[0])
    groups = [_group(image, findings[place], labels, origin, place + 1) for place, image in images]
    content, listed = _content(headers, groups, origin)
    texts = [text for label, code in labels.items() for text in (label, code.code.meaning)]
    report = hd.sr.Comprehensive3DSR(
        evidence=list(headers),
        content=content,
        is_complete=True,
        series_number=series_number(first, 2000),
        coding_schemes=own_scheme(labels.values()),
        specific_character_set=character_set(first, [*texts, origin.name, origin.manufacturer, *origin.software]),
        **common(first, origin, "classification"),
    )
    return report, listed


def _content(headers: Sequence[Dataset], groups: Sequence[Any], origin: Origin) -> tuple[Any, bool]:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=new_uid(), name=origin.name, manufacturer_name=origin.manufacturer, model_name=origin.name,
        serial_number=origin.version,
    )  # fmt: skip
    arguments = {
        "observation_context": hd.sr.ObservationContext(
            observer_device_context=hd.sr.ObserverContext(codes.DCM.Device, device)
        ),
        "procedure_reported": concept(PROCEDURES.get(headers[0].Modality, ANY_PROCEDURE)),
        "imaging_measurements": groups,
    }
    try:
        return hd.sr.MeasurementReport(referenced_images=list(headers), **arguments), True
    except (AttributeError, TypeError, ValueError, KeyError, IndexError):
        return hd.sr.MeasurementReport(**arguments), False


def _group(image: Any, finding: Finding, labels: Mapping[str, LabelCode], origin: Origin, number: int) -> Any:
    """TID 1501 of one image."""
    import highdicom as hd

    algorithm = hd.sr.AlgorithmIdentification(
        name=origin.name, version=origin.version, manufacturer=origin.manufacturer, family=concept(FAMILY),
        parameters=[f"{name}={value}" for name, value in (origin.parameters or {}).items()] or None,
    )  # fmt: skip
    sure = finding.probabilities[finding.label]
    numbers = [hd.sr.Measurement(concept(CERTAINTY), round(100 * sure, DIGITS - 2), concept(PERCENT))]
    numbers += [
        hd.sr.Measurement(concept(labels[label].code), round(value, DIGITS), concept(UNITY))
        for label, value in finding.probabilities.items()
    ]
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=new_uid(), identifier=f"slice {number}"),
        finding_type=concept(labels[finding.label].code),
        algorithm_id=algorithm,
        measurements=numbers,
        source_images=[image],
    )


def _images(headers: Sequence[Dataset]) -> list[Any]:
    """A reference per frame."""
    import highdicom as hd

    found = []
    for header in headers:
        frames = int(header.get("NumberOfFrames") or 1)
        for frame in range(1, frames + 1):
            which = {"referenced_frame_numbers": [frame]} if frames > 1 else {}
            found.append(hd.sr.SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID, **which))
    return found
