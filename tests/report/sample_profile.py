"""Sample records of `edgeft profile`, with invented numbers."""

from __future__ import annotations

from typing import Any

from edgeft.targets.profile.record import ComparisonRow, ModelRow, OutputRow, ProfileRecord, TensorRow
from tests.report import sample


def profile(**changes: Any) -> ProfileRecord:
    """A VALID profile of a model edgeft did not make, without a comparison; any field may be replaced."""
    target = sample.matrix().targets[0]
    row = next(item for item in target.candidates if item.name == "litert/int8-dynamic")
    inputs = [TensorRow(name=name, dtype="int64", shape=["batch", 64], run=[1, 64]) for name in ("input_ids", "mask")]
    model = ModelRow(
        file="sample-router.tflite",
        runtime="litert",
        bytes=row.bytes,
        sha256="7d" * 32,
        inputs=inputs,
        outputs=[TensorRow(name="logits", dtype="float32", shape=["batch", 8])],
    )
    fields: dict[str, Any] = {
        "edgeft": "0.1.0", "started": "2026-11-21T10:02:11Z", "device": "local-cpu", "protocol": "quick", "threads": 1,
        "batch": 1, "model": model, "inputs": "sample data: 64 random cases, seed 0", "verdict": "VALID", "reasons": [],
        "latency": row.latency, "metrics": row.metrics, "placement": row.placement, "fallback": row.fallback,
        "operators": row.operators, "roofline": row.roofline, "probe": target.probe, "conditions": target.conditions,
    }  # fmt: skip
    return ProfileRecord(**{**fields, **changes})


def compared() -> ProfileRecord:
    """The profile with another model timed in turns."""
    outputs = [OutputRow(name="logits", against="logits", n=64, max_abs=0.0121, mean_abs=0.0019, top1_agreement=0.984)]
    against = ComparisonRow(
        a="sample-router.tflite", b="peer.onnx", a_ms=2.29, b_ms=4.31, ratio=0.531, interval=(0.527, 0.536), blocks=16,
        discarded=41, runs=1804, valid=True, reasons=[], how="median of quadruples", a_bytes=23_100_000,
        b_bytes=22_900_000, outputs=outputs,
    )  # fmt: skip
    return profile(comparison=against)


def invalid() -> ProfileRecord:
    """A profile on a busy machine, of a runtime that has no operator profile."""
    reasons = ["other work ran on the device: this process had 61% of a core, 90% needed"]
    return profile(
        verdict="INVALID", reasons=reasons, operators=[], operators_note="this runtime has no profile of its operators",
        roofline=None, probe=None, roofline_note="no floor: the work of a .pte file is not known", placement={},
        fallback=None,
    )  # fmt: skip


EVERY = {"plain": profile, "compared": compared, "invalid": invalid}
