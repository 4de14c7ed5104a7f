"""A profile whose jobs a person carries to the device and back: packed here, run there, collected here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgeft.artifact import Signature
from edgeft.device.carried import collect, pack
from edgeft.device.identity import contradictions
from edgeft.device.profile import Device, load_device
from edgeft.device.protocol import ArtefactRefused, Result
from edgeft.errors import DeviceError, RecipeError
from edgeft.targets.artifact_jobs import is_timing
from edgeft.targets.profile.inputs import Feeds
from edgeft.targets.profile.model import Model, inspect_model, require_runtime
from edgeft.targets.profile.record import ProfileRecord
from edgeft.targets.profile.run import Ask, now, plan_profile, read_profile, refuse_times

HERE = "local-cpu"


def pack_profile(device: Device, model: Model, ask: Ask, place: Path) -> int:
    """Write every job of the profile into one zip; returns how many there are.

    Inputs and outputs of the model are asked of its runtime on this machine. DeviceError, ArtefactRefused.
    """
    signature, feeds = _prepare(device, model, ask)
    with TemporaryDirectory(prefix="edgeft-probe-") as folder:
        jobs = plan_profile(device, model, signature, feeds, ask, Path(folder))
        pack(jobs, place, {**_about(device, model, ask, feeds), "packed": now()})
    return len(jobs)


def collect_profile(
    device: Device, model: Model, ask: Ask, job_zip: Path, result_zip: Path
) -> tuple[ProfileRecord, dict[str, Any]]:
    """The record of what was carried back. RecipeError where the model or an option is not that of the packed job,
    DeviceError where the timing failed there, or the machine is not one that the profile describes.

    What failed beside the timing (operators, peak rates) is said in the record: it cost a person a way there.
    """
    found = collect(job_zip, result_zip)
    signature, feeds = _prepare(device, model, ask)
    for key, value in _about(device, model, ask, feeds).items():
        if found.about.get(key) != value:
            raise RecipeError(
                f"{job_zip.name} was packed with {key} '{found.about.get(key, '')}', now it is '{value}'",
                hint="give the model and the options that were packed",
            )
    answers: dict[str, Result | ArtefactRefused] = {}
    for name in found:
        try:
            answers[name] = found[name]
        except ArtefactRefused as refusal:
            answers[name] = refusal
        except DeviceError as failure:
            if is_timing(name):
                raise
            answers[name] = ArtefactRefused(failure.what)
    _refuse_another(device, answers["describe"], found.machine, result_zip)
    record, raw = read_profile(device, model, signature, feeds, ask, answers, str(found.about.get("packed", now())))
    return record.model_copy(update={"conditions": {**record.conditions, "transport": "carried by hand"}}), raw


def _refuse_another(
    device: Device, described: Result | ArtefactRefused, ran: Mapping[str, str], result_zip: Path
) -> None:
    """DeviceError where the result is of a machine or system that the profile excludes. ran: what run.py said of it."""
    if isinstance(described, ArtefactRefused):  # then what platform.platform() wrote: Windows-10-10.0.19045, macOS-14.5
        facts = {**ran, "system": ran.get("system", "").partition("-")[0]}
    else:
        facts = described.data.get("facts", {})
    if against := contradictions(device, {str(name): str(value) for name, value in facts.items()}):
        raise DeviceError(
            f"was not made on {device.name}: {'; '.join(against)}", where=str(result_zip),
            hint="run the job on the device itself; a profile of the machine that ran it takes its times",
        )  # fmt: skip


def _about(device: Device, model: Model, ask: Ask, feeds: Feeds) -> dict[str, str]:
    """What a result must have been made of."""
    return {
        "device": device.name, "model": model.label, "sha256": model.artifact.digest, "protocol": ask.protocol,
        "inputs": feeds.said,
    }  # fmt: skip


def _prepare(device: Device, model: Model, ask: Ask) -> tuple[Signature, Feeds]:
    refuse_times(device)
    require_runtime(device, model.runtime)
    signature = inspect_model(load_device(HERE), model)
    return signature, ask.feeds(signature)
