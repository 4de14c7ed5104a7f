"""Builds killed at random moments, stores damaged, disks filled, devices gone: what a rerun then comes to.

A trial takes a finished build of a tiny recipe, sets it back to a random step, disturbs the build there, lets it run
again and compares every step's digest with the undisturbed build's. `python -m bench.crash --trials 20 --seed 4`
chooses how many.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from bench.crash_damage import DAMAGES
from bench.crash_world import LONGEST, Run, Server, World, left_running, make_world, set_back
from tests.warm import kill_group

GOOD = ("same digests", "named, same digests", "refused by name, same digests after repair")
COLD = 0.1
"""Share of kills that meet a new interpreter, its imports included."""
BY_TIME = 1 / 3
"""Share of moments spread evenly over the build's time; the others are spread evenly over its steps."""
STOPPED_WITHIN = 60.0
KINDS = ("kill", "term", "damage", "disk", "device")
KILLS = 200
BESIDE = {"kill": 1.0, "term": 1 / 6, "damage": 1 / 3, "disk": 1 / 12, "device": 1 / 12}
"""Trials of each kind for every kill."""


@dataclass(frozen=True)
class Trial:
    """kind and how: what was done; at: the step that ran then, or where; outcome: what the rerun came to."""

    kind: str
    how: str
    at: str
    outcome: str
    seconds: float = 0.0
    detail: str = ""


def judge(world: World, folder: Path, needle: str = "", warm: bool = True) -> tuple[str, str]:
    """(outcome, detail) of one more build in the folder, which has to end as the undisturbed one did."""
    run = world.start(folder, warm)
    code, text = run.wait(), run.text()
    if "fault of edgeft itself" in text or "Traceback (most" in text:
        return "FAULT", run.said()
    if code != world.code:
        return f"ENDED WITH {code}", run.said()
    expected, found = world.digests(world.base), world.digests(folder)
    if found != expected:
        other = sorted(step for step in expected if found.get(step) != expected[step])
        return "OTHER DIGESTS", ", ".join(other)
    if needle and needle not in text:
        return "SILENT", f"nothing said '{needle}'"
    if left := leftovers(folder):
        return "LEFT BEHIND", ", ".join(left)
    return ("named, same digests" if needle else "same digests"), ""


def leftovers(folder: Path) -> list[str]:
    """What a finished rerun should have cleared away, and a bundle that is not whole."""
    from edgeft.errors import EdgeftError
    from edgeft.ship.bundle import open_bundle

    found = [path.name for path in (folder / "out").iterdir() if path.name != "tiny"]
    found += [str(path.relative_to(folder)) for path in folder.glob("store/tmp/*")]
    for manifest in (folder / "out/tiny").glob("*/*/manifest.json"):
        try:
            open_bundle(manifest.parent)
        except EdgeftError as error:
            found.append(error.what)
    return found


def moment(world: World, rng: Random) -> tuple[int, int, str, float]:
    """(step to set back to, how many, name of the step or of the time before or after all, seconds after its start)."""
    spans = [("start", world.tail), *((row["id"], row["seconds"]) for row in world.steps), ("outcome", world.tail / 2)]
    if rng.random() < BY_TIME:
        point = rng.choices(range(len(spans)), [seconds for _, seconds in spans])[0]
    else:
        point = rng.randrange(len(spans))
    name, seconds = spans[point]
    first = max(0, min(point - 1, len(world.steps) - 1))
    slow = any(row["id"].endswith("/latency") for row in world.steps[first + 1 : first + 2])
    return first, 1 if slow else 2, name, rng.uniform(0, seconds * 1.1 + 0.05)


def wait_until(world: World, run: Run, name: str, seconds: float) -> None:
    """Sleep until the moment: so many seconds after the step's start, or after the last step's end."""
    until = time.monotonic() + LONGEST
    wanted = {"start": None, "outcome": ("finished", world.steps[-1]["id"])}.get(name, ("started", name))
    while wanted and time.monotonic() < until:
        if any((item.get("event"), item.get("step")) == wanted or "schema_version" in item for item in run.lines()):
            break
        time.sleep(0.02)
    time.sleep(seconds)


def kill(world: World, rng: Random, number: int) -> Trial:
    """SIGKILL of the build, alone or with all it started, then a rerun."""
    first, count, name, seconds = moment(world, rng)
    group, warm = rng.random() < 0.7, rng.random() >= COLD
    how = f"SIGKILL {'group' if group else 'process'}{'' if warm else ' cold'}"
    with world.copy(f"kill-{number}", first, count) as folder:
        run = world.start(folder, warm)
        wait_until(world, run, name, seconds)
        if group:
            kill_group(run.pid)
        else:
            with suppress(ProcessLookupError):
                os.kill(run.pid, signal.SIGKILL)
        if run.wait() >= 0:
            return Trial("kill", how, name, "over before the kill")
        if left := left_running(folder):
            return Trial("kill", how, name, "STILL RUNNING", detail=str(left))
        outcome, detail = judge(world, folder, warm=warm)
    return Trial("kill", how, name, outcome, seconds, detail)


