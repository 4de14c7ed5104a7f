"""What a timed run says: the distribution, whether it may be believed, and under which conditions it was taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from edgeft.device.quantiles import quantile, quantile_interval
from edgeft.device.timing import OWN_CORE, SLOWER
from edgeft.measurement import Measurement
from edgeft.record import LatencyRow
from edgeft.targets.early_stopping import early_stopping_estimate

CONFIDENCE = 0.95
KEPT_SAMPLES = 2048


@dataclass(frozen=True)
class Protocol:
    """runs and seconds: both at least. cold: fresh processes for start-up (7 give the median a 98% interval)."""

    runs: int
    seconds: float
    cold: int


PROTOCOLS = {"quick": Protocol(64, 10.0, 7), "full": Protocol(1024, 60.0, 15)}


def valid_samples(timed: Mapping[str, Any]) -> list[float]:
    """Milliseconds of every run of the valid blocks, in order."""
    return [float(value) for block in timed["blocks"] if not block["void"] for value in block["ms"]]


def latency_row(
    timed: Mapping[str, Any],
    plan: Protocol,
    *,
    threads: int,
    shape: str,
    protocol: Literal["quick", "full"],
    accelerated: bool = False,
) -> LatencyRow:
    """The record of a `latency` job's answer. Where no block was valid, the void ones are kept and shown as INVALID."""
    samples = valid_samples(timed)
    discarded = sum(len(block["ms"]) for block in timed["blocks"]) - len(samples)
    kept = samples or [float(value) for block in timed["blocks"] for value in block["ms"]]
    reasons = judge(timed, plan, accelerated=accelerated)
    return LatencyRow(
        samples_ms=thin(kept, KEPT_SAMPLES),
        runs=len(kept),
        warmup_runs=int(timed["warmup_runs"]),
        seconds=float(timed["seconds"]),
        threads=threads,
        shape=shape,
        protocol=protocol,
        throttled=bool(timed["throttled"]) or (not accelerated and core_share(timed) < OWN_CORE),
        valid=not reasons,
        reasons=reasons,
        discarded=discarded,
        early_stopping_p90_ms=early_stopping_estimate(samples),
        sentinel_ms=[float(value) for value in timed["sentinel_ms"]],
        conditions=conditions(timed),
    )


def judge(timed: Mapping[str, Any], plan: Protocol, *, accelerated: bool = False) -> list[str]:
    """Why the run is INVALID; empty where it is VALID. accelerated: the work is off the CPU, whose share says nothing.

    Too few runs or seconds in valid blocks; other work on the device's cores; a clock that moved by over 10% for a
    third of the run; the processor's own count of thermal throttling went up.
    """
    runs, seconds = len(valid_samples(timed)), float(timed["seconds"])
    reasons = []
    if runs < plan.runs or seconds < plan.seconds:
        void = sum(bool(block["void"]) for block in timed["blocks"])
        reasons.append(
            f"too few valid blocks: {runs} of {plan.runs} runs in {seconds:.1f} of {plan.seconds:g} s; beside {void} "
            f"of {len(timed['blocks'])} blocks fixed work took over {SLOWER - 1:.0%} longer than at its speed"
        )
    share = core_share(timed)
    if not accelerated and share < OWN_CORE:
        reasons.append(f"other work ran on the device: this process had {share:.0%} of a core, {OWN_CORE:.0%} needed")
    clocks = _readings(timed, "mhz")
    if len(clocks) >= 3:
        third = len(clocks) // 3
        middles = [median(part) for part in (clocks[:third], clocks[third:-third], clocks[-third:])]
        if max(middles) > SLOWER * min(middles):
            reasons.append(f"the clock changed: {min(middles):.0f} to {max(middles):.0f} MHz over thirds of the run")
    events = _readings(timed, "throttle_events")
    if events and events[-1] > events[0]:
        reasons.append(f"the processor throttled {events[-1] - events[0]:.0f} times for its temperature")
    return reasons


def core_share(timed: Mapping[str, Any]) -> float:
    """Processor time over wall time of the valid blocks (of all where none is), at most 1."""
    blocks = [block for block in timed["blocks"] if not block["void"]] or list(timed["blocks"])
    wall = sum(float(block["seconds"]) for block in blocks)
    return min(1.0, sum(float(block["cpu"]) for block in blocks) / wall) if wall > 0 else 1.0


