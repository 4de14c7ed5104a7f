"""A device nobody can connect to: jobs go there as job.zip in a person's hands and come back as result.zip.

`pack` and `collect` are bound to each other: a result names the id and the hash of the plan that was packed, and the
hash of every file. It shows that a result belongs to this job and was not damaged; whoever runs the job could still
write anything into it, as on every device.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import secrets
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.canonical import canonical_json, digest_file
from edgeft.device.jobs import (
    LARGEST_OUTPUTS,
    LONGEST_RESULT,
    OUTPUTS,
    RESULT,
    STDERR,
    distributions,
    read_result,
    write_job,
)
from edgeft.device.profile import shipped_devices
from edgeft.device.protocol import Job, OnProgress, Result
from edgeft.device.travel import pack_model
from edgeft.errors import DeviceError, RecipeError

if TYPE_CHECKING:
    from edgeft.device.profile import Device

FORMAT = 1
PLAN, BACK = "carried.json", "carried-result.json"
LONGEST_PLAN = 1 << 24
LIMITS = {RESULT: LONGEST_RESULT, OUTPUTS: LARGEST_OUTPUTS, STDERR: 1 << 20}
TIMED_OUT = 124
ROW: dict[str, Any] = {"name": str, "kind": str, "timeout": int | float, "needs": list}
"""What a plan says of each job."""
README = """edgeft job, to be run on another machine
=========================================

1. Unpack this archive there, all of it, into a folder of its own.
2. Run in that folder, with the Python (3.10 or newer) that has numpy and the runtime the job needs:

       python run.py

   Nothing is installed, nothing is sent anywhere, nothing outside the folder is changed. For timings, let the machine
   do nothing else. It writes result.zip.
3. Carry result.zip back and collect it: edgeft profile --collect result.zip, with the job.zip at hand.

"""


class CarriedTransport:
    """Refuses: nothing can be run there from here."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def run(self, job: Job, on_progress: OnProgress) -> Result:
        """Always DeviceError, with the two commands that do it."""
        named = self.device.name if self.device.name in shipped_devices() else f"{self.device.name}.yaml"
        raise DeviceError(
            f"{self.device.name} is reached only by carrying a job there",
            hint=f"edgeft profile MODEL --device {named} --pack job.zip; run it there; --collect result.zip",
        )


class CarriedResults(Mapping[str, Result]):
    """Job name -> Result. Looking up a job that failed raises what `run` would have raised. machine: what it said."""

    def __init__(self, found: Mapping[str, Result | DeviceError], machine: Mapping[str, str], about: Mapping[str, str]):
        self._found, self.machine, self.about = dict(found), dict(machine), dict(about)

    def __getitem__(self, name: str) -> Result:
        found = self._found[name]
        if isinstance(found, DeviceError):
            raise found
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def pack(jobs: Mapping[str, Job], target: Path, about: Mapping[str, str]) -> str:
    """Write job.zip; returns its id. jobs: name -> job, run in this order. about: strings that `collect` gives back.

    Models lie in it once, however many jobs use them. Raises DeviceError when a model or the archive is unreadable.
    """
    files: dict[str, Path] = {"run.py": Path(__file__).with_name("carried_run.py")}
    plan: dict[str, Any] = {"format": FORMAT, "id": secrets.token_hex(16), "about": dict(about), "jobs": {}}
    with tempfile.TemporaryDirectory(prefix="edgeft-pack-") as name:
        for number, (label, job) in enumerate(jobs.items()):
            place = f"jobs/{number:03d}"
            row = {"name": label, "kind": job.kind, "folder": place, "timeout": job.timeout}
            plan["jobs"][place] = {**row, "needs": list(distributions(job.runtime))}
            folder = Path(name) / place
            folder.mkdir(parents=True)
            files |= _lay_out(job, folder, place)
        plan["files"] = {path: digest_file(source) for path, source in sorted(files.items())}
        draft = target.with_name(f".{target.name}.part")
        try:
            with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
                archive.writestr(PLAN, canonical_json(plan, indent=1))
                archive.writestr("README.txt", README + "".join(f"{key}: {value}\n" for key, value in about.items()))
                for path, source in sorted(files.items()):
                    archive.write(source, path)
            draft.replace(target)
        except OSError as error:
            raise DeviceError(f"cannot be written: {error.strerror}", where=str(target)) from error
        finally:
            with suppress(OSError):  # a read-only place refuses this too
                draft.unlink()
    return str(plan["id"])