def term(world: World, rng: Random, number: int) -> Trial:
    """SIGTERM or SIGINT: the build ends by itself with 130, then a rerun."""
    first, count, name, seconds = moment(world, rng)
    sent = rng.choice([signal.SIGTERM, signal.SIGINT])
    with world.copy(f"term-{number}", first, count) as folder:
        run = world.start(folder)
        wait_until(world, run, name, seconds)
        with suppress(ProcessLookupError):
            os.kill(run.pid, sent)
        began = time.monotonic()
        code = run.wait()
        if time.monotonic() - began > STOPPED_WITHIN:
            return Trial("term", sent.name, name, "STUCK")
        if code == world.code:
            return Trial("term", sent.name, name, "over before the kill")
        if code not in (130, -sent):
            return Trial("term", sent.name, name, f"STOPPED WITH {code}", seconds, run.said())
        outcome, detail = judge(world, folder)
    return Trial("term", sent.name, name, outcome, seconds, detail)


def damage(world: World, rng: Random, number: int) -> Trial:
    """One kind of damage to a finished build's store or outcome, then a rerun."""
    how = list(DAMAGES)[number % len(DAMAGES)]
    with world.copy(f"damage-{number}", 0, 0) as folder:
        if how.endswith("openings"):  # the list is read where a gate set is opened: that step has to run
            set_back(folder / "store", world.steps[-1:])
        needle = DAMAGES[how](world, folder, rng)
        if how == "flip_about":
            run = world.start(folder)
            if run.wait() != 3 or needle not in run.text():
                return Trial("damage", how, "store", "SILENT", detail=run.said())
            (folder / "store/store.json").write_bytes((world.base / "store/store.json").read_bytes())
            outcome, detail = judge(world, folder)
            outcome = GOOD[2] if outcome == GOOD[0] else outcome
        else:
            outcome, detail = judge(world, folder, needle)
    return Trial("damage", how, "store", outcome, detail=detail)


def run_trials(folder: Path, counts: dict[str, int], seed: int, say: Callable[[str], None]) -> list[Trial]:
    """So many trials of each kind."""
    from bench.crash_elsewhere import device_trials, disk

    server, found = Server(), []
    try:
        here = any(counts.get(kind) for kind in KINDS if kind != "device")
        world = make_world(folder / "world", server) if here else None
        makers: dict[str, Callable[[World, Random, int], Trial]] = {
            "kill": kill, "term": term, "damage": damage, "disk": disk,
        }  # fmt: skip
        for kind, make in makers.items() if world else ():
            number = done = 0
            while done < counts.get(kind, 0):
                assert world is not None
                trial = make(world, Random(f"{seed} {kind} {number}"), number)
                number += 1
                done += trial.outcome != "over before the kill"
                found.append(trial)
                say(f"{kind} {number}: {trial.how} at {trial.at}: {trial.outcome} {trial.detail}")
        if counts.get("device"):
            found += device_trials(folder, server, counts["device"], Random(f"{seed} device"), say)
    finally:
        server.close()
    return found


def count_trials(kills: int) -> dict[str, int]:
    """Trials of each kind beside so many kills."""
    return {kind: round(kills * share) for kind, share in BESIDE.items()}


def table(trials: Iterable[Trial]) -> str:
    """Rows of kind, way, outcome and how many."""
    counts = Counter((trial.kind, trial.how, trial.outcome) for trial in trials)
    rows = [f"{kind:<8} {how:<22} {outcome:<44} {count:>4}" for (kind, how, outcome), count in sorted(counts.items())]
    return "\n".join([f"{'kind':<8} {'how':<22} {'outcome':<44} {'n':>4}", *rows])


def bad(trials: Iterable[Trial]) -> list[Trial]:
    """Trials in which something was lost, or not said."""
    return [trial for trial in trials if trial.outcome not in (*GOOD, "over before the kill", "not possible here")]


def main(argv: list[str] | None = None) -> int:
    """Run, print the table; 1 when a trial went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.crash")
    parser.add_argument("--trials", type=int, default=KILLS, help="kills, the other kinds in proportion")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--json", type=Path, help="write every trial there")
    args = parser.parse_args(argv or [])
    counts = {args.only: args.trials} if args.only else count_trials(args.trials)
    with tempfile.TemporaryDirectory(prefix="edgeft-crash-") as folder:
        trials = run_trials(Path(folder), counts, args.seed, lambda text: print(text, file=sys.stderr, flush=True))
    if args.json:
        args.json.write_text(json.dumps([asdict(trial) for trial in trials], indent=1))
    print(table(trials))
    for trial in bad(trials):
        print(f"\n{trial.kind} {trial.how} at {trial.at}: {trial.outcome}\n{trial.detail}")
    return 1 if bad(trials) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
