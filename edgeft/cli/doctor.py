"""`edgeft doctor`: what is installed, what hardware is here, what each extra would add."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeft.errors import Exit

if TYPE_CHECKING:
    from importlib.metadata import Distribution

    from packaging.requirements import Requirement
    from rich.console import Console

HELP = "Say what is installed, which hardware was found, and what each extra would add"
DESCRIPTION = """Say what is installed against the versions edgeft needs, which processor, GPU, memory and disk are
here, and what each extra would add. No framework is imported, nothing is downloaded; the GPU is asked by nvidia-smi."""
EPILOG = """examples:
  edgeft doctor
  edgeft doctor --json | python -m json.tool

exit codes: 0 all that edgeft always needs is in order, 3 something of it is missing or out of range
"""
SMI_SECONDS = 10
_SMI = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader,nounits")
_FIELDS = ("name", "memory_mib", "driver", "compute_capability")


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `doctor`."""
    parser.add_argument("--json", action="store_true", help="one JSON document for machines")


def run(args: argparse.Namespace) -> int:
    """Examine and print; 3 when the core is broken."""
    found = examine()
    if args.json:
        print(json.dumps(found, indent=1, sort_keys=True))
    else:
        show(found)
    return int(Exit.OK if found["ok"] else Exit.STEP_FAILED)


def examine() -> dict[str, Any]:
    """Everything as JSON. ok: Python and every core distribution are in the range that edgeft's metadata states."""
    from edgeft import __version__

    packages = _packages()
    python = {"version": platform.python_version(), "wants": packages["python"], "ok": packages["python_ok"]}
    return {
        "edgeft": __version__,
        "python": python,
        "core": packages["core"],
        "extras": packages["extras"],
        "gpu": gpus(),
        "host": _host(),
        "store": _store(),
        "problems": packages["problems"],
        "ok": bool(python["ok"]) and not packages["problems"] and all(row["ok"] for row in packages["core"]),
    }


def _packages() -> dict[str, Any]:
    """Core and extras from edgeft's own metadata."""
    from importlib.metadata import PackageNotFoundError, distribution

    empty: dict[str, Any] = {"python": "", "python_ok": True, "core": [], "extras": []}
    try:
        own = distribution("edgeft")
    except PackageNotFoundError:
        return {**empty, "problems": ["edgeft itself is not installed: pip install edgeft"]}
    try:
        from packaging.requirements import Requirement
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return {**empty, "problems": ["the package 'packaging' is missing: pip install packaging"]}
    needs = [Requirement(text) for text in own.requires or ()]
    python = str(own.metadata["Requires-Python"]) if "Requires-Python" in own.metadata else ""
    return {
        "python": python,
        "python_ok": SpecifierSet(python).contains(platform.python_version(), prereleases=True),
        "core": [_row(need) for need in needs if _wanted(need, "")],
        "extras": _extras(own, needs),
        "problems": [],
    }


def _extras(own: Distribution, needs: list[Requirement]) -> list[dict[str, Any]]:
    """Each extra but `all`, whose parts are the others."""
    rows = []
    for extra in own.metadata.get_all("Provides-Extra") or ():
        packages = [_row(need) for need in needs if _wanted(need, extra) and not _wanted(need, "")]
        if not all(package["name"] == "edgeft" for package in packages):
            rows.append({"name": extra, "ok": all(package["ok"] for package in packages), "packages": packages})
    return rows


def _wanted(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})


def _row(need: Requirement) -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed: str | None = version(need.name)
    except PackageNotFoundError:
        installed = None
    fits = installed is not None and need.specifier.contains(installed, prereleases=True)
    return {"name": need.name, "wants": str(need.specifier), "version": installed, "ok": fits}


def gpus() -> dict[str, Any]:
    """{devices: [...], note}: CUDA GPUs by nvidia-smi; note says why there is none, when that is known."""
    try:
        done = subprocess.run(_SMI, capture_output=True, text=True, timeout=SMI_SECONDS, check=False)
    except FileNotFoundError:
        return {"devices": [], "note": "no nvidia-smi: no NVIDIA driver here"}
    except subprocess.TimeoutExpired:
        return {"devices": [], "note": f"nvidia-smi gave no answer in {SMI_SECONDS} s: the driver hangs"}
    except OSError as error:
        return {"devices": [], "note": f"nvidia-smi cannot be run: {error.strerror}"}
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()
        return {"devices": [], "note": f"nvidia-smi: {said[0][:200] if said else f'exit code {done.returncode}'}"}
    rows = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    devices = [dict(zip(_FIELDS, row, strict=True)) for row in rows if len(row) == len(_FIELDS)]
    return {"devices": devices, "note": "" if devices else "nvidia-smi lists no GPU"}


