"""Several real processes on one store, some of them killed with SIGKILL."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft.canonical import digest_tree
from edgeft.store import StepResult, Store, step_key

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
Put = Callable[..., StepResult]

COMMIT_MANY = """
wait()
for number in range(20):
    material = {"id": "step", "number": number}
    with store.claim(step_key(material)), store.workspace() as folder:
        if store.find(step_key(material)) is None:
            (folder / "f").write_bytes(bytes([number]) * 20000)
            (folder / "by").write_text("same for all")
            store.commit(step_key(material), material, "record", folder, {}, 0)
    store.remember_latest("demo", "step", step_key(material), material)
    store.record_opening("gate", "demo", {}, "now")
say("done")
"""


def test_concurrent_builds_agree_and_corrupt_nothing(store: Store, other: Any) -> None:
    with other(COMMIT_MANY) as one, other(COMMIT_MANY) as two, other(COMMIT_MANY) as three:
        for process in (one, two, three):
            process.tell()
        assert [process.end() for process in (one, two, three)] == [0, 0, 0]
    for number in range(20):
        found = store.find(step_key({"id": "step", "number": number}))
        assert found is not None
        assert digest_tree(store.artifact(found).path) == found.digest
    assert store.usage().areas[0].count == 20
    assert [item["number"] for item in store.openings("gate")] == list(range(1, 61))
    assert list(store.layout.tmp.iterdir()) == [] or store.usage().areas[3].bytes < 5000


def test_a_second_process_waits_for_the_first_and_says_so(store: Store, other: Any) -> None:
    code = """
with store.claim("a" * 64) as claim:
    (claim.scratch / "checkpoint").write_text("1"); say("claimed"); wait()
say("released")
"""
    with other(code) as holder:
        assert holder.hear() == "claimed"
        with other("""
with store.claim("a" * 64, on_wait=say) as claim:
    say((claim.scratch / "checkpoint").read_text())
""") as waiter:
            assert waiter.hear() == f"another build (process {holder.process.pid}) is running this step; waiting for it"
            holder.tell()
            assert holder.hear() == "released"
            assert waiter.hear() == "1"


def test_a_killed_claim_frees_the_lock_and_keeps_its_scratch(store: Store, other: Any) -> None:
    code = """
with store.claim("a" * 64) as claim:
    (claim.scratch / "checkpoint").write_text("step 500"); say("claimed"); wait()
"""
    with other(code) as holder:
        assert holder.hear() == "claimed"
        holder.kill()
    waited: list[str] = []
    with store.claim("a" * 64, on_wait=waited.append) as claim:
        assert waited == []
        assert (claim.scratch / "checkpoint").read_text() == "step 500"


def test_a_claim_is_free_after_a_kill_although_a_forked_child_lives(store: Store, other: Any) -> None:
    """Data-loader workers are forks; one that outlives its killed parent must not hold the step."""
    code = """
with store.claim("a" * 64) as claim:
    alive, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(told, b"x"); time.sleep(60); os._exit(0)
    os.read(alive, 1); say(child); wait()
"""
    with other(code) as holder:
        child = int(holder.hear())
        try:
            holder.kill()
            waited: list[str] = []
            with store.claim("a" * 64, on_wait=waited.append):
                assert waited == []
        finally:
            os.kill(child, signal.SIGKILL)


def test_leftovers_of_a_killed_process_are_cleared_by_the_next_start(store: Store, other: Any) -> None:
    code = """
with store.workspace() as folder:
    (folder / "half").write_bytes(bytes(1_000_000)); say("half"); wait()
"""
    with other(code) as living, other(code) as killed:
        assert (living.hear(), killed.hear()) == ("half", "half")
        killed.kill()
        assert sum(path.name == "half" for path in store.layout.tmp.rglob("*")) == 2
        Store(store.root).close()
        assert sum(path.name == "half" for path in store.layout.tmp.rglob("*")) == 1, "the living process keeps its own"
        living.tell()
        assert living.end() == 0
    Store(store.root).close()
    assert sum(path.name == "half" for path in store.layout.tmp.rglob("*")) == 0


KILLED_COMMIT = """
number = int(wait())
say("ready")
while True:
    material = {"id": "killed", "number": number}
    with store.workspace() as folder:
        for name in range(6):
            (folder / str(name)).write_bytes(number.to_bytes(4, "big") * 15000)
        store.commit(step_key(material), material, "record", folder, {}, 0)
    if number == 0:
        say("committed")
    number += 1
"""


def test_a_kill_at_any_moment_of_commits_leaves_only_whole_results(store: Store, other: Any) -> None:
    seed = random.Random(7)
    for turn in range(12):
        with other(KILLED_COMMIT) as builder:
            builder.tell(str(turn * 1000))
            assert builder.hear() == "ready"
            if turn == 0:  # one whole commit at least, however busy this machine is
                assert builder.hear() == "committed"
            time.sleep(seed.uniform(0, 0.06))
            builder.kill()
    again = Store(store.root)
    records = list(again.layout.steps.glob("*.json"))
    assert records, "no commit finished before the kill: the test proves nothing"
    for path in records:
        found = again.find(path.stem)
        assert found is not None
        assert digest_tree(again.artifact(found).path) == found.digest
    assert not any(again.layout.broken.glob("*"))
    again.gc()
    objects = {path.name for path in again.layout.objects.glob("*/*") if path.is_dir()}
    assert len(objects) == len(records), "orphans of killed commits are collected"
    assert [path for path in again.layout.tmp.rglob("*") if path.is_file() and path.stat().st_size > 10_000] == []
    again.close()


def test_a_second_process_finds_what_the_first_committed(store: Store, put: Put, other: Any) -> None:
    result = put("a")
    with other(f"say(store.find({result.key!r}).digest)") as reader:
        assert reader.hear() == result.digest


def test_a_use_after_fork_leaves_the_parents_session_alone(store: Store, put: Put) -> None:
    """A forked child that ends normally must not remove its parent's temporary folder."""
    result = put("a")
    with store.workspace() as folder:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if store.find(result.key) == result else 2
                store.close()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert Path(folder).is_dir()
    assert store.find(result.key) == result
