"""Metrics in mm of real masks against MONAI's, the spacing they are scored with, and what is refused without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeft.data.source import source_for
from edgeft.errors import StepError
from edgeft.gate import Gate
from edgeft.recipe.schema import Data
from edgeft.tasks.mask_metrics import measure_masks, scored_spacings
from edgeft.tasks.segmentation import Segmentation
from tests.tasks.test_segmentation import rows_of

LABELS = ("rest", "grey", "white")
AT_MOST = {"at_most": 3.0, "at_worst": 20.0}


def gate(metric: str, **keys: Any) -> Gate:
    return Gate(metric=metric, **(keys or AT_MOST))


def surface(metric: str, tolerance: float) -> Gate:
    return gate(metric, at_least=0.5, tolerance_mm=tolerance)


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(answers of a two-threshold rule on the noisy scanner, truth): uint8 (12, 192, 80) of the MNI152 template."""
    from PIL import Image

    pytest.importorskip("nibabel")
    pytest.importorskip("nilearn")
    spec = Data(source="mni-slices", options={"folder": str(tmp_path_factory.mktemp("mni")), "scanners": ["noise"]})
    rows = source_for(spec).read(spec, None, ("image",), print).to_pylist()[::4][:12]
    images, masks = (np.stack([np.asarray(Image.open(row[name])) for row in rows]) for name in ("file", "mask_file"))
    return (np.digitize(images, [110, 160])).astype(np.uint8), masks.astype(np.uint8)


OWN_CALL = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
"""MONAI 1.6 calls its own deprecated argument."""


@pytest.mark.ml
@OWN_CALL
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.6, 2.2)])
def test_slices_of_a_brain_are_measured_as_monai_does(brain: Any, spacing: tuple[float, float]) -> None:
    pytest.importorskip("monai")
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    answered, truth = brain
    gates = [gate("hd95_mm_grey"), gate("hd95_mm_white"), surface("surface_dice_grey", 1.5)]
    found = measure_masks(answered, truth, LABELS, gates, [spacing] * len(truth))
    one_hot = [torch.nn.functional.one_hot(torch.from_numpy(x.astype(np.int64)), 3).movedim(-1, 1) for x in brain]
    theirs = compute_hausdorff_distance(*one_hot, percentile=95, spacing=list(spacing)).numpy()
    assert found["hd95_mm_grey"] == pytest.approx(theirs[:, 0], rel=1e-5)
    assert found["hd95_mm_white"] == pytest.approx(theirs[:, 1], rel=1e-5)
    near = compute_surface_dice(*one_hot, class_thresholds=[1.5, 1.5], spacing=list(spacing)).numpy()
    assert found["surface_dice_grey within 1.5 mm"] == pytest.approx(near[:, 0], rel=1e-6)
    assert theirs.min() >= 1 and 0.2 < near[:, 0].min() < 0.99, "answers that differ, or nothing was compared"


@pytest.mark.ml
@OWN_CALL
def test_a_volume_is_measured_as_monai_does(brain: Any) -> None:
    pytest.importorskip("monai")
    import torch
    from monai.metrics import compute_hausdorff_distance

    answered, truth = (x[None] for x in brain)  # twelve slices as one volume, (1, 12, 192, 80)
    spacing = (4.0, 1.0, 1.0)
    gates = [gate("hd95_mm_grey"), gate("volume_ml_error_white"), gate("volume_error_grey", at_most=0.5)]
    found = measure_masks(answered, truth, LABELS, gates, [spacing])
    one_hot = [
        torch.nn.functional.one_hot(torch.from_numpy(x.astype(np.int64)), 3).movedim(-1, 1) for x in (answered, truth)
    ]
    theirs = compute_hausdorff_distance(*one_hot, percentile=95, spacing=list(spacing)).numpy()
    assert found["hd95_mm_grey"] == pytest.approx(theirs[:, 0], rel=1e-5)
    ours, reference = (int((x == 2).sum()) for x in (answered, truth))
    assert found["volume_ml_error_white"] == pytest.approx([abs(ours - reference) * 4.0 / 1000])
    greys = [int((x == 1).sum()) for x in (answered, truth)]
    assert found["volume_error_grey"] == pytest.approx([abs(greys[0] - greys[1]) / greys[1]])


