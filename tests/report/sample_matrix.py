"""Sample targets with many runtimes, with invented numbers: what the target pages are looked at with."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeft.evaluate.gates import decide_resource_gate
from edgeft.gate import Gate
from edgeft.measurement import Measurement
from edgeft.record import CandidateRow, DifferenceRow, LatencyRow, OperatorRow, ProbeRow, RooflineRow, TargetRow
from tests.report.sample_parts import samples
from tests.report.sample_rows import candidate

RUNTIMES = {
    "onnx": "onnxruntime",
    "ort": "onnxruntime",
    "litert": "litert",
    "openvino": "openvino",
    "executorch": "executorch",
    "ncnn": "ncnn",
}
KERNELS = {
    "litert": ("CPU", "XNNPACK"),
    "executorch": ("portable", "XnnpackBackend"),
    "openvino": ("CPU brgemm_avx512_f32", ""),
}
"""Exporter -> names that its runtime gives its own kernels and its delegate, empty where there is none."""
# name, p50 in ms, megabytes, accuracy, status, why
RAN = [
    ("litert/int8-dynamic", 2.31, 23.1, 0.9122, "chosen", "fastest"),
    ("openvino/int8", 2.58, 23.4, 0.9133, "eligible", "slower than litert/int8-dynamic"),
    ("litert/int8-static", 2.44, 22.8, 0.8741, "rejected", "accuracy drops by 0.0412 on the search set, the gate allows 0.02"),
    ("openvino/bf16", 4.12, 45.6, 0.9151, "eligible", "slower than litert/int8-dynamic"),
    ("onnx/int8-dynamic", 4.31, 22.9, 0.9122, "eligible", "slower than litert/int8-dynamic"),
    ("ort/int8-dynamic", 4.35, 23.0, 0.9122, "eligible", "slower than litert/int8-dynamic"),
    ("onnx/int4-weights", 7.42, 14.8, 0.9031, "eligible", "slower than litert/int8-dynamic"),
    ("litert/float", 7.49, 90.7, 0.9153, "eligible", "slower than litert/int8-dynamic"),
    ("openvino/float", 7.71, 90.9, 0.9153, "eligible", "slower than litert/int8-dynamic"),
    ("onnx/float", 9.90, 90.4, 0.9153, "eligible", "slower than litert/int8-dynamic"),
    ("ort/float", 9.95, 90.6, 0.9153, "eligible", "slower than litert/int8-dynamic"),
    ("executorch/float", 12.8, 91.2, 0.9153, "rejected", "latency_p90_ms is 13.2, the gate allows 6"),
    ("onnx/int8-static", 15.9, 23.4, 0.5418, "rejected", "accuracy drops by 0.373 on the search set, the gate allows 0.02"),
]  # fmt: skip
REFUSED = [
    ("executorch/int8-static", "unsupported", "quantized_decomposed::quantize_per_tensor: has an index as input, which has no scale"),
    ("ncnn/float", "unsupported", "IsNaN: pnnx has no layer for it"),
    ("ncnn/float16", "unsupported", "there is no float export: IsNaN: pnnx has no layer for it"),
    ("coreml/float", "failed", "prediction needs macOS; the export itself is in the bundle"),
]  # fmt: skip
KINDS = (
    "MatMul",
    "Softmax",
    "LayerNormalization",
    "Gelu",
    "Add",
    "Transpose",
    "Reshape",
    "Gather",
    "Mul",
    "DynamicQuantizeLinear",
    "Cast",
    "Slice",
    "Concat",
    "Erf",
    "Where",
)


def matrix_targets(targets: list[TargetRow]) -> list[TargetRow]:
    """The three targets of `sample.matrix` with all their candidates; gate sets are kept as they come."""
    local, board, emulated = targets
    slow = [_slower(row) for row in RAN]
    found = [
        _fill(local, [_ran(local.device, *row, index=i) for i, row in enumerate(RAN)], 6.0),
        _fill(board, [_ran(board.device, *row, index=i, board=True) for i, row in enumerate(slow)], 40.0),
        _fill(
            emulated,
            [_emulated(emulated.device, *row) for row in RAN if row[0].startswith(("onnx/f", "onnx/int8", "litert"))],
            None,
        ),
    ]
    against = [DifferenceRow(candidate=row.name, against="local-cpu", n=120, max_abs=0.0028 * (1 + i), mean_abs=0.00041, top1_agreement=1 - 0.0083 * i)
               for i, row in enumerate(found[2].candidates[:3])]  # fmt: skip
    found[2] = found[2].model_copy(
        update={"how": "emulated", "optimise": "size", "differences": against, "probe": None}
    )
    return found


def _fill(target: TargetRow, rows: list[CandidateRow], most: float | None) -> TargetRow:
    refused = [_refused(*row) for row in REFUSED]
    verdicts = [v for v in target.verdicts if not str(v["metric"]).startswith("latency_")]
    chosen = next(row for row in rows if row.status == "chosen")
    if most is not None:
        found = {item["metric"]: Measurement.from_json(item) for item in chosen.metrics}
        gate = Gate(metric="latency_p90_ms", at_most=most)
        verdicts.append(decide_resource_gate(gate, target.device, found.get("latency_p90_ms")).to_json())
    facts = {"machine": "aarch64" if most != 6.0 else "x86_64", "cpu_flags": "asimd asimddp asimdhp crc32 fphp" if most != 6.0 else "amx_int8 avx2 avx512_bf16 avx512_vnni avx512f f16c fma sse4_2",
             "cpus": "4", "python": "3.11.7", "onnxruntime": "1.31.0", "ai-edge-litert": "2.1.0"}  # fmt: skip
    probe = ProbeRow(threads=1, gemm={"float32": 249.0, "int8": 918.0}, bandwidth=24.1, how="best of 5 probes of 0.4 s each: GEMM 512 x 512 x 512 and a 256 MB read")  # fmt: skip
    return target.model_copy(
        update={
            "candidates": rows + refused, "chosen": chosen.name, "verdicts": verdicts, "conditions": facts, "probe": probe,
            "why": f"fastest of 8 eligible: p50 {chosen.latency.samples_ms[0]:.3g} ms" if chosen.latency else "smallest of 4 eligible",
        }
    )  # fmt: skip


def _ran(device: str, name: str, p50: float, size: float, accuracy: float, status: str, why: str, *, index: int, board: bool = False) -> CandidateRow:  # fmt: skip
    exporter = name.split("/")[0]
    bad = board and name in ("openvino/bf16", "onnx/float")
    more: dict[str, Any] = {}
    if exporter == "ort":
        more["notes"] = ["mobile usability checker: NNAPI and Core ML would take 187 of 211 nodes in 9 partitions; the CPU is likely faster"]  # fmt: skip
    own, delegate = KERNELS.get(exporter, ("CPUExecutionProvider", ""))
    more |= {"placement": {delegate: 187, own: 24}, "fallback": 24 / 211} if delegate else {"placement": {own: 211}}
    int8 = "int8" in name or "bf16" in name
    roofline = RooflineRow(floor_ms=1.53 if int8 else 5.44, compute_ms=1.48 if int8 else 5.31, memory_ms=0.95 if int8 else 3.7, gigaops=1.36, megabytes=size,
                           basis=f"GEMM {'int8' if int8 else 'float32'} and read bandwidth, probed on this device, one thread")  # fmt: skip
    scale = 5.2 if board else 1.0
    roofline = roofline.model_copy(update={key: getattr(roofline, key) * scale for key in ("floor_ms", "compute_ms", "memory_ms")})  # fmt: skip
    runs = samples(p50, seed=index + 3)
    row = candidate(
        device, name, status, why, p50, size, accuracy, latency=_latency(runs, bad, board, index),
        operators=_operators(p50, exporter, index), roofline=roofline, **{"notes": [], **{k: v for k, v in more.items() if k == "notes"}},
    )  # fmt: skip
    changes = {k: v for k, v in more.items() if k != "notes"}
    return row.model_copy(update={"exporter": exporter, "runtime": RUNTIMES[exporter], "variant": {"name": name.split("/")[1]}, **changes})  # fmt: skip


def _latency(runs: list[float], bad: bool, board: bool, index: int) -> LatencyRow:
    random = np.random.default_rng(index)
    base = 1.9 if board else 1.213
    sentinels = base * (1 + np.abs(random.normal(0, 0.015, 25)))
    sentinels[3] *= 1.13 if index % 4 == 0 else 1
    if bad:
        sentinels[9:] *= np.linspace(1.02, 1.34, 16)
    reasons = ["too few valid blocks: 41 of 64 runs in 6.3 of 10 s; beside 15 of 24 blocks fixed work took over 10% longer than at its speed",
               "the clock changed: 1500 to 2400 MHz over thirds of the run"] if bad else []  # fmt: skip
    facts = {"blocks": f"{9 if bad else 24} valid, {15 if bad else int(index % 4 == 0)} void and timed again", "core_share": f"{0.99 - index * 0.001:.2f}",
             "warm_up": "96 runs, settled", "sentinel_ms": "1.21 before, 1.21 to 1.26 during, 1.22 after", "governor": "ondemand" if board else "performance",
             "clock_mhz": "2400 before, 1500 to 2400 during, 1500 after" if bad else "2400 before, 2400 to 2400 during, 2400 after",
             "temperature_c": f"{52 + index} before, {55 + index} to {84 if bad else 61 + index} during, {83 if bad else 60 + index} after"}  # fmt: skip
    return LatencyRow(
        samples_ms=runs[: 41 if bad else None], runs=41 if bad else len(runs), warmup_runs=96, seconds=10.2, threads=1, shape="1x64", protocol="quick",
        throttled=bad, valid=not bad, reasons=reasons, discarded=61 if bad else 43 * int(index % 4 == 0),
        early_stopping_p90_ms=None if bad else float(np.percentile(runs, 91.4)), sentinel_ms=[round(float(x), 4) for x in sentinels], conditions=facts,
    )  # fmt: skip


def _operators(p50: float, exporter: str, index: int) -> list[OperatorRow]:
    random = np.random.default_rng(index + 40)
    weights = np.concatenate([random.uniform(0.7, 1.0, 36) * 8, random.exponential(0.3, 120)])
    times = weights / weights.sum() * p50 * 1.12
    kinds = ["MatMul"] * 36 + [KINDS[1 + i % (len(KINDS) - 1)] for i in range(120)]
    rest, delegate = KERNELS.get(exporter, ("CPUExecutionProvider", ""))
    return [
        OperatorRow(name=f"/encoder/layer.{i % 6}/{kind.lower()}_{i}", op=kind, backend=delegate if delegate and kind != "Gather" else rest, ms=float(ms), share=float(ms / times.sum()))
        for i, (kind, ms) in enumerate(zip(kinds, times, strict=True))
    ]  # fmt: skip


def _emulated(device: str, name: str, p50: float, size: float, accuracy: float, status: str, why: str) -> CandidateRow:
    exporter = name.split("/")[0]
    state, reason = (status, why) if status == "rejected" else ("eligible", "larger than onnx/int8-dynamic")
    if name == "onnx/int8-dynamic":
        state, reason = "chosen", "smallest"
    row = candidate(device, name, state, reason, p50, size, accuracy - 0.004, timed=False, how="emulated")
    metrics = [{**item, "n": 120} if item["metric"] != "artifact_mb" else item for item in row.metrics]
    return row.model_copy(
        update={"exporter": exporter, "runtime": RUNTIMES[exporter], "metrics": metrics, "placement": {}}
    )


def _refused(name: str, status: str, why: str) -> CandidateRow:
    exporter = name.split("/")[0]
    return CandidateRow(name=name, exporter=exporter, runtime=RUNTIMES.get(exporter, exporter), variant={"name": name.split("/")[1]}, status=status, why=why)  # fmt: skip


def _slower(row: tuple[str, float, float, float, str, str]) -> tuple[str, float, float, float, str, str]:
    """The same candidate on a board: five times the time, and other reasons."""
    name, p50, size, accuracy, status, why = row
    why = "latency_p90_ms is 69.4, the gate allows 40" if status == "rejected" and "latency" in why else why
    return name, p50 * (5.1 + 0.4 * ("openvino" in name)), size, accuracy, status, why
