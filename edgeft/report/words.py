"""Numbers and states as people read them; the same in the terminal, the report and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from edgeft.metric_names import is_share, unit_of

OF_A_LABEL = {
    "dice_": "Dice",
    "iou_": "IoU",
    "surface_dice_": "Surface Dice",
    "hd95_mm_": "HD95",
    "volume_error_": "Volume error",
    "volume_ml_error_": "Volume error in ml",
    "sensitivity_": "Sensitivity",
    "specificity_": "Specificity",
    "auroc_": "Area under the ROC curve",
    "average_precision_": "Average precision",
}
RUNTIMES = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
    "executorch": "ExecuTorch",
    "ncnn": "ncnn",
    "coreml": "Core ML",
}
METRICS = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "label_accuracy": "Label accuracy",
    "token_accuracy": "Token accuracy",
    "nll": "Negative log-likelihood",
    "perplexity": "Perplexity",
    "mean_dice": "Mean Dice",
    "mean_iou": "Mean IoU",
    "pixel_accuracy": "Pixel accuracy",
    "mean_surface_dice": "Mean surface Dice",
    "mean_hd95_mm": "Mean HD95",
    "mean_volume_error": "Mean volume error",
    "mean_volume_ml_error": "Mean volume error in ml",
    "flip_rate": "Changed answers",
    "ece": "Calibration error (ECE)",
    "brier": "Brier score",
    "latency_p50_ms": "Latency p50",
    "latency_p90_ms": "Latency p90",
    "latency_p99_ms": "Latency p99",
    "cold_load_ms": "Cold load",
    "first_inference_ms": "First inference",
    "peak_memory_mb": "Peak memory",
    "artifact_mb": "Size",
    "processor_ms": "Processor time",
    "energy_proxy_mj": "Energy proxy",
}
OUTCOMES = {
    "passed": ("PASS", "may ship"),
    "failed": ("FAIL", "may not ship"),
    "inconclusive": ("INCONCLUSIVE", "may not ship: the evidence is not enough"),
    "error": ("ERROR", "the build did not finish"),
    "interrupted": ("INTERRUPTED", "the build was stopped; run it again to continue"),
    "stopped": ("STOPPED", "ended where it was asked to, before the gates"),
}
DASH = "–"


def metric_name(metric: str) -> str:
    """`Latency p90` for latency_p90_ms; what follows a metric's name stays, a user's own metric keeps its name."""
    for family, name in OF_A_LABEL.items():
        if metric.startswith(family):
            return f"{name}, {metric.removeprefix(family)}"
    known = next((name for name in METRICS if metric.startswith(f"{name} ")), metric)
    return METRICS.get(known, known) + metric.removeprefix(known)


def runtime_name(runtime: str) -> str:
    """`ONNX Runtime` for onnxruntime."""
    return RUNTIMES.get(runtime, runtime)


def significant(value: float, digits: int = 3) -> str:
    """`0.0123`, `4.31`, `22.9`, `1,480`: three significant digits, but never fewer than the whole number has."""
    if not isfinite(value):
        return "not a number" if value != value else str(value)
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    if size < 1e-4:
        return f"{value:.{digits - 1}e}"
    places = digits - 1
    while size < 1:
        size, places = size * 10, places + 1
    return f"{value:.{places if size < 10 else places - len(f'{size:.0f}') + 1}f}"


def amount(metric: str, value: float | None, unit: str = "") -> str:
    """A value with its unit: `91.2%`, `4.31 ms`, `22.9 MB`."""
    if value is None:
        return DASH
    if is_share(metric):
        return f"{value * 100:.1f}%" if value == value else "not a number"
    unit = unit or unit_of(metric) or ("ms" if metric.endswith("_ms") else "MB" if metric.endswith("_mb") else "")
    return f"{significant(value)} {unit}".strip()


def interval_text(metric: str, interval: Any) -> str:
    """`4.25 to 4.40`, `89.8% to 92.6%`; empty without an interval."""
    if not interval:
        return ""
    low, high = float(interval[0]), float(interval[1])
    if is_share(metric):
        return f"{low * 100:.1f}% to {high * 100:.1f}%"
    places = places_for(low, high)
    return f"{low:,.{places}f} to {high:,.{places}f}"


def places_for(low: float, high: float) -> int:
    """Decimals at which rounding moves neither end by more than a quarter of the width or 2% of itself; at most 6."""
    for places in range(7):
        close = all(abs(round(end, places) - end) <= 0.02 * abs(end) for end in (low, high))
        if close and f"{low:.{places}f}" != f"{high:.{places}f}" and abs(high - low) >= 2 * 10.0**-places:
            return places
    return 6 if low != high else 2


def how_text(measurement: Mapping[str, Any]) -> str:
    """`measured, n = 1,024`: how the number was obtained."""
    parts = [str(measurement.get("how", "")), f"n = {int(measurement.get('n') or 0):,}"]
    return ", ".join(part for part in parts if part)


def times_text(ratio: float) -> str:
    """`2.6×`."""
    return f"{ratio:.1f}×" if ratio < 100 else f"{ratio:,.0f}×"


def bytes_text(count: int) -> str:
    """`22.9 MB` in powers of ten, as file sizes on devices are told."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{significant(value)} {unit}"
        value /= 1000
    return f"{significant(value)} GB"


def seconds_text(seconds: float) -> str:
    """`0.8 s`, `42 s`, `4 min 10 s`, `2 h 05 min`."""
    if not isfinite(seconds):
        return DASH
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count_text(count: int, one: str, many: str = "") -> str:
    """`1 case`, `1,480 cases`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def teacher_text(teacher: Mapping[str, Any]) -> str:
    """What a training step took from a teacher, as a sentence that begins with a space; empty without one."""
    if not teacher:
        return ""
    weights, losses = teacher["weights"], []
    if weights["task"]:
        losses.append(f"{weights['task']:g} x labels")
    if weights["logits"]:
        losses.append(f"{weights['logits']:g} x the teacher's classes at temperature {teacher['temperature']:g}")
    if weights["hidden"]:
        pairs = ", ".join(f"{ours}-{theirs}" for ours, theirs in teacher["layer_map"])
        mapped = f", {len(teacher['projected'])} of them through a trained projection" if teacher["projected"] else ""
        losses.append(f"{weights['hidden']:g} x hidden states ({teacher['hidden_loss']}; layers {pairs}{mapped})")
    if weights["attention"]:
        losses.append(f"{weights['attention']:g} x attention relations of the last layer")
    kept = teacher.get("student_layers")
    copied = (
        f" It began as {'layers' if len(kept) > 1 else 'layer'} {', '.join(map(str, kept))} of the model."
        if kept
        else ""
    )
    return f" Loss: {' + '.join(losses)}.{copied}"