def _host() -> dict[str, Any]:
    from edgeft.pipeline.host import cpu_flags, cpu_model, threads

    facts: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": cpu_model(),
        "cores": threads(),
        "flags": list(cpu_flags()),
        "memory_total": None,
        "memory_available": None,
    }
    try:
        import psutil
    except ImportError:  # a row of the core table says that it is missing
        return facts
    memory = psutil.virtual_memory()
    return {**facts, "memory_total": memory.total, "memory_available": memory.available}


def _store() -> dict[str, Any]:
    from edgeft.store.disk import free_bytes
    from edgeft.store.layout import default_root

    root = default_root()
    return {
        "path": str(root),
        "from": "EDGEFT_STORE" if os.environ.get("EDGEFT_STORE") else "default",
        "free": free_bytes(root),
    }


def show(found: Mapping[str, Any]) -> None:
    """Tables for people; plain text for whoever has not even rich."""
    try:
        from rich.console import Console
    except ImportError:
        print(json.dumps(found, indent=1))
        return
    console = Console(highlight=False)
    _show_machine(console, found)
    _show_core(console, found)
    _show_extras(console, found["extras"])
    for problem in found["problems"]:
        console.print(f"[red]problem:[/] {problem}")
    broken = [row["name"] for row in found["core"] if not row["ok"]]
    if broken:
        wanted = " ".join(f"'{row['name']}{row['wants']}'" for row in found["core"] if not row["ok"])
        console.print(
            f"[red]not in order:[/] {', '.join(broken)}\nhint: {sys.executable} -m pip install {wanted}", soft_wrap=True
        )
    elif found["ok"]:
        console.print("[green]all that edgeft always needs is in order[/]")


def _show_machine(console: Console, found: Mapping[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from edgeft.store.disk import human

    host, store, gpu, python = found["host"], found["store"], found["gpu"], found["python"]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    mark = "" if python["ok"] else f" [red](edgeft wants {python['wants']})[/]"
    rows = {"edgeft": found["edgeft"], "Python": python["version"] + mark}
    rows["system"] = f"{host['system']} ({host['machine']})"
    rows["processor"] = escape(f"{host['cpu']}, {host['cores']} cores for this process")
    rows["CPU flags"] = " ".join(host["flags"]) or "not told by the system"
    if host["memory_total"] is not None:
        rows["memory"] = f"{human(host['memory_total'])}, {human(host['memory_available'])} available"
    named = [f"{item['name']}, {item['memory_mib']} MiB, driver {item['driver']}" for item in gpu["devices"]]
    rows["GPU"] = escape("\n".join(named) or f"none ({gpu['note']})")
    if named and (build := _torch_build(found)):
        rows["GPU"] += f"\n[yellow]{build}[/]"
    free = "" if store["free"] is None else f", {human(store['free'])} free"
    rows["store"] = escape(f"{store['path']} ({store['from']}){free}")
    for name, text in rows.items():
        table.add_row(f"[bold]{name}[/]", text)
    console.print(table)


def _torch_build(found: Mapping[str, Any]) -> str:
    """A warning when a GPU is here and the installed torch cannot use it; its version label tells."""
    version = next((row["version"] or "" for row in found["core"] if row["name"] == "torch"), "")
    return f"torch {version} is a CPU build: it cannot use this GPU" if version.endswith("+cpu") else ""


def _show_core(console: Console, found: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(title="core", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for title in ("package", "installed", "needed"):
        table.add_column(title)
    for row in found["core"]:
        colour = "green" if row["ok"] else "red"
        table.add_row(row["name"], f"[{colour}]{row['version'] or 'missing'}[/]", row["wants"])
    console.print(table)


def _show_extras(console: Console, extras: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(title="extras", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for title in ("extra", "state", "packages"):
        table.add_column(title, overflow="fold")
    for extra in extras:
        have = sum(package["ok"] for package in extra["packages"])
        state = "[green]installed[/]" if extra["ok"] else f"{have} of {len(extra['packages'])}"
        packages = ", ".join(f"{item['name']} {item['version'] or item['wants']}" for item in extra["packages"])
        adds = packages if extra["ok"] else f"pip install 'edgeft\\[{extra['name']}]' adds {_missing(extra)}"
        table.add_row(extra["name"], state, adds)
    console.print(table)


def _missing(extra: Mapping[str, Any]) -> str:
    return ", ".join(f"{item['name']}{item['wants']}" for item in extra["packages"] if not item["ok"])
