"""What of a measurement may be shown, and what must be said with it."""

from __future__ import annotations

from edgeft.record import CandidateRow, TargetRow

TIMES = "_ms"
MEMORY = "peak_memory_mb"
NEVER_RAN = ("unsupported", "failed")


def timing_faults(row: CandidateRow) -> list[str]:
    """Why a candidate's times are INVALID; empty when they are VALID or were not taken."""
    part = row.latency
    if part is None:
        return []
    if part.valid:  # records from before there were reasons say only that the machine was not steady
        return ["the machine was not steady"] if part.throttled and not part.conditions else []
    return part.reasons or ["no reason was recorded"]


def hide_time(target: TargetRow) -> TargetRow:
    """An emulated target without any time or memory, whatever its record holds: under emulation they mean nothing."""
    if target.how != "emulated":
        return target
    rows = [
        row.model_copy(
            update={
                "latency": None,
                "operators": [],
                "roofline": None,
                "metrics": [item for item in row.metrics if not is_time(str(item.get("metric", "")))],
            }
        )
        for row in target.candidates
    ]
    kept = [item for item in target.verdicts if not is_time(str(item.get("metric", ""))) or item.get("value") is None]
    return target.model_copy(update={"candidates": rows, "verdicts": kept, "probe": None})


def is_time(metric: str) -> bool:
    """True for what an emulator distorts: times, and the memory of its process."""
    return metric.endswith(TIMES) or metric == MEMORY
