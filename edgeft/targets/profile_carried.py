"""A profile whose jobs a person carries to the device and back: packed here, run there, collected here."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgeft.artifact import Signature
from edgeft.device.carried import collect_results, pack_jobs
from edgeft.device.profile import Device, load_device
from edgeft.targets.profile_inputs import Feeds
from edgeft.targets.profile_model import Model, inspect_model, require_runtime
from edgeft.targets.profile_record import ProfileRecord
from edgeft.targets.profile_run import Ask, now, plan_profile, read_profile, refuse_emulated

HERE = "local-cpu"


def pack_profile(device: Device, model: Model, ask: Ask, place: Path) -> int:
    """Write every job of the profile into one zip; returns how many there are. The model is inspected here."""
    signature, feeds = _prepare(device, model, ask)
    with TemporaryDirectory(prefix="edgeft-probe-") as folder:
        jobs = plan_profile(device, model, signature, feeds, ask, Path(folder))
        pack_jobs(jobs, place)
    return len(jobs)


def collect_profile(device: Device, model: Model, ask: Ask, place: Path) -> tuple[ProfileRecord, dict[str, Any]]:
    """The record of what was carried back. The jobs are made again, since a result is bound to its job by a hash."""
    signature, feeds = _prepare(device, model, ask)
    with TemporaryDirectory(prefix="edgeft-probe-") as folder:
        jobs = plan_profile(device, model, signature, feeds, ask, Path(folder))
        answers = collect_results(jobs, place)
    return read_profile(device, model, signature, feeds, ask, answers, now())


def _prepare(device: Device, model: Model, ask: Ask) -> tuple[Signature, Feeds]:
    refuse_emulated(device)
    require_runtime(device, model.runtime)
    signature = inspect_model(load_device(HERE), model)
    return signature, ask.feeds(signature)
