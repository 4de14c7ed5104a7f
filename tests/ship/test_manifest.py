"""Manifests from strangers: names that lead elsewhere, doubled keys, depth, size, and what is no manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeft.canonical import canonical_json
from edgeft.ship import verify
from tests.ship.conftest import TENSOR

ROW = {"sha256": "0" * 64, "bytes": 1}


def manifest(files: Any, **changes: Any) -> bytes:
    return verify.canonical({"format": 2, "files": files, **changes})


def refuse(raw: bytes, words: str) -> None:
    with pytest.raises(verify.Refused, match=words) as refusal:
        verify.parse_manifest(raw)
    assert refusal.value.check == "manifest"


def test_the_receiver_writes_json_as_the_builder_does() -> None:
    value = {"b": [1, 2.5, None], "a": {"é": "\u4e2d\n", "x": TENSOR}, "e": {}, "f": []}
    assert verify.canonical(value) == canonical_json(value, indent=1)


@pytest.mark.parametrize(
    "name",
    [
        "../model.onnx",
        "/etc/passwd",
        "a/../../b",
        "a//b",
        "./a",
        "a/.",
        "C:/x",
        "c:x",
        "..\\x",
        "a\\..\\b",
        "",
        "a/",
        "\\\\host\\x",
    ],
)
def test_a_name_that_leads_outside(name: str) -> None:
    refuse(manifest({name: ROW}), "the name leads outside the bundle")


@pytest.mark.parametrize("name", ["CON", "nul.txt", "a/COM1.onnx", "a.", "a ", "x/y /z", "a?b", "a*"])
def test_a_name_that_not_every_system_has(name: str) -> None:
    refuse(manifest({name: ROW}), "not possible on every system")


@pytest.mark.parametrize("name", ["a\nb", "a\x00b", "a\u202eb", "e\u0301", "\u212b"])
def test_a_name_that_reads_as_another(name: str) -> None:
    refuse(manifest({name: ROW}), "do not print, or is not in Unicode's NFC form")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("model.onnx", "Model.onnx"),
        ("a/x", "A/y"),
        ("stra\u00dfe", "strasse"),
        ("\ufb01le", "file"),
        ("\u00e9", "\u00c9"),
    ],
)
def test_names_that_are_one_on_some_systems(one: str, two: str) -> None:
    refuse(manifest({one: ROW, two: ROW}), "are one name on some systems")


def test_a_name_that_is_a_file_and_a_folder() -> None:
    refuse(manifest({"a": ROW, "a/b": ROW}), "both a file and a folder")


def test_too_long_and_too_deep() -> None:
    refuse(manifest({"a" * 300: ROW}), "too long or too deep")
    refuse(manifest({"/".join("a" * 50): ROW}), "too long or too deep")


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig"])
def test_a_manifest_does_not_list_itself(name: str) -> None:
    refuse(manifest({name: ROW}), "it cannot list itself")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"format": 2, "files": {}, "files": {"a": 1}}', "a key stands twice"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"format": NaN}', "NaN is no number"),
        (b'{"format": ' + b"9" * 5000 + b"}", "not sound JSON"),
        (b'{"format": 2', "not sound JSON"),
        (b"\xff\xfe", "not sound JSON"),
        (b"[]", "it is no object"),
        (b"", "not sound JSON"),
    ],
    ids=["doubled", "deep", "deeper", "nan", "digits", "cut", "bytes", "list", "empty"],
)
def test_what_is_no_sound_json(raw: bytes, words: str) -> None:
    refuse(raw, words)


@pytest.mark.parametrize("form", [0, 3, "2", 2.0, True, None, [2]], ids=str)
def test_a_format_of_another_time_is_refused_by_name(form: Any) -> None:
    refuse(verify.canonical({"format": form, "files": {"a": ROW}}), "format .*; this reads 1, 2")


def test_format_1_is_read_also_where_it_is_not_canonical() -> None:
    import json

    assert verify.parse_manifest(json.dumps({"format": 1, "files": {"a": ROW}}).encode())["format"] == 1
    refuse(json.dumps({"format": 2, "files": {"a": ROW}}).encode(), "not written in canonical form")


@pytest.mark.parametrize(
    "row",
    [
        {"sha256": "0" * 64}, {**ROW, "more": 1}, {**ROW, "bytes": -1}, {**ROW, "bytes": True}, {**ROW, "bytes": 1.0},
        {**ROW, "bytes": 1 << 60}, {**ROW, "sha256": "0" * 63}, {**ROW, "sha256": "A" * 64}, {**ROW, "sha256": None}, [], None,
    ],
    ids=str,
)  # fmt: skip
def test_a_row_that_is_none(row: Any) -> None:
    refuse(manifest({"a": row}), "^a: ")


@pytest.mark.parametrize("files", [{}, [], None, {str(n): ROW for n in range(verify.MOST_FILES + 1)}], ids=type)
def test_how_many_files(files: Any) -> None:
    refuse(manifest(files), "must list 1 to")


def test_a_manifest_larger_than_any(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b" " * (verify.MAX_MANIFEST_BYTES + 1))
    found = verify.verify_folder(tmp_path, {})
    assert found.exit_code == 1 and "larger than" in found.findings[0].said


def test_a_strangers_words_are_harmless_on_a_terminal() -> None:
    assert verify.shown("a\x1b[2Jb") == "a\\x1b[2Jb"
    assert len(verify.shown("x" * 10_000)) == verify.LONGEST
    refuse(manifest({"\x1b]0;x": ROW}), r"\\x1b]0;x")
