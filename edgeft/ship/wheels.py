"""Wheels of exactly what is installed here, for a machine of the same kind without an index."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlparse

from edgeft.errors import StepError

SECONDS = 3600


def fetch_wheels(folder: Path, say: Callable[[str], None]) -> None:
    """`folder`/wheels and `folder`/requirements.txt: edgeft and all it needs of what is installed, versions pinned.

    What its index has as sources only is built here, as it was when it was installed. StepError, with pip's own words,
    when one of them cannot be had.
    """
    found = installed_closure("edgeft")
    own = found.pop("edgeft")
    wheels = folder / "wheels"
    wheels.mkdir()
    # `==2.13.0` also takes a 2.13.0+cpu wheel where the configured index has one, and prefers it.
    pins = sorted(f"{name}=={item.version.partition('+')[0]}" for name, item in found.items())
    _pip("wheel", "--no-deps", "--wheel-dir", str(wheels), *pins)
    source = _source_folder(own)
    if source is None:
        _pip("download", "--no-deps", "--dest", str(wheels), f"edgeft=={own.version}")
    else:
        _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(source))
    lines = [f"edgeft=={own.version}", *pins]
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    say(f"wheels: {len(list(wheels.iterdir()))}")


def installed_closure(root: str) -> dict[str, Distribution]:
    """Canonical name -> distribution: `root`, what it requires, what that requires; of extras, what is installed."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, Distribution] = {}
    waiting = [(root, frozenset({"*"}))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        key = canonicalize_name(name)
        if (key, extras) in seen:
            continue
        seen.add((key, extras))
        try:
            item = distribution(name)
        except PackageNotFoundError:
            continue
        found[key] = item
        known = set(item.metadata.get_all("Provides-Extra") or ()) if "*" in extras else set(extras)
        for text in item.requires or ():
            need = Requirement(text)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in {"", *known} - {"dev"}):
                waiting.append((need.name, frozenset(need.extras)))
    return found


def _source_folder(own: Distribution) -> Path | None:
    """The folder edgeft was installed from, when it was: its wheel is then built from there."""
    try:
        about = json.loads(own.read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    url = urlparse(str(about.get("url", "")))
    folder = Path(unquote(url.path))
    return folder if url.scheme == "file" and (folder / "pyproject.toml").is_file() else None


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise StepError(
            f"pip {arguments[0]} took longer than {SECONDS} s", hint="try again: pip keeps what it has"
        ) from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        what = said[0].removeprefix("ERROR: ")[:300] if said else f"exit code {done.returncode}"
        hint = "check the network and pip's index settings, or gather without wheels: --no-wheels"
        raise StepError(f"pip {arguments[0]} failed: {what}", hint=hint)
