"""Which interpreter runs the worker on a device: the unit's own, a prepared folder pushed once, or python3."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.device.link import Link
from edgeft.device.prepare import prepared
from edgeft.device.prepare_manifest import MANIFEST, read_manifest
from edgeft.errors import DeviceError

if TYPE_CHECKING:
    from edgeft.device.profile import Device

LOADERS = {"aarch64": "lib/ld-linux-aarch64.so.1", "x86_64": "lib64/ld-linux-x86-64.so.2"}
LIBRARIES = ("lib/{triple}", "usr/lib/{triple}", "lib", "usr/lib")


@dataclass(frozen=True)
class Python:
    """command: words. own: an interpreter of the device itself. hint: what to do when it, or a package, is missing."""

    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    own: bool = True
    hint: str = ""


def choose_python(device: Device, link: Link, machine: str, cache: str) -> Python:
    """The unit's `python`; else the prepared folder where there is one for this device; else python3."""
    advice = f"edgeft devices prepare {device.name} makes a folder with one; or name it: edgeft devices add"
    safe = {"PYTHONSAFEPATH": "1"}
    if device.unit is not None and device.unit.python:
        return Python((device.unit.python,), safe, hint=advice)
    folder = prepared(device) if device.architecture != "host" else None
    if folder is None:
        return Python(("python3",), safe, hint=advice)
    root, manifest = _push(folder, link, cache), read_manifest(folder)
    triple = f"{manifest['architecture']}-linux-gnu"
    places = ":".join(f"{root}/{place.format(triple=triple)}" for place in LIBRARIES)
    loader = f"{root}/{LOADERS[str(manifest['architecture'])]}"
    command = (loader, "--library-path", places, f"{root}/usr/bin/python{manifest['python']}")
    variables = {**safe, "PYTHONHOME": f"{root}/usr", "PYTHONPATH": f"{root}/site", "PYTHONNOUSERSITE": "1"}
    return Python(command, variables, own=False, hint=f"edgeft devices prepare {device.name} --force fetches")


def _push(folder: Path, link: Link, cache: str) -> str:
    """The folder's root on the device, by its digest; sent whole or not at all."""
    manifest = read_manifest(folder)
    final = f"{cache}/runtimes/{str(manifest['digest'])[:32]}"
    quoted, draft = shlex.quote(final), f"{final}.part"
    if link.ask(f"[ -f {quoted}/{MANIFEST} ] && touch {quoted}").code == 0:
        return f"{final}/root"
    files = {f"root/{name}": folder / "root" / name for name in manifest["files"]}
    try:
        link.check(link.ask(f"rm -rf {shlex.quote(draft)}"), "an old runtime folder cannot be removed there")
        link.send({**files, MANIFEST: folder / MANIFEST}, draft)
    except DeviceError:
        link.ask(f"rm -rf {shlex.quote(draft)}", 60)
        raise
    link.check(link.ask(f"mv {shlex.quote(draft)} {quoted}"), "the runtime folder cannot be kept there")
    return f"{final}/root"
