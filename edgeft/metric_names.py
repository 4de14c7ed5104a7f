"""Names of gated metrics, and what each family of them has in common: its range, its unit, which way is better."""

from __future__ import annotations

DATA_METRICS = frozenset({"accuracy", "macro_f1"})
"""Metrics of the gate set. A user's own metric (`file.py:function`) is one too."""
RATE_FAMILIES = ("sensitivity_", "specificity_")
RANKING_FAMILIES = ("auroc_", "average_precision_")
"""Beginnings of names that end in the label which counts as the finding, every other label being none."""
CALIBRATION_METRICS = frozenset({"ece", "brier"})
FLIP_RATE = "flip_rate"
"""Share of the cases whose answer is another than the source's, right or wrong."""
LABEL_ACCURACY = "label_accuracy"
"""Share of the labels that are right in a case, where a case has any number of them."""
OVERLAP_METRICS = ("mean_dice", "mean_iou", "pixel_accuracy", "dice_", "iou_")
SURFACE_DICE = ("mean_surface_dice", "surface_dice_")
VOLUME_METRICS = ("mean_volume_error", "volume_error_")
DISTANCE_METRICS = ("mean_hd95_mm", "hd95_mm_")
ML_METRICS = ("mean_volume_ml_error", "volume_ml_error_")
MASK_FAMILIES = ("dice_", "iou_", "surface_dice_", "volume_error_", "hd95_mm_", "volume_ml_error_")
"""Of segmentations, one for each label but the background."""
MASK_MEANS = ("mean_surface_dice", "mean_volume_error", "mean_hd95_mm", "mean_volume_ml_error")
"""Their means over the labels, which are computed only for a gate."""
TOKEN_ACCURACY = "token_accuracy"  # noqa: S105  a token of text
"""Share of a text's next tokens that are the likeliest."""
NLL = "nll"
"""Mean negative log-likelihood of a text's next tokens, in nats."""
UNIT_METRICS = (*OVERLAP_METRICS, *SURFACE_DICE, *VOLUME_METRICS, "brier", LABEL_ACCURACY, TOKEN_ACCURACY)
"""Metrics, or beginnings of their names, that are means of one value in [0, 1] per case."""
OPEN_METRICS = (*DISTANCE_METRICS, *ML_METRICS, NLL)
"""The same with values per case from 0 up, in mm, ml or nats, that have no largest one."""
CASE_METRICS = (*UNIT_METRICS, *OPEN_METRICS)
SPACED_METRICS = (*SURFACE_DICE, *DISTANCE_METRICS, *ML_METRICS)
"""What cannot be had without the size of a pixel in mm."""
LATENCY_METRICS = frozenset(
    {"latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "cold_load_ms", "first_inference_ms"}
)
RESOURCE_METRICS = LATENCY_METRICS | {"artifact_mb", "peak_memory_mb"}
LOWER_NAMES = RESOURCE_METRICS | CALIBRATION_METRICS | {FLIP_RATE}
LOWER_FAMILIES = (*VOLUME_METRICS, *OPEN_METRICS)

SHARE_METRICS = DATA_METRICS | {"pixel_accuracy", LABEL_ACCURACY, TOKEN_ACCURACY, FLIP_RATE}

HEADLINES = ("accuracy", "mean_dice", TOKEN_ACCURACY, LABEL_ACCURACY, "macro_f1")
"""What tasks are shown by, in sentences and plots: the first of these that there is."""


def is_share(metric: str) -> bool:
    """Whether people read it as a percentage."""
    return metric in SHARE_METRICS or metric.startswith(RATE_FAMILIES)


def is_own(metric: str) -> bool:
    """Whether it is a user's function, `file.py:function`, of which nothing is known but what the gate states."""
    return ".py:" in metric


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value is the better one."""
    return metric in LOWER_NAMES or (metric.startswith(LOWER_FAMILIES) and not is_own(metric))


def unit_of(metric: str) -> str:
    """`mm`, `ml` or `nats`; empty for what has no unit."""
    if metric == NLL:
        return "nats"
    return "mm" if metric.startswith(DISTANCE_METRICS) else "ml" if metric.startswith(ML_METRICS) else ""
