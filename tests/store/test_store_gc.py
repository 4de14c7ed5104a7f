"""Making room: what goes first, what never goes, and what is said about it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft.store import StepResult, Store

Put = Callable[..., StepResult]
DAY = 86400


@pytest.fixture
def aged(tmp_path: Path, put: Put) -> dict[str, StepResult]:
    """Three steps of 100 kB, used 3, 2 and 1 days ago, put by a store that is closed (so nothing is in use)."""
    store = Store(tmp_path / "store")
    made = {name: put(name, {"f": os.urandom(100_000)}, into=store) for name in ("old", "middle", "new")}
    for days, name in zip((3, 2, 1), made, strict=True):
        age(store.layout.step(made[name].key), days)
    store.close()
    return made


def age(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def names(store: Store, made: dict[str, StepResult]) -> set[str]:
    return {name for name, result in made.items() if store.layout.step(result.key).exists()}


def test_the_least_recently_used_go_first_until_it_fits(store: Store, aged: dict[str, StepResult]) -> None:
    report = store.gc(keep_bytes=250_000)
    assert names(store, aged) == {"middle", "new"}
    assert report.before - report.after == report.freed >= 100_000
    assert report.after <= 250_000
    assert not store.layout.object(aged["old"].digest).exists()
    assert store.usage().total == pytest.approx(report.after, abs=60_000)  # the memo's SQLite pages


def test_a_use_makes_a_step_young_again(store: Store, aged: dict[str, StepResult]) -> None:
    user = Store(store.root)
    user.find(aged["old"].key)
    user.close()
    store.gc(keep_bytes=250_000)
    assert names(store, aged) == {"old", "new"}


def test_age_alone_removes_what_is_older(store: Store, aged: dict[str, StepResult]) -> None:
    report = store.gc(keep_days=1.5)
    assert names(store, aged) == {"new"}
    assert {item.why for item in report.removed} == {"not used for 3 days", "not used for 2 days"}


def test_a_dry_run_says_the_same_and_removes_nothing(store: Store, aged: dict[str, StepResult]) -> None:
    said = store.gc(keep_bytes=250_000, dry_run=True)
    assert names(store, aged) == {"old", "middle", "new"}
    done = store.gc(keep_bytes=250_000)
    assert [(item.area, item.name, item.bytes) for item in said.removed] == [
        (item.area, item.name, item.bytes) for item in done.removed
    ]


def test_what_a_living_process_found_is_kept(store: Store, aged: dict[str, StepResult], other: Any) -> None:
    with other(f"store.find({aged['old'].key!r}); say('found'); wait()") as user:
        assert user.hear() == "found"
        report = store.gc(keep_bytes=0)
        assert names(store, aged) == {"old"}
        assert report.in_use == 1
        user.kill()
    store.gc(keep_bytes=0)
    assert names(store, aged) == set()


def test_what_this_store_committed_is_kept_while_it_is_open(store: Store, put: Put) -> None:
    result = put("a")
    store.gc(keep_bytes=0, keep_days=0)
    assert store.find(result.key) == result


def test_a_shared_object_stays_while_one_step_names_it(tmp_path: Path, put: Put) -> None:
    maker = Store(tmp_path / "store")
    one, two = put("one", {"f": bytes(9)}, into=maker), put("two", {"f": bytes(9)}, into=maker)
    age(maker.layout.step(one.key), 9)
    maker.close()
    store = Store(tmp_path / "store")
    store.gc(keep_days=5)
    assert store.find(one.key) is None
    assert store.find(two.key) == two


def test_a_claimed_scratch_is_kept_an_old_free_one_goes(store: Store, other: Any) -> None:
    key = "a" * 64
    code = f"""
with store.claim({key!r}) as claim:
    (claim.scratch / "checkpoint").write_bytes(bytes(1000)); say("claimed"); wait()
"""
    with other(code) as trainer:
        assert trainer.hear() == "claimed"
        assert store.gc(keep_bytes=0, keep_days=0).in_use == 1
        assert (store.layout.scratch_of(key) / "checkpoint").exists()
        trainer.kill()
    store.gc(keep_days=1)
    assert (store.layout.scratch_of(key) / "checkpoint").exists(), "a killed training is resumed, not removed"
    for path in (store.layout.scratch_of(key) / "checkpoint", store.layout.scratch_of(key)):
        age(path, 2)
    store.gc(keep_days=1)
    assert not store.layout.scratch_of(key).exists()


def test_needless_things_go_without_any_limit(store: Store, aged: dict[str, StepResult]) -> None:
    with store.claim(aged["new"].key) as claim:
        (claim.scratch / "checkpoint").write_bytes(bytes(50_000))
        (claim.scratch / "log.txt").write_text("noise")
    store.layout.step(aged["old"].key).unlink()
    store.layout.step(aged["middle"].key).write_text("{")
    store.layout.broken.mkdir()
    (store.layout.broken / "thing").write_bytes(bytes(100))
    report = store.gc()
    assert {(item.area, item.why) for item in report.removed} == {
        ("objects", "no step names it"), ("records", "damaged record"), ("broken", "damaged"), ("scratch", "its step is finished"),
    }  # fmt: skip
    assert store.find(aged["new"].key) == aged["new"]
    assert [path.name for path in store.layout.scratch_of(aged["new"].key).iterdir()] == ["log.txt"]
    assert store.gc().removed == ()


def test_gc_while_others_build_takes_nothing_from_them(store: Store, other: Any) -> None:
    build = """
wait()
for number in range(15):
    material = {"id": "s", "number": number, "by": os.getpid()}
    with store.claim(step_key(material)), store.workspace() as folder:
        (folder / "f").write_bytes(number.to_bytes(4, "big") * 5000)
        result = store.commit(step_key(material), material, "record", folder, {}, 0)
    assert store.find(result.key) == result
    assert (store.artifact(result).path / "f").exists()
say("whole")
"""
    with other(build) as one, other(build) as two:
        one.tell()
        two.tell()
        while one.process.poll() is None or two.process.poll() is None:
            store.gc(keep_bytes=0, keep_days=0)
        assert (one.hear(), two.hear()) == ("whole", "whole")


def test_usage_adds_up(store: Store, put: Put) -> None:
    put("a", {"f": bytes(1000)})
    use = store.usage()
    areas = {area.name: area for area in use.areas}
    assert areas["objects"].count == 1
    assert areas["objects"].bytes >= 1000
    assert use.total == sum(area.bytes for area in use.areas)
    assert use.free is not None
    assert use.free > 0
