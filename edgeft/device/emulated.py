"""Another processor by qemu's user mode, on this machine. Its answers are real and may differ; its times mean nothing.

A relative of this machine's processor (x86-64 without VNNI on x86-64) runs this interpreter and its packages; another
architecture runs the prepared runtime folder. qemu before 8.1 shows programs the host's own /proc/cpuinfo, in which
runtimes look for instructions, so the guest is given one that fits the processor.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.device.jobs import ENVIRONMENT, read_result, write_job
from edgeft.device.prepare import LEFT_OUT, machine, needs_folder, prepared
from edgeft.device.prepare_manifest import read_manifest
from edgeft.device.process import run_process
from edgeft.device.protocol import ArtefactRefused, Job, OnProgress, Result
from edgeft.device.transport import runtime_file
from edgeft.device.workspace import job_folder
from edgeft.errors import DeviceError

if TYPE_CHECKING:
    from edgeft.device.profile import Device

ARMV8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
ARMV8_2 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
ARM = {
    "cortex-a53": ("0xd03", ARMV8),
    "cortex-a57": ("0xd07", ARMV8),
    "cortex-a72": ("0xd08", ARMV8),
    "cortex-a55": ("0xd05", ARMV8_2),
    "cortex-a76": ("0xd0b", ARMV8_2),
    "neoverse-n1": ("0xd0c", ARMV8_2),
    "cortex-a710": ("0xd47", f"{ARMV8_2} i8mm bf16"),
}
"""qemu's name -> part number and features, as Linux prints them (Arm's technical reference manuals, MIDR_EL1)."""
GUEST_PATHS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV")
"""Variables that would make the guest load this machine's files."""


class EmulatedTransport:
    """Runs jobs under qemu."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def run(self, job: Job, on_progress: OnProgress) -> Result:
        """As on this machine, only slower, about 100 times. DeviceError without qemu or the prepared folder."""
        qemu = find_emulator(self.device)
        with job_folder() as folder:
            write_job(job, folder)
            overlay = folder / "guest"
            write_cpuinfo(self.device, overlay / "proc")
            command = [qemu, *_processor(self.device), "-L", str(overlay)]
            command += ["-U", "LD_PRELOAD", *self._python(job, overlay), "-u", "worker.py", "job.json"]
            code = run_process(command, job, folder, on_progress, env=self._environment())
            self._explain(folder / "stderr.txt")
            again = f"edgeft devices prepare {self.device.name} --force, with the runtime in the profile, fetches"
            install = again if needs_folder(self.device) else f"{sys.executable} -m pip install"
            return read_result(job, folder, code, install=install)

    def _python(self, job: Job, overlay: Path) -> list[str]:
        """The interpreter; the guest's root is linked into the overlay, so that one folder serves every processor."""
        if not needs_folder(self.device):
            return [sys.executable]
        root = self._folder() / "root"
        manifest = read_manifest(root.parent)
        for runtime, why in LEFT_OUT.items():
            if job.runtime.stem == runtime_file(runtime).stem:
                raise ArtefactRefused(f"{runtime} cannot be in a prepared folder: {why}")
        for name in ("lib", "lib64", "usr"):
            if (root / name).exists():
                (overlay / name).symlink_to(root / name)
        return [str(root / "usr" / "bin" / f"python{manifest['python']}")]

    def _folder(self) -> Path:
        folder = prepared(self.device)
        if folder is None:
            raise DeviceError(
                f"{self.device.name} is not prepared: its runtime folder is not here, or was made for other versions",
                hint=f"edgeft devices prepare {self.device.name}",
            )
        return folder

    def _environment(self) -> dict[str, str]:
        if not needs_folder(self.device):
            return {**os.environ, **ENVIRONMENT, "PYTHONSAFEPATH": "1"}
        root = self._folder() / "root"
        own = {"PYTHONHOME": str(root / "usr"), "PYTHONPATH": str(root / "site")}
        kept = {name: value for name, value in os.environ.items() if name not in GUEST_PATHS}
        return {**kept, **ENVIRONMENT, **own, "PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1"}

    def _explain(self, noise: Path) -> None:
        """qemu's own refusals, which would read as a crash of the worker."""
        said = noise.read_bytes()[:4096].decode("utf-8", "replace")
        if "unable to find CPU model" in said:
            raise DeviceError(
                f"this qemu knows no processor '{self.device.emulate}'",
                hint=f"{find_emulator(self.device)} -cpu help lists them",
            )


def find_emulator(device: Device) -> str:
    """Path of qemu for the device's instruction set. DeviceError when it is not installed."""
    target = machine() if device.architecture == "host" else device.architecture
    for name in (f"qemu-{target}-static", f"qemu-{target}"):
        if found := shutil.which(name):
            return found
    raise DeviceError(
        f"{device.name} needs qemu-{target}, and it is not installed", hint="apt install qemu-user-static"
    )


def emulator_version(device: Device) -> str:
    """First line of `qemu --version`. DeviceError when it is not installed."""
    return _version(find_emulator(device))


@cache
def _version(path: str) -> str:
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.partition("\n")[0]


def write_cpuinfo(device: Device, folder: Path) -> None:
    """proc/cpuinfo of the guest: ARM's form for ARM; for x86-64 the profile's flags where it states them."""
    folder.mkdir(parents=True)
    target = machine() if device.architecture == "host" else device.architecture
    if target == "aarch64":
        part, features = ARM.get(device.emulate or "", ("0xd0b", ARMV8))
        rows = {
            "BogoMIPS": "54.00", "Features": " ".join(device.cpu_flags) or features, "CPU implementer": "0x41",
            "CPU architecture": "8", "CPU variant": "0x1", "CPU part": part, "CPU revision": "0",
        }  # fmt: skip
    elif device.cpu_flags:
        rows = {"vendor_id": "GenuineIntel", "model name": device.processor, "flags": " ".join(device.cpu_flags)}
    else:
        return
    block = "".join(f"{name}\t: {value}\n" for name, value in rows.items())
    cores = range(os.cpu_count() or 1)
    (folder / "cpuinfo").write_text("\n".join(f"processor\t: {core}\n{block}" for core in cores) + "\n")


def _processor(device: Device) -> list[str]:
    return ["-cpu", device.emulate] if device.emulate else []
