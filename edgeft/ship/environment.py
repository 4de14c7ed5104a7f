"""environment.lock: every distribution that the steps of a build used, with what they need themselves."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement

from edgeft import __version__
from edgeft.pipeline.build import Build
from edgeft.pipeline.host import cpu_flags, cpu_model, threads, tool_version

ABSENT = "absent"


def used_tools(build: Build) -> dict[str, dict[str, list[str]]]:
    """Distribution -> version -> ids of the steps that were made with it, cached ones as they were made."""
    found: dict[str, dict[str, list[str]]] = {}
    for step, key in build.executor.keys.items():
        result = build.executor.store.find(key)
        for tool, version in (result.material.get("tools", {}) if result else {}).items():
            if version != ABSENT:
                found.setdefault(normal(tool), {}).setdefault(str(version), []).append(step)
    return found


def normal(name: str) -> str:
    """A distribution's name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def with_needs(tools: Mapping[str, object]) -> dict[str, str]:
    """name -> installed version of these and of all they require here, extras apart."""
    found: dict[str, str] = {}
    todo = [*tools, "edgeft"]
    while todo:
        name = normal(todo.pop())
        if name in found:
            continue
        try:
            about = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = about.version
        if name == "edgeft":  # its own list names every tool of every step, used or not
            continue
        for text in about.requires or ():
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                todo.append(need.name)
    return dict(sorted(found.items()))


def environment_lock(build: Build) -> str:
    """A file that pip reads: `name==version` a line; the machine, and steps made with other versions, as comments."""
    tools = used_tools(build)
    installed = with_needs(tools)
    lines = [
        "# What the steps of this build ran with. A cached step made with another version is named below.",
        f"# edgeft {__version__}; {platform.python_implementation()} {platform.python_version()}",
        f"# {platform.system()} {platform.machine()}, {' '.join(platform.libc_ver()).strip() or 'unknown C library'}",
        f"# {cpu_model()}, {threads()} threads; {' '.join(cpu_flags()) or 'flags not told'}",
    ]
    for tool, versions in sorted(tools.items()):
        for version, steps in sorted(versions.items()):
            if version != installed.get(tool, tool_version(tool)):
                lines.append(f"# {tool} {version}: {', '.join(sorted(steps))}")
    return "\n".join([*lines, *(f"{name}=={version}" for name, version in installed.items())]) + "\n"
