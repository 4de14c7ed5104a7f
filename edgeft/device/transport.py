"""The contract of a transport: how a job's folder reaches a device and what comes back."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgeft import plugins
from edgeft.device.protocol import TIMED, Job, OnProgress, Result, ignore_progress
from edgeft.errors import DeviceError

if TYPE_CHECKING:
    from edgeft.device.profile import Device

WORKER_FILES = ("worker.py", "timing.py", "conditions.py", "probes.py", "../medical/sliding.py", "../medical/order.py")


class Transport(Protocol):
    """One way to reach a device. Every `run` is a fresh process there; nothing of the job stays behind."""

    def __init__(self, device: Device) -> None: ...

    def run(self, job: Job, on_progress: OnProgress) -> Result:
        """Raises DeviceError when the device, and ArtefactRefused when its runtime, does not do the job."""
        ...


def worker_files() -> tuple[Path, ...]:
    """What travels with every job besides the runtime's file."""
    here = Path(__file__).resolve().parent
    return tuple((here / name).resolve() for name in WORKER_FILES)


def runtime_file(name: str) -> Path:
    """The one file of a runtime plugin, found without importing the runtime. DeviceError when there is none."""
    from importlib.metadata import entry_points

    for entry in entry_points(group="edgeft.runtimes", name=name):
        spec = find_spec(entry.module)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin)
    raise DeviceError(f"no runtime is called '{name}'", hint=f"known: {', '.join(plugins.names('runtimes'))}")


def run_job(device: Device, job: Job, on_progress: OnProgress = ignore_progress) -> Result:
    """Run a job on a device through its transport. Times that would not be the device's own are refused."""
    if job.kind in TIMED and not device.times_count:
        why = "is emulated" if device.how == "emulated" else "runs no worker, another machine answers for it"
        raise DeviceError(
            f"{device.name} {why}: a {job.kind} measurement there says nothing about the device",
            hint="gate accuracy and artifact_mb on it, and latency on a real device",
        )
    made: Transport = plugins.load("transports", device.transport)(device)
    return made.run(job, on_progress)
