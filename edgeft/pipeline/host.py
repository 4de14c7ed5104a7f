"""What of this machine enters a cache key, and what the report says about it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

# Flags that change which kernels torch, oneDNN and ONNX Runtime pick, and with them the last bits of a result.
_X86 = (
    "avx avx2 avx_vnni avx512f avx512bw avx512vl avx512_vnni avx512_bf16 avx512_fp16 "
    "amx_tile amx_int8 amx_bf16 fma f16c"
)
_ARM = "asimd asimddp i8mm bf16 sve sve2 svei8mm svebf16"
_FLAGS = frozenset(f"{_X86} {_ARM}".split())


@cache
def cpu_flags() -> tuple[str, ...]:
    """The instruction-set flags that matter, sorted; empty where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return tuple(sorted(_FLAGS.intersection(value.split())))
    return ()


@cache
def cpu_model() -> str:
    """The processor's name as the system states it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def threads() -> int:
    """Threads to compute with: the cores this process may use, or fewer where OMP_NUM_THREADS says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(asked)) if asked.isdigit() and int(asked) > 0 else cores


@cache
def gpu_names() -> tuple[str, ...]:
    """CUDA GPUs by name, asked of the driver, not of torch: a plan must not import torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return ()
    names = []
    for folder in sorted(Path("/proc/driver/nvidia/gpus").glob("*")):
        try:
            lines = (folder / "information").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return tuple(names) or _asked_gpu_names()


def _asked_gpu_names() -> tuple[str, ...]:
    """What nvidia-smi lists, where the driver has no /proc folder (Windows, WSL, Jetson); empty without that tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    lines = answer.stdout.splitlines() if answer.returncode == 0 else []
    return tuple(line.strip() for line in lines if line.strip())


def numeric_host() -> dict[str, object]:
    """The host part of a numeric step's key: same seed and code on another instruction set gives other weights."""
    # The driver lists every GPU; which of them this process may use decides how many train and on which.
    visible = {"visible": os.environ.get("CUDA_VISIBLE_DEVICES")} if gpu_names() else {}
    return {
        **visible,
        "machine": platform.machine(),
        "flags": list(cpu_flags()),
        "cap": os.environ.get("ATEN_CPU_CAPABILITY", ""),
        "threads": threads(),
        "gpus": list(gpu_names()),
        "processes": int(os.environ.get("WORLD_SIZE") or 1),
    }


def measuring_host() -> dict[str, object]:
    """The host part of a measurement's key: a latency belongs to one machine."""
    return {**numeric_host(), "cpu": cpu_model(), "node": platform.node()}


@cache
def tool_version(distribution: str) -> str:
    """Installed version of a distribution, `absent` when it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "absent"


def environment(tools: Sequence[str]) -> dict[str, str]:
    """The report's environment table."""
    facts = {
        "Python": platform.python_version(),
        "System": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "Processor": cpu_model(),
        "Cores used": str(threads()),
        "CPU flags": " ".join(cpu_flags()) or "not told by the system",
        "GPU": ", ".join(gpu_names()) or "none",
    }
    facts.update({tool: tool_version(tool) for tool in sorted(set(tools))})
    return facts
