"""Runtime folders: Python, its libraries and the runtimes of another architecture, assembled once and checked on use.

One folder serves an emulated device, a bare board by ssh and a phone by adb: nothing has to be installed there. It
lies beside the store's objects as runtimes/<architecture>-<key>/ with `root/` (Debian's layout), `root/site/` (wheels)
and manifest.json. The key covers what was asked for, so that a newer runtime here gets a folder of its own.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.canonical import canonical_json, digest_json
from edgeft.device.jobs import distributions
from edgeft.device.prepare_manifest import check_folder, list_tree, read_manifest
from edgeft.device.transport import runtime_file
from edgeft.errors import DeviceError
from edgeft.store.layout import default_root

if TYPE_CHECKING:
    from edgeft.device.profile import Device

FORMAT = 1
MANIFEST = "manifest.json"
NAMES = {"arm64": "aarch64", "amd64": "x86_64"}
"""What other systems call the same instruction sets."""
LEFT_OUT = {
    "executorch": "its Python package imports torch, whose aarch64 wheel needs the CUDA packages",
    "coreml": "it runs on Apple's systems only",
}
"""Runtimes that a prepared folder cannot hold, and why."""
Say = Callable[[str], None]


def say_nothing(text: str) -> None:
    """For callers that show nothing."""


def machine() -> str:
    """This machine's instruction set, as profiles name it."""
    found = platform.machine().lower()
    return NAMES.get(found, found)


def needs_folder(device: Device) -> bool:
    """Whether an emulated device runs in a prepared folder: it does unless it imitates a relative of this machine."""
    return device.architecture not in ("host", machine())


def runtimes_root() -> Path:
    """Where prepared folders lie."""
    return default_root() / "runtimes"


def wanted(device: Device) -> dict[str, Any]:
    """What a folder for this device holds: {format, architecture, runtimes, packages: distribution -> version here}.

    Versions are those installed here (empty: not installed, the newest is taken), so that both answer alike. What some
    models alone need (onnxruntime-extensions) goes along where it is installed here.
    """
    runtimes = sorted(set(device.runtimes) - LEFT_OUT.keys())
    files = [runtime_file(runtime) for runtime in runtimes]
    needed = {"numpy", *(name for file in files for name in distributions(file))}
    needed |= {name for file in files for name in distributions(file, "OPTIONAL_DISTRIBUTIONS") if _version_here(name)}
    architecture = machine() if device.architecture == "host" else device.architecture
    return {
        "format": FORMAT,
        "architecture": architecture,
        "runtimes": runtimes,
        "packages": {name: _version_here(name) for name in sorted(needed)},
    }


def prepared(device: Device) -> Path | None:
    """The device's folder, checked file by file once per process; None when there is none.

    One that was made on another host and copied there is as good. DeviceError when files are damaged or missing.
    """
    folder = folder_place(device)
    if not (folder / MANIFEST).is_file():
        return None
    check_folder(folder, hint=f"assemble it anew: edgeft devices prepare {device.name} --force")
    return folder


def prepare(device: Device, *, force: bool = False, on_progress: Say = say_nothing) -> Path:
    """Assemble the device's runtime folder unless it is there; returns it. on_progress gets sentences for people.

    force: assemble it even if it is there. Raises DeviceError: no Debian host, no network, no wheel for it.
    """
    from filelock import FileLock

    folder = folder_place(device)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeviceError(f"cannot be made: {error.strerror}", where=str(folder.parent)) from error
    with FileLock(f"{folder}.lock"):
        if not force and (found := prepared(device)) is not None:
            on_progress(f"already there: {found}")
            return found
        _assemble(wanted(device), folder, on_progress, _elsewhere(device, folder))
    return folder


def fingerprint(device: Device) -> str:
    """Digest of the environment an emulated device answers with: emulator, and prepared folder or this Python."""
    from edgeft.device.emulated import emulator_version

    if not needs_folder(device):
        return digest_json([emulator_version(device), platform.python_version(), _version_here("numpy")])
    folder = prepared(device)
    return digest_json([emulator_version(device), str(read_manifest(folder)["digest"]) if folder else ""])


def folder_cost() -> dict[str, int]:
    """Prepared folder -> bytes on disk, as their manifests say."""
    found = {}
    for path in sorted(runtimes_root().glob(f"*/{MANIFEST}")):
        found[path.parent.name] = int(read_manifest(path.parent)["bytes"])
    return found


def remove_folders() -> int:
    """Remove every prepared folder; returns the bytes freed. `prepare` makes them again where there is a network."""
    from filelock import FileLock

    freed = 0
    for name, size in folder_cost().items():
        folder = runtimes_root() / name
        with FileLock(f"{folder}.lock"):
            gone = folder.with_name(f".{name}.removed-{os.getpid()}")
            folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        freed += size
    return freed


def _assemble(plan: Mapping[str, Any], folder: Path, say: Say, elsewhere: str) -> None:
    """Fetch and unpack into a draft beside `folder`, list it, rename it in; the draft never outlives this."""
    from edgeft.device.prepare_bytecode import compile_modules
    from edgeft.device.prepare_packages import unpack_debian
    from edgeft.device.prepare_wheels import unpack_wheels

    start = time.monotonic()
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        (draft / "root").mkdir(parents=True)
        system = unpack_debian(str(plan["architecture"]), draft, say, elsewhere)
        wheels = unpack_wheels(plan, system, draft, say)
        shutil.rmtree(draft / "downloads", ignore_errors=True)
        compile_modules(draft / "root", str(system["python"]))
        files = list_tree(draft / "root")
        about = {**plan, **system, "wheels": wheels, "files": files, "left_out": LEFT_OUT}
        about["digest"] = digest_json(files)
        about["bytes"] = size = sum(row["bytes"] for row in files.values() if "bytes" in row)
        (draft / MANIFEST).write_bytes(canonical_json(about, indent=1))
        if folder.exists():
            folder.rename(draft / "replaced")
        draft.rename(folder)
        shutil.rmtree(folder / "replaced", ignore_errors=True)
    except OSError as error:
        raise DeviceError(f"cannot write the runtime folder: {error.strerror}", where=str(folder)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    say(f"{folder}: {len(files)} files, {size / 1e6:.0f} MB, {time.monotonic() - start:.0f} s")


def _elsewhere(device: Device, folder: Path) -> str:
    """The way out of a host that is no Debian or has no network."""
    return (
        f"prepare it on a Debian machine with the same edgeft (edgeft devices prepare {device.name}), and copy the "
        f"folder that it names, links and modes too (rsync -a), to {folder}"
    )


def folder_place(device: Device) -> Path:
    """Where the device's folder is or would be."""
    plan = wanted(device)
    key = hashlib.sha256(canonical_json(plan)).hexdigest()[:16]
    return runtimes_root() / f"{plan['architecture']}-{key}"


def _version_here(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
