"""Jobs on a machine with a shell, over any Link: work folder, cached models and runtime, one process, results.

Nothing of a job outlives it: the folder is removed when the job ends, when time runs out, on Ctrl-C, and, when the
link breaks, by the device itself, which also ends the process. Models stay in a cache there, by digest, up to a limit.
"""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.device.jobs import ENVIRONMENT, LARGEST_OUTPUTS, LONGEST_RESULT, OUTPUTS, RESULT, read_result, write_job
from edgeft.device.link import Link
from edgeft.device.process import run_process
from edgeft.device.protocol import ANSWERING, Job, OnProgress, Result
from edgeft.device.remote_python import Python, choose_python
from edgeft.device.remote_scripts import EVICT, RUN, SETUP, fill
from edgeft.device.transport import worker_files
from edgeft.device.travel import Cargo, pack_model
from edgeft.device.workspace import job_folder
from edgeft.errors import DeviceError

if TYPE_CHECKING:
    from edgeft.device.profile import Device

CACHE_MB = 2000
CACHE_DAYS = 30
OVERTIME = 60
"""Seconds after the host's own limit when the process there ends itself, should the link be gone."""
ALIEN = ("Exec format error", "cannot execute", "ELF", "Syntax error")
"""What shells say of a program of another processor; some take it for a script first."""


@dataclass(frozen=True)
class Place:
    """What the device said: its instruction set, the job's folder, the cache, digests of models it has."""

    machine: str
    work: str
    cache: str
    have: frozenset[str]


class RemoteTransport(ABC):
    """What ssh and adb share."""

    def __init__(self, device: Device) -> None:
        self.device = device

    @abstractmethod
    def connect(self) -> Link:
        """A Link that is a context manager. Raises DeviceError."""

    def run(self, job: Job, on_progress: OnProgress) -> Result:
        """Send what is not there yet, run, fetch, clean up."""
        cargo = {role: pack_model(path) for role, path in job.models.items()}
        with job_folder() as folder, self.connect() as link:  # type: ignore[attr-defined]
            place = self._set_up(link, cargo)
            try:
                return self._run(link, place, job, cargo, folder, on_progress)
            finally:
                with suppress(DeviceError):
                    link.ask(f"rm -rf {shlex.quote(place.work)}", 20)

    def _run(
        self, link: Link, place: Place, job: Job, cargo: dict[str, Cargo], folder: Path, on_progress: OnProgress
    ) -> Result:
        python = choose_python(self.device, link, place.machine, place.cache)
        self._send_models(link, place, cargo)
        paths = {role: f"{place.cache}/models/{item.digest}/{item.entry}" for role, item in cargo.items()}
        write_job(job, folder, paths)
        names = [
            "job.json",
            job.runtime.name,
            *(path.name for path in worker_files()),
            *(f"{r}.npz" for r in job.feeds),
        ]
        link.send({name: folder / name for name in names}, place.work)
        script = fill(
            RUN, work=place.work, python=python.command, seconds=int(job.timeout) + OVERTIME,
            variables=[f"{name}={value}" for name, value in {**ENVIRONMENT, **python.variables}.items()],
        )  # fmt: skip
        code = run_process(link.command(script), job, folder, on_progress, remote=True)
        said = (folder / "stderr.txt").read_bytes()[-4096:].decode("utf-8", "replace")
        if (error := link.failure(code, said)) is not None:
            raise error
        if link.fetch(f"{place.work}/{RESULT}", folder / RESULT, LONGEST_RESULT) and job.kind in ANSWERING:
            link.fetch(f"{place.work}/{OUTPUTS}", folder / OUTPUTS, LARGEST_OUTPUTS)
        return self._read(link, job, folder, code, python, said)

    def _read(self, link: Link, job: Job, folder: Path, code: int, python: Python, said: str) -> Result:
        """As everywhere, once a shell's ways of saying what happened are translated."""
        if code in (2, 126, 127) and any(words in said for words in ALIEN):
            raise DeviceError(
                f"{python.command[0]} does not run on the device: it is made for another processor",
                where=link.place,
                hint="edgeft devices add with the interpreter of that machine, or leave it out",
                excerpt="".join(c if c.isprintable() else "." for c in said[:200]),
            )
        if code == 127:
            raise DeviceError(f"there is no {python.command[0]} on the device", where=link.place, hint=python.hint)
        install = f"on the device: {' '.join(python.command)} -m pip install" if python.own else python.hint
        return read_result(job, folder, 128 - code if 128 < code < 192 else code, install=install)

    def _set_up(self, link: Link, cargo: dict[str, Cargo]) -> Place:
        """Make the job's folder, see what is cached; a machine of another architecture is refused."""
        unit = self.device.unit
        script = fill(
            SETUP, base=(unit.folder if unit else None) or "", temporary=link.temporary,
            digests=[item.digest for item in cargo.values()], days=CACHE_DAYS,
        )  # fmt: skip
        told = [
            line.partition("=") for line in link.check(link.ask(script), "no folder can be made there").splitlines()
        ]
        facts = {name: value for name, _, value in told}
        if not facts.get("work", "").startswith("/") or not facts.get("cache", "").startswith("/"):
            raise DeviceError("its shell gives no sensible answers", where=link.place)
        place = Place(
            facts.get("machine", ""), facts["work"], facts["cache"],
            frozenset(value for name, _, value in told if name == "have"),
        )  # fmt: skip
        known = {"aarch64": ("aarch64", "arm64"), "x86_64": ("x86_64", "amd64")}.get(self.device.architecture)
        if known and place.machine not in known:
            with suppress(DeviceError):
                link.ask(f"rm -rf {shlex.quote(place.work)}", 20)
            raise DeviceError(
                f"it is {place.machine or 'of an unknown architecture'}, the profile says {self.device.architecture}",
                where=link.place,
                hint="choose the device type that fits the machine: edgeft devices list",
            )
        return place

    def _send_models(self, link: Link, place: Place, cargo: dict[str, Cargo]) -> None:
        """Models it does not have, each whole or not at all; then the least recently used ones make room."""
        missing = {item.digest: item for item in cargo.values() if item.digest not in place.have}
        for digest, item in missing.items():
            final = f"{place.cache}/models/{digest}"
            beside = f"{place.cache}/models/.{digest}.{place.work.rpartition('-')[2]}"
            try:
                link.send(item.files, beside)
            except DeviceError:
                with suppress(DeviceError):
                    link.ask(f"rm -rf {shlex.quote(beside)}", 20)
                raise
            move = f"[ -d {shlex.quote(final)} ] || mv {shlex.quote(beside)} {shlex.quote(final)}"
            link.check(link.ask(f"{move}; rm -rf {shlex.quote(beside)}"), "a model cannot be kept")
        if missing:
            keep = [item.digest for item in cargo.values()]
            link.ask(fill(EVICT, models=f"{place.cache}/models", kilobytes=CACHE_MB * 1000, keep=keep))
