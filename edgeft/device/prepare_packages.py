"""Python and its libraries of another architecture: this host's own Debian release, unpacked without installing.

apt works on a private state folder, with the host's sources and keys, so nothing of the host is touched and no root is
needed; the packages' signatures are checked as always.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeft.canonical import digest_file
from edgeft.errors import DeviceError

ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}
LIBRARIES = ("libstdc++6", "libgomp1", "libatomic1")
"""What wheels expect of a system besides the C library."""
TOOLS = ("dpkg_", "tar_", "debconf_", "perl")
"""Packages that only maintainer scripts need."""
NEEDLESS = ("usr/share", "usr/sbin", "sbin", "var", "usr/lib/*/gconv", "usr/lib/*/perl*", "usr/lib/python3*/lib2to3")
FETCH_SECONDS = 900


def unpack_debian(architecture: str, draft: Path, say: Callable[[str], None], elsewhere: str) -> dict[str, Any]:
    """Fill draft/root; {python: "3.11", glibc: "2.36", packages_debian: [{file, sha256}]}. Raises DeviceError.

    elsewhere: what to do where this host cannot, for its hint.
    """
    start = time.monotonic()
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise DeviceError(f"{tool} is not here: a runtime folder is made of Debian packages", hint=elsewhere)
    apt = _private_apt(architecture, draft / "downloads" / "apt")
    _call(
        ["apt-get", *apt, "-qq", "update"], f"{ARCHITECTURES[architecture]} package lists cannot be fetched", elsewhere
    )
    python = _python_version(apt, elsewhere)
    names = (f"libpython{python}-stdlib", f"python{python}-minimal", *LIBRARIES)
    _call(
        ["apt-get", *apt, "-y", "-qq", "--no-install-recommends", "--download-only", "install", *names],
        f"{ARCHITECTURES[architecture]} packages of python{python} cannot be fetched",
        elsewhere,
    )
    files = sorted((draft / "downloads" / "apt" / "archives").glob("*.deb"))
    root = draft / "root"
    for path in files:
        if not path.name.startswith(TOOLS):
            _call(["dpkg-deb", "-x", str(path), str(root)], f"{path.name} cannot be unpacked", elsewhere)
    _trim(root)
    size = sum(path.stat().st_size for path in files)
    say(f"{len(files)} Debian packages, {size / 1e6:.0f} MB, {time.monotonic() - start:.0f} s")
    glibc = next((found[1] for path in files if (found := re.match(r"libc6_(\d+\.\d+)", path.name))), "2.17")
    listed = [{"file": path.name, "sha256": digest_file(path)} for path in files]
    return {"python": python, "glibc": glibc, "packages_debian": listed}


def _private_apt(architecture: str, folder: Path) -> list[str]:
    """Options that keep apt inside `folder`; its sources and trusted keys stay the host's."""
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    settings = {
        "Dir::State": folder,
        "Dir::State::status": folder / "status",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder,
        "Dir::Cache::archives": folder / "archives",
        "Dir::Log": folder,
        "APT::Architecture": ARCHITECTURES[architecture],
        "APT::Architectures": ARCHITECTURES[architecture],
        "APT::Sandbox::User": "",
        "APT::Update::Post-Invoke-Success": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Debug::NoLocking": "1",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _python_version(apt: Sequence[str], elsewhere: str) -> str:
    """The release's own Python, such as 3.11."""
    shown = _call(["apt-cache", *apt, "show", "python3"], "the release has no python3 for it", elsewhere)
    found = re.search(r"^Version: (3\.\d+)\.", shown, re.MULTILINE)
    if found is None:
        raise DeviceError("the release does not say which Python it has", hint=elsewhere)
    return found[1]


def _trim(root: Path) -> None:
    """Drop what no program reads there, and turn links that leave the folder into ones inside it, or drop them."""
    for pattern in NEEDLESS:
        for path in root.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)
    for name in ("lib", "lib64"):  # releases with merged /usr keep these as links in another package
        if not (root / name).exists() and (root / "usr" / name).is_dir():
            (root / name).symlink_to(f"usr/{name}")
    for path in sorted(root.rglob("*")):
        if not path.is_symlink():
            continue
        goal = path.readlink()
        if goal.is_absolute():
            path.unlink()
            inside = root / goal.relative_to("/")
            if inside.exists():
                path.symlink_to(os.path.relpath(inside, path.parent))
        elif not path.exists():
            path.unlink()


def _call(command: Sequence[str], what: str, elsewhere: str) -> str:
    """Standard output; DeviceError with the last line of standard error when it fails."""
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, errors="replace", timeout=FETCH_SECONDS, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"{what}: no answer in {FETCH_SECONDS} s", hint=elsewhere) from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        raise DeviceError(f"{what}: {said[-1][:300] if said else 'no reason given'}", hint=f"online? else {elsewhere}")
    return done.stdout
