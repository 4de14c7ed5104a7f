"""record.json round-trips and is read as untrusted input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeft.errors import Exit
from edgeft.record import RunRecord
from edgeft.report import RecordError, read_record, render_json
from tests.report import sample


@pytest.mark.parametrize("build", sample.EVERY.values(), ids=sample.EVERY)
def test_round_trip(build: Callable[[], RunRecord], tmp_path: Path) -> None:
    record = build()
    (tmp_path / "record.json").write_bytes(render_json(record))
    assert read_record(tmp_path) == record
    assert render_json(read_record(tmp_path / "record.json")) == render_json(record)


def test_nan_survives_because_a_build_that_failed_by_it_must_say_so(tmp_path: Path) -> None:
    record = sample.record()
    point = record.training[0].curve[0].model_copy(update={"loss": float("nan"), "memory_mb": float("inf")})
    run = record.training[0].model_copy(update={"curve": [point], "best_metric": float("nan")})
    raw = render_json(record.model_copy(update={"training": [run]}))
    json.loads(raw, parse_constant=pytest.fail)
    (tmp_path / "record.json").write_bytes(raw)
    back = read_record(tmp_path).training[0]
    assert back.best_metric != back.best_metric
    assert back.curve[0].memory_mb == float("inf")


def spoiled(**changes: object) -> bytes:
    return json.dumps({**sample.record().model_dump(mode="json"), **changes}).encode()


def measured(**changes: object) -> bytes:
    """The sample with its first measurement edited by hand."""
    data = sample.record().model_dump(mode="json")
    next(row for row in data["targets"][0]["candidates"] if row["metrics"])["metrics"][0].update(changes)
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[1]", "no object"),
        (b'{"schema_version": NaN}', "not valid JSON"),
        (b"{}", "schema_version is None"),
        (spoiled(schema_version=99), "schema_version is 99"),
        (spoiled(schema_version="1"), "schema_version is '1'"),
        (spoiled(status="great"), "status"),
        (spoiled(unheard_of=1), "unheard_of"),
        (spoiled(targets=[{}]), "more"),
        (measured(interval=3), "interval must be two numbers"),
        (measured(interval=[0.1]), "interval must be two numbers"),
        (measured(interval=[0.1, "<b>"]), "interval must be a number"),
        (measured(value="x"), "value must be a number"),
        (measured(n="<script>"), "n must be a number"),
        (measured(n=None), "n is not stated"),
        (measured(n=1.5), "n must be a whole number"),
    ],
)
def test_bad_records_are_named(content: bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    file.write_bytes(content)
    with pytest.raises(RecordError) as caught:
        read_record(file)
    assert says in caught.value.what
    assert caught.value.where == str(file)
    assert caught.value.exit_code == Exit.USAGE


def test_a_newer_record_asks_for_an_upgrade(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_bytes(spoiled(schema_version=2))
    with pytest.raises(RecordError) as caught:
        read_record(tmp_path)
    assert "upgrade" in caught.value.hint


def test_a_missing_and_an_enormous_record_are_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such record"):
        read_record(tmp_path)
    with (tmp_path / "record.json").open("wb") as stream:
        stream.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(RecordError, match="at most"):
        read_record(tmp_path)