def conditions(timed: Mapping[str, Any]) -> dict[str, str]:
    """The circumstances in words; what the device does not tell is left out."""
    blocks = timed["blocks"]
    void = sum(bool(block["void"]) for block in blocks)
    found = {
        "blocks": f"{len(blocks) - void} valid, {void} void and timed again",
        "core_share": f"{core_share(timed):.2f}",
        "warm_up": f"{timed['warmup_runs']} runs, {'settled' if timed['settled'] else 'not settled'}",
        "sentinel_ms": _before_during_after([float(value) for value in timed["sentinel_ms"]], "{:.3f}"),
    }
    for name, key in (("clock_mhz", "mhz"), ("temperature_c", "celsius")):
        if values := _readings(timed, key):
            found[name] = _before_during_after(values, "{:.0f}")
    if (waited := timed.get("waited_seconds")) is not None:
        found["waited_for_a_core"] = f"{float(waited):.2f} s"
    if governor := timed.get("clock", {}).get("cpu_governor"):
        found["governor"] = str(governor)
    if timed.get("affinity"):
        found["affinity"] = str(timed["affinity"])
    return found


def _readings(timed: Mapping[str, Any], key: str) -> list[float]:
    return [float(reading[key]) for reading in timed["readings"] if key in reading]


def _before_during_after(values: Sequence[float], form: str) -> str:
    first, last, least, most = (form.format(value) for value in (values[0], values[-1], min(values), max(values)))
    return f"{first} before, {least} to {most} during, {last} after"


def latency_measurements(samples: Sequence[float], where: str, note: str = "") -> list[Measurement]:
    """p50, p90 and p99 in ms with order-statistic intervals, widened for autocorrelation; None where n is too small."""
    found = []
    for percent in (50, 90, 99):
        interval, worth = quantile_interval(samples, percent / 100, CONFIDENCE)
        method = f"order statistics, {len(samples)} runs worth {worth:.0f} independent ones{note}"
        value = quantile(samples, percent / 100)
        name = f"latency_p{percent}_ms"
        found.append(Measurement(name, value, "ms", len(samples), "measured", where, interval, CONFIDENCE, method))
    return found


def processor_measurement(timed: Mapping[str, Any], where: str) -> Measurement | None:
    """Processor time of one run in ms, all threads together: the median of the valid blocks (of all where none is).

    None where the device did not count it.
    """
    blocks = [block for block in timed["blocks"] if not block["void"]] or list(timed["blocks"])
    values = [1e3 * float(block["cpu"]) / len(block["ms"]) for block in blocks]
    if not any(values):
        return None
    interval, _ = quantile_interval(values, 0.5, CONFIDENCE)
    method = f"processor time of the process over its runs, median of {len(values)} blocks"
    return Measurement(
        "processor_ms", quantile(values, 0.5), "ms", len(values), "measured", where, interval, CONFIDENCE, method
    )


def cold_measurements(starts: Sequence[Mapping[str, Any]], where: str) -> list[Measurement]:
    """Medians over fresh processes; the model's file is in the page cache, the runtime is imported before.

    No memory where the system does not tell it.
    """
    before = [float(start["before_mb"]) for start in starts if start["before_mb"] is not None]
    base = f" ({quantile(before, 0.5):.0f} MB before loading)" if before else ""
    memory = f"largest resident set of the process{base}, median"
    about = {
        "cold_load_ms": ("load_ms", "ms", "load of the model, median of fresh processes, file in the page cache"),
        "first_inference_ms": ("first_ms", "ms", "first run after loading, median of fresh processes"),
        "peak_memory_mb": ("peak_mb", "MB", memory),
    }
    found = []
    for metric, (key, unit, method) in about.items():
        values = [float(start[key]) for start in starts if start[key] is not None]
        if not values:
            continue
        interval, _ = quantile_interval(values, 0.5, CONFIDENCE)
        value = quantile(values, 0.5)
        found.append(Measurement(metric, value, unit, len(values), "measured", where, interval, CONFIDENCE, method))
    return found


def thin(samples: list[float], most: int) -> list[float]:
    """Evenly spaced samples, at most `most`, in order."""
    n = len(samples)
    return samples if n <= most else [samples[index * n // most] for index in range(most)]
