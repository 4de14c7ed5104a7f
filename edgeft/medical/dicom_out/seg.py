"""A mask volume as a DICOM Segmentation (PS3.3 A.51): binary, one segment per label, on the source images' own grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeft.medical.codes import Code, LabelCode, fit
from edgeft.medical.dicom_out.headers import character_set, frame_slices
from edgeft.medical.dicom_out.origin import Origin
from edgeft.medical.dicom_out.shared import common, concept, own_scheme, series_number
from edgeft.medical.limits import Refusal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

CONTENT_LABEL = "EDGEFT_SEG"
FAMILY = Code("123110", "DCM", "Artificial Intelligence")
"""Of CID 7162."""


def make_segmentation(
    headers: Sequence[Dataset],
    mask: NDArray[np.uint8],
    affine: Any,
    labels: Mapping[str, LabelCode],
    origin: Origin,
) -> Dataset:
    """A Segmentation of `headers`' images. Refusal where DICOM has no way to say it.

    mask: (slices, rows, columns), 0 for background, k for the k-th of `labels`, which come without the background. All
    labels become segments, those that no pixel has, too: an empty segment says that it was looked for. affine: of the
    volume's grid, see `frame_slices`.
    """
    import highdicom as hd

    first = headers[0]
    slices, rows, columns = (int(size) for size in mask.shape)
    if (rows, columns) != (int(first.Rows), int(first.Columns)):
        raise Refusal("the mask is not on the images' own grid", "report this fault of edgeft")
    if not labels or int(mask.max(initial=0)) > len(labels):
        raise Refusal("the mask has a number that no label stands for", "report this fault of edgeft")
    if len(headers) > 1 and any(int(header.get("NumberOfFrames") or 1) > 1 for header in headers):
        raise Refusal("are several multi-frame files: a segmentation refers to one", "segment them one at a time")
    if first.get("FrameOfReferenceUID") is None and (slices > 1 or "ImageOrientationPatient" in first):
        what = "have no FrameOfReferenceUID, so a segmentation cannot say where its frames lie"
        raise Refusal(what, "export the series anew; frames without positions are segmented one image at a time")
    order = frame_slices(headers, affine, slices)
    _state_thickness(headers, affine, slices)
    texts = [text for label, code in labels.items() for text in (label, code.code.meaning, code.category.meaning)]
    shared = common(first, origin, "segmentation")
    segmentation = hd.seg.Segmentation(
        source_images=list(headers),
        pixel_array=mask[order],
        segmentation_type="BINARY",
        segment_descriptions=_segments(labels, origin),
        series_number=series_number(first, 1000),
        content_label=CONTENT_LABEL,
        content_description=origin.description("segmentation"),
        coding_schemes=own_scheme(labels.values()),
        specific_character_set=character_set(first, [*texts, origin.name, origin.manufacturer, *origin.software]),
        **shared,
    )
    if "ImagePositionPatient" not in first and "PlaneOrientationSequence" not in _shared_groups(segmentation):
        # Type 2C where no plane orientation is stated (PS3.3 C.7.6.1); highdicom leaves it out.
        segmentation.PatientOrientation = first.get("PatientOrientation") or None
    return segmentation


def _state_thickness(headers: Sequence[Dataset], affine: Any, slices: int) -> None:
    """SliceThickness is type 2 of an image, which may leave it empty, but 1C of a segmentation, which may not: the
    distance between slices then stands for it. With one slice there is none, and nothing is made up."""
    import numpy as np

    for header in headers:
        if header.get("SliceThickness") or "PixelSpacing" not in header:
            continue
        if affine is not None and slices > 1:
            header.SliceThickness = round(float(np.linalg.norm(np.asarray(affine)[:3, 0])), 6)
        elif "SliceThickness" in header:
            del header.SliceThickness


def _segments(labels: Mapping[str, LabelCode], origin: Origin) -> list[Any]:
    """Segment k for the k-th label."""
    import highdicom as hd

    algorithm = hd.AlgorithmIdentificationSequence(
        name=origin.name,
        family=concept(FAMILY),
        version=origin.version,
        source=origin.manufacturer,
        parameters=dict(origin.parameters) if origin.parameters else None,
    )
    return [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=fit(label) or f"segment {number}",
            segmented_property_category=concept(code.category),
            segmented_property_type=concept(code.code),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, (label, code) in enumerate(labels.items(), 1)
    ]


def _shared_groups(segmentation: Dataset) -> Dataset:
    shared: Dataset = segmentation.SharedFunctionalGroupsSequence[0]
    return shared
