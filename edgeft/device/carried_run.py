"""Runs the jobs of an unpacked job.zip and writes result.zip: `python run.py` in its folder. Travels as run.py.

Standard library only, any system. The worker needs Python 3.10; this file says so on older ones. Each job is a
fresh process of the interpreter that runs this.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

BACK = ("result.json", "outputs.npz", "stderr.txt")
OLDEST = (3, 10)
TIMED_OUT = 124
LONGEST_STDERR = 1 << 16


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            hasher.update(chunk)
    return hasher.hexdigest()


def check_files(here: Path, files: dict[str, str]) -> None:
    """SystemExit when a file is missing or is not the one that was packed."""
    for name, wanted in files.items():
        path = here / name
        if not path.is_file():
            raise SystemExit(f"error: {name} is missing: unpack the whole job.zip")
        if digest(path) != wanted:
            raise SystemExit(f"error: {name} is not the file that was packed: unpack job.zip again")


def run_job(here: Path, folder: str, timeout: float, target: Path) -> int:
    """Run one job in a copy of its folder; what it wrote goes to `target`. Its exit code, 124 when time ran out."""
    quiet = {"PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    with tempfile.TemporaryDirectory(prefix="edgeft-carried-") as name:
        work = Path(name) / "job"
        shutil.copytree(here / folder, work)
        about = json.loads((work / "job.json").read_text(encoding="utf-8"))
        for role in about.pop("carried_models"):
            about[role] = str(here / about[role])
        (work / "job.json").write_text(json.dumps(about), encoding="utf-8")
        command = [sys.executable, "-u", "worker.py", "job.json"]
        with (work / "stderr.txt").open("wb") as noise:
            try:
                done = subprocess.run(
                    command, cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=noise,
                    env={**os.environ, **quiet}, timeout=timeout, check=False,
                )  # fmt: skip
                code = done.returncode
            except subprocess.TimeoutExpired:
                code = TIMED_OUT
        said = (work / "stderr.txt").read_bytes()[-LONGEST_STDERR:]
        (work / "stderr.txt").write_bytes(said)
        target.mkdir(parents=True)
        for back in BACK:
            if (work / back).is_file():
                shutil.move(str(work / back), str(target / back))
    return code


def write_results(where: Path, target: Path, about: dict[str, Any]) -> None:
    """result.zip: the files below `where` and carried-result.json with their hashes; whole or not at all."""
    files = sorted(path for path in where.rglob("*") if path.is_file())
    about["files"] = {path.relative_to(where).as_posix(): digest(path) for path in files}
    draft = target.with_name(f"{target.name}.part")
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("carried-result.json", json.dumps(about, indent=1, sort_keys=True))
        for path in files:
            archive.write(path, path.relative_to(where).as_posix())
    os.replace(draft, target)  # noqa: PTH105  as the rest, plain for any Python 3.9


def main(argv: list[str]) -> int:
    """Check, run all jobs, write result.zip (or the file named)."""
    if sys.version_info < OLDEST:
        raise SystemExit(f"error: this is Python {sys.version.split()[0]}; run it with Python 3.10 or newer")
    here = Path(__file__).resolve().parent
    packed = (here / "carried.json").read_bytes()
    plan = json.loads(packed)
    check_files(here, plan["files"])
    target = Path(argv[1]) if len(argv) > 1 else here / "result.zip"
    codes = {}
    with tempfile.TemporaryDirectory(prefix="edgeft-carried-") as name:
        for number, job in enumerate(plan["jobs"].values(), 1):
            print(f"{number}/{len(plan['jobs'])} {job['name']} ({job['kind']})", flush=True)
            codes[job["folder"]] = run_job(here, job["folder"], float(job["timeout"]), Path(name) / job["folder"])
        about = {
            "format": plan["format"],
            "id": plan["id"],
            "plan": hashlib.sha256(packed).hexdigest(),
            "codes": codes,
            "machine": {"machine": platform.machine(), "system": platform.platform(), "python": sys.version.split()[0]},
        }
        write_results(Path(name), target, about)
    print(f"wrote {target}: carry it back, and collect it there")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
