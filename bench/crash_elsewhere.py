"""Crash trials whose fault lies outside the build: a disk that is full, a device that goes away."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from bench.crash_world import World, left_running, make_world
from tests.warm import kill_group

if TYPE_CHECKING:
    from bench.crash import Trial
    from bench.crash_world import Server

DISK = 1 << 30
"""Bytes of the disk in memory: a build does not start where it sees less than its estimate."""
LEAST, MOST = 4096, 1 << 20
"""Bytes left free on it once it is filled."""
BOARD = """\
name: board
description: this machine, reached as a board is
os: linux
transport: ssh
architecture: ARCHITECTURE
runtimes: [onnxruntime]
"""


def fill(place: Path, left: int) -> None:
    """A file that takes all but `left` bytes of a disk; asked for again where the build was quicker."""
    with (place / "ballast").open("wb") as stream:
        for _ in range(20):
            about = os.statvfs(place)
            with suppress(OSError):
                os.posix_fallocate(stream.fileno(), 0, max(1, about.f_bavail * about.f_frsize - left))
                return


def disk(world: World, rng: Random, number: int) -> Trial:
    """Store and outcome on a real file system that another program fills while a step runs; then room is made."""
    from bench.crash import GOOD, Trial, judge, wait_until

    index = rng.randrange(len(world.steps))
    at, left = world.steps[index]["id"], int(LEAST * (MOST / LEAST) ** rng.random())
    with world.copy(f"disk-{number}", index, 2) as folder, tempfile.TemporaryDirectory() as away:
        small = folder / "small"
        small.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(small)]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            return Trial("disk", "tmpfs", at, "not possible here")
        try:
            subprocess.run(["cp", "-a", *(str(folder / name) for name in ("store", "out", "recipe.yaml")), str(small)])
            full = World(world.base, world.server, {"TMPDIR": away}, world.steps, world.code)
            run = full.start(small)
            wait_until(full, run, at, rng.uniform(0, world.steps[index]["seconds"] * 0.7))
            fill(small, left)
            code, text = run.wait(), run.text()
            (small / "ballast").unlink()
            if "fault of edgeft itself" in text:
                return Trial("disk", "tmpfs", at, "FAULT", left, run.said())
            if code != world.code and "disk" not in text:
                return Trial("disk", "tmpfs", at, "SILENT", left, run.said())
            outcome, detail = judge(full, small)
            if code == world.code:
                return Trial("disk", "tmpfs", at, "over before the kill" if outcome in GOOD else outcome, left, detail)
            named = outcome == "same digests"
            return Trial("disk", "tmpfs", at, "named, same digests" if named else outcome, left, detail)
        finally:
            subprocess.run(["umount", "-l", str(small)], check=True)


def device_trials(
    folder: Path, server: Server, count: int, rng: Random, say: Callable[[str], None]
) -> list[Trial]:  # fmt: skip
    """A board behind a real sshd on this machine whose connections die at random moments of its steps."""
    from bench.crash import Trial
    from tests.device.server import SSHD
    from tests.device.server import Server as Sshd

    if not Path(SSHD).is_file():
        return [Trial("device", "sshd killed", "", "not possible here")]
    place = folder / "board"
    place.mkdir()
    profile, units = place / "board.yaml", place / "units.yaml"
    profile.write_text(BOARD.replace("ARCHITECTURE", os.uname().machine))
    units.write_text(f"bench-board:\n  type: {profile}\n  host: board\n  python: {sys.executable}\n")
    units.chmod(0o600)
    board = Sshd(folder / "sshd")
    try:
        env = {"EDGEFT_UNITS": str(units), "EDGEFT_SSH_CONFIG": str(board.config)}
        world = make_world(folder / "device-world", server, str(profile), env)
        found = []
        for number in range(count):
            found.append(_gone(world, board, rng, number))
            say(f"device {number + 1}: at {found[-1].at}: {found[-1].outcome} {found[-1].detail}")
        return found
    finally:
        with suppress(OSError):
            board.stop()


def _gone(world: World, board: object, rng: Random, number: int) -> Trial:
    """Kill the server while a step uses the board; start it again and rerun."""
    from bench.crash import Trial, judge, wait_until

    there = [index for index, row in enumerate(world.steps) if row["id"].endswith(("/outputs", "/latency", "/probe"))]
    there += [index for index, row in enumerate(world.steps) if row["id"].startswith("gate/")]
    index = rng.choice(there)
    row = world.steps[index]
    seconds = rng.uniform(0, row["seconds"])
    with world.copy(f"device-{number}", index, 1) as folder:
        run = world.start(folder)
        wait_until(world, run, row["id"], seconds)
        board.kill()  # type: ignore[attr-defined]
        code, text = run.wait(), run.text()
        time.sleep(0.2)
        board.start()  # type: ignore[attr-defined]
        if code == world.code:
            return Trial("device", "sshd killed", row["id"], "over before the kill", seconds)
        if code != 4 or "hint" not in text:
            return Trial("device", "sshd killed", row["id"], f"ENDED WITH {code}", seconds, run.said())
        if left := left_running(folder):
            kill_group(run.pid)
            return Trial("device", "sshd killed", row["id"], "STILL RUNNING", seconds, str(left))
        outcome, detail = judge(world, folder)
    named = outcome == "same digests"
    return Trial("device", "sshd killed", row["id"], "named, same digests" if named else outcome, seconds, detail)