def squares(*sides: int) -> NDArray[np.uint8]:
    """One case for each side: class 1 in a square of it, none for 0."""
    masks = np.zeros((len(sides), 20, 20), np.uint8)
    for mask, side in zip(masks, sides, strict=True):
        mask[2 : 2 + side, 2 : 2 + side] = 1
    return masks


def test_empty_masks_have_stated_values() -> None:
    gates = [gate("hd95_mm_grey"), surface("surface_dice_grey", 1), gate("volume_error_grey", at_most=0.1)]
    found = measure_masks(squares(0, 6, 0, 6), squares(0, 0, 6, 6), LABELS, gates, [(2.0, 1.0)] * 4)
    diagonal = float(np.hypot(19 * 2.0, 19 * 1.0))
    assert found["hd95_mm_grey"] == pytest.approx([0, diagonal, diagonal, 0])
    assert found["surface_dice_grey within 1 mm"].tolist() == [1, 0, 0, 1]
    assert found["volume_error_grey"].tolist() == [0, 1, 1, 0]


def test_a_mean_is_over_all_labels_but_the_background() -> None:
    answered, truth = squares(6), squares(4)
    truth[0, 12:18, 12:18], answered[0, 12:18, 12:18] = 2, 2
    gates = [gate("mean_volume_error", at_most=0.5), gate("mean_hd95_mm"), gate("hd95_mm_grey")]
    found = measure_masks(answered, truth, LABELS, gates, [(1.0, 1.0)])
    assert found["mean_volume_error"] == pytest.approx([(1.0 + 0.0) / 2])
    assert found["mean_hd95_mm"] == pytest.approx(found["hd95_mm_grey"] / 2)


def test_spacing_is_scaled_to_the_size_that_is_scored() -> None:
    """A square grown by two of 40 rows is one of 20 rows further: 2 x 0.5 mm either way."""
    masks = np.zeros((1, 40, 40), np.uint8)
    masks[0, 10:20, 10:30] = 1
    rows = rows_of(masks).append_column("spacing", [["3 0.5 1"]])
    assert scored_spacings(rows, (20, 40)) == [(3.0, 1.0, 1.0)]
    logits = np.zeros((1, 2, 20, 40), np.float32)
    logits[0, 1, 5:11, 10:30], logits[0, 0] = 1.0, 0.5
    gates = [gate("hd95_mm_grey"), gate("volume_ml_error_grey"), surface("surface_dice_grey", 0.9)]
    found = Segmentation().measure({"logits": logits}, rows, LABELS[:2], gates)
    assert found["hd95_mm_grey"] == pytest.approx([1.0])
    assert found["volume_ml_error_grey"] == pytest.approx([20 * 3.0 * 1.0 * 1.0 / 1000])
    assert found["surface_dice_grey within 0.9 mm"][0] < 1


def test_more_cases_than_are_read_at_a_time_keep_their_order() -> None:
    sides = [1 + place % 15 for place in range(70)]
    masks = squares(*sides)
    logits = np.stack([masks != 1, masks == 1], axis=1).astype(np.float32)
    wrong = gate("volume_error_grey", at_most=0.5)
    shifted = Segmentation().measure({"logits": np.roll(logits, 1, axis=0)}, rows_of(masks), LABELS[:2], [wrong])
    areas = np.array(sides) ** 2
    expected = np.minimum(1, np.abs(np.roll(areas, 1) - areas) / areas)
    assert shifted["volume_error_grey"] == pytest.approx(expected)


def test_only_what_gates_name_is_measured() -> None:
    gates = [gate("mean_dice", at_least=0.5), gate("latency_p50_ms", at_most=3)]
    assert Segmentation().measure({}, None, LABELS, gates) == {}  # type: ignore[arg-type]


def test_what_cannot_be_had_is_named() -> None:
    masks = squares(4)
    rows = rows_of(masks)
    logits = np.stack([masks != 1, masks == 1], axis=1).astype(np.float32)
    with pytest.raises(StepError, match="hd95_mm_grey needs the size of a pixel in mm"):
        Segmentation().measure({"logits": logits}, rows, LABELS[:2], [gate("hd95_mm_grey")])
    flat = rows.append_column("spacing", [["0.5 0.5"]])
    with pytest.raises(StepError, match="the thickness of a slice is missing"):
        Segmentation().measure({"logits": logits}, flat, LABELS[:2], [gate("volume_ml_error_grey")])
    with pytest.raises(StepError, match="no label is called 'black'"):
        Segmentation().measure({"logits": logits}, flat, LABELS[:2], [gate("hd95_mm_black")])
