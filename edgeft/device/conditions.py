"""What the target says of itself: processor, clock, temperature, memory, cores. Travels with worker.py, no edgeft."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

CPUS = "/sys/devices/system/cpu"
ZONES = "/sys/class/thermal"
COLDEST, HOTTEST = -40.0, 200.0
"""Degrees Celsius outside which a thermal zone is not reporting a temperature."""


def pin(cores: Sequence[int]) -> str:
    """Keep this process, and threads it starts later, on these cores; says what came of it, empty for no wish."""
    if not cores:
        return ""
    wanted = ", ".join(str(core) for core in cores)
    if not hasattr(os, "sched_setaffinity"):
        return f"cores {wanted} asked, this system cannot pin"
    try:
        os.sched_setaffinity(0, set(cores))
    except OSError as error:
        return f"cores {wanted} asked, refused: {error.strerror}"
    return f"cores {wanted}"


def own_cores() -> tuple[int, ...]:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def reading() -> dict[str, float]:
    """Clock (mhz: the fastest of this process's cores), temperature (celsius: the hottest zone) and thermal throttle
    events of these cores so far, each where the system tells; a few file reads."""
    cores = own_cores()
    clocks = _numbers([f"{CPUS}/cpu{core}/cpufreq/scaling_cur_freq" for core in cores])
    events = _numbers([f"{CPUS}/cpu{core}/thermal_throttle/core_throttle_count" for core in cores])
    zones = Path(ZONES).glob("thermal_zone*/temp") if Path(ZONES).is_dir() else ()
    heats = [value / 1000 for value in _numbers([str(path) for path in zones])]
    heats = [value for value in heats if COLDEST < value < HOTTEST]
    found = {}
    if clocks:
        found["mhz"] = max(clocks) / 1000
    if heats:
        found["celsius"] = max(heats)
    if events:
        found["throttle_events"] = sum(events)
    return found


def waited_seconds() -> float | None:
    """Seconds that this process's threads stood ready and got no core, so far; None where the system does not tell."""
    folder = Path("/proc/self/task")
    try:
        texts = [_read(str(path / "schedstat")).split() for path in folder.iterdir()]
        return sum(int(parts[1]) for parts in texts if len(parts) == 3) / 1e9 if any(texts) else None
    except (OSError, ValueError):
        return None


def cpu_flags() -> tuple[str, ...]:
    """Instruction-set flags of the first core, sorted; empty where the system does not tell."""
    for line in _read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return tuple(sorted(set(value.split())))
    return ()


def processor() -> str:
    """The processor's name, empty where the system does not tell."""
    for line in _read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Hardware", "Model"):
            return " ".join(value.split())
    return ""


def cache_mb() -> float:
    """The first core's largest cache, MB; 0 where the system does not tell."""
    scale = {"K": 1024 / 1e6, "M": 1024**2 / 1e6}
    sizes = [_read(str(path)).strip() for path in Path(f"{CPUS}/cpu{own_cores()[0]}/cache").glob("index*/size")]
    return max((float(size[:-1]) * scale[size[-1]] for size in sizes if size[-1:] in scale), default=0.0)


def clock() -> dict[str, str]:
    """Governor and frequency of the first core this process may use, where they can be read."""
    folder = f"{CPUS}/cpu{own_cores()[0]}/cpufreq"
    found = {
        "governor": _read(f"{folder}/scaling_governor").strip(),
        "khz": _read(f"{folder}/scaling_cur_freq").strip(),
    }
    return {f"cpu_{name}": value for name, value in found.items() if value}


def peak_memory_mb() -> float | None:
    """Largest resident set of this process so far, MB (10^6 bytes): VmHWM, Windows' peak working set, else getrusage.

    None where the system tells none of them: a figure less, not a job that failed.
    """
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    if sys.platform == "win32":
        return _peak_working_set_mb()
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _peak_working_set_mb() -> float | None:
    """PeakWorkingSetSize of PROCESS_MEMORY_COUNTERS; Python's own library has no call for it on Windows."""
    import ctypes

    words = ("cb", "faults")
    sizes = (
        "peak_working_set",
        "working_set",
        "peak_paged",
        "paged",
        "peak_non_paged",
        "non_paged",
        "file",
        "peak_file",
    )

    class Counters(ctypes.Structure):
        _fields_ = [*((name, ctypes.c_uint32) for name in words), *((name, ctypes.c_size_t) for name in sizes)]

    try:
        system = getattr(ctypes, "WinDLL")("kernel32")  # noqa: B009  not in the ctypes of other systems
        current, ask = system.GetCurrentProcess, system.K32GetProcessMemoryInfo
    except (AttributeError, OSError):
        return None
    current.restype, current.argtypes = ctypes.c_void_p, ()
    ask.restype, ask.argtypes = ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32)
    found = Counters(cb=ctypes.sizeof(Counters))
    if not ask(current(), ctypes.byref(found), found.cb):
        return None
    return float(found.peak_working_set) / 1e6


def _numbers(paths: Sequence[str]) -> list[float]:
    found = []
    for path in paths:
        try:
            found.append(float(_read(path)))
        except ValueError:
            continue
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
