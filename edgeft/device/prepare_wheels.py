"""numpy and the runtimes as wheels of another architecture, fetched by pip and unpacked beside Debian's Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from edgeft.canonical import digest_file
from edgeft.errors import DeviceError

OLDEST_GLIBC = 17
LARGEST_WHEEL = 4 << 30
FETCH_SECONDS = 1800


def unpack_wheels(
    plan: Mapping[str, Any], system: Mapping[str, Any], draft: Path, say: Callable[[str], None]
) -> list[dict[str, str]]:
    """Fill draft/root/site; [{file, sha256}] of the wheels. Raises DeviceError.

    plan: architecture and packages (distribution -> version, empty for the newest). system: python, glibc.
    Dependencies are not followed: a runtime's file needs its runtime and numpy, and declared ones (tqdm, protobuf,
    requests, telemetry) serve parts that no worker touches.
    """
    start, site, folder = time.monotonic(), draft / "root" / "site", draft / "downloads" / "wheels"
    site.mkdir(parents=True)
    folder.mkdir(parents=True)
    for name, version in plan["packages"].items():
        _download(f"{name}=={version}" if version else name, plan["architecture"], system, folder)
    files = sorted(folder.glob("*.whl"))
    for path in files:
        unpack_wheel(path, site)
    size = sum(path.stat().st_size for path in files)
    say(f"{len(files)} wheels, {size / 1e6:.0f} MB, {time.monotonic() - start:.0f} s")
    return [{"file": path.name, "sha256": digest_file(path)} for path in files]


def platforms(architecture: str, glibc: str) -> list[str]:
    """Platform tags that this C library satisfies, newest first (PEP 600)."""
    newest = int(glibc.split(".")[1])
    tags = [f"manylinux_2_{minor}_{architecture}" for minor in range(newest, OLDEST_GLIBC - 1, -1)]
    return [*tags, f"manylinux2014_{architecture}"]


def unpack_wheel(path: Path, site: Path) -> None:
    """Into site-packages as installers do (PEP 427), without scripts. DeviceError for one that is not a clean wheel."""
    with zipfile.ZipFile(path) as archive:
        if sum(item.file_size for item in archive.infolist()) > LARGEST_WHEEL:
            raise DeviceError(f"{path.name} unpacks to more than {LARGEST_WHEEL >> 30} GiB")
        for item in archive.infolist():
            parts = PurePosixPath(item.filename).parts
            if item.is_dir():
                continue
            if ".." in parts or item.filename.startswith("/") or "\\" in item.filename:
                raise DeviceError(f"{path.name} holds a file outside its folder: {item.filename[:80]}")
            if parts[0].endswith(".data"):
                if parts[1] not in ("purelib", "platlib"):
                    continue
                parts = parts[2:]
            target = site.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(item) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def _download(requirement: str, architecture: str, system: Mapping[str, Any], folder: Path) -> None:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--dest", str(folder), "--python-version", str(system["python"]),
        *(word for tag in platforms(architecture, str(system["glibc"])) for word in ("--platform", tag)),
        "--", requirement,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=FETCH_SECONDS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"the wheel of {requirement} was not fetched in {FETCH_SECONDS} s") from error
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise DeviceError("this environment has no pip to fetch wheels with", hint="python -m ensurepip")
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()
    raise DeviceError(
        f"no {architecture} wheel of {requirement} for Python {system['python']} could be fetched: "
        f"{said[-1].removeprefix('ERROR:').strip()[:300] if said else 'no reason given'}",
        hint="online? else leave the runtime out of the device's `runtimes`",
    )