def collect(job_zip: Path, result_zip: Path) -> CarriedResults:
    """What came back. DeviceError for a result of another job, a damaged one, or one that unpacks to too much;
    RecipeError where a file is not there."""
    plan_bytes = _member(job_zip, PLAN, LONGEST_PLAN, "a job that `--pack` wrote")
    plan = _parse(plan_bytes, job_zip, ("format", "id", "jobs", "about"))
    back = _parse(
        _member(result_zip, BACK, LONGEST_PLAN, "a result of run.py"), result_zip, ("id", "plan", "files", "codes")
    )
    if plan["format"] != FORMAT:
        raise DeviceError(f"was packed by another version of edgeft (format {plan['format']})", where=str(job_zip))
    if back["id"] != plan["id"] or back["plan"] != hashlib.sha256(plan_bytes).hexdigest():
        raise DeviceError(f"is the result of another job than {job_zip.name}", where=str(result_zip))
    found: dict[str, Result | DeviceError] = {}
    for place, row in plan["jobs"].items():
        try:
            found[row["name"]] = _read(result_zip, place, row, back)
        except _BadArchive:
            raise
        except DeviceError as error:
            found[row["name"]] = error
    machine = back.get("machine")
    told = {str(key): str(value)[:200] for key, value in machine.items()} if isinstance(machine, dict) else {}
    return CarriedResults(found, told, plan["about"])


class _BadArchive(DeviceError):
    """The archive itself is not what was written, whatever its jobs did."""


def _lay_out(job: Job, folder: Path, place: str) -> dict[str, Path]:
    """Path in the archive -> file here, for one job; its models by digest."""
    cargo = {role: pack_model(path) for role, path in job.models.items()}
    write_job(job, folder, {role: f"models/{item.digest}/{item.entry}" for role, item in cargo.items()})
    about = json.loads((folder / "job.json").read_bytes())
    (folder / "job.json").write_text(json.dumps({**about, "carried_models": sorted(cargo)}), encoding="utf-8")
    own = {f"{place}/{path.name}": path for path in folder.iterdir()}
    models = {f"models/{item.digest}/{name}": path for item in cargo.values() for name, path in item.files.items()}
    return {**own, **models}


def _read(result_zip: Path, place: str, row: Mapping[str, Any], back: Mapping[str, Any]) -> Result:
    """One job's result, from exactly the three files it may have; nothing else of the archive is ever opened."""
    code = back["codes"].get(place)
    if not isinstance(code, int):
        raise _BadArchive(f"it lacks the job '{row['name']}'", where=str(result_zip))
    with tempfile.TemporaryDirectory(prefix="edgeft-collect-") as name:
        folder = Path(name)
        for file, limit in LIMITS.items():
            path = f"{place}/{file}"
            if path not in back["files"]:
                continue
            (folder / file).write_bytes(content := _member(result_zip, path, limit, "a whole result"))
            if hashlib.sha256(content).hexdigest() != back["files"][path]:
                raise _BadArchive(f"{path} is not the file that was written there", where=str(result_zip))
        if code == TIMED_OUT:
            raise DeviceError(f"the {row['kind']} job did not finish within {row['timeout']:g} s and was stopped")
        job = Job(row["kind"], Path(__file__))
        return read_result(
            job, folder, code, install=f"on that machine: python -m pip install {' '.join(row['needs'])}"
        )


def _member(archive: Path, name: str, limit: int, what: str) -> bytes:
    """One file of an archive, never more than `limit` bytes of it whatever its header says. DeviceError."""
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(name) as stream:
            content = io.BytesIO()
            while chunk := stream.read(min(1 << 20, limit + 1 - content.tell())):
                content.write(chunk)
                if content.tell() > limit:
                    raise _BadArchive(f"{name} unpacks to more than {limit >> 20} MiB", where=str(archive))
            return content.getvalue()
    except FileNotFoundError:
        raise RecipeError(
            "there is no such file", where=str(archive), hint="--pack names the packed job, --collect what came back"
        ) from None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise _BadArchive(f"is not {what}: {error}", where=str(archive)) from error


def _parse(content: bytes, path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        data = json.loads(content)
        if not isinstance(data, dict) or any(key not in data for key in keys):
            raise TypeError("keys are missing")
        if any(not isinstance(data.get(key, {}), dict) for key in ("jobs", "files", "codes", "about")):
            raise TypeError("not the form it should have")
        for row in data.get("jobs", {}).values():
            if not isinstance(row, dict) or any(not isinstance(row.get(key), kind) for key, kind in ROW.items()):
                raise TypeError("a job's row is not one that was packed")
    except (ValueError, TypeError, RecursionError) as error:
        raise DeviceError(f"cannot be read: {error}", where=str(path)) from error
    if not re.fullmatch(r"[0-9a-f]{32}", str(data["id"])):
        raise DeviceError("has no id", where=str(path))
    return data
