"""Archives from strangers: what no bundle holds is refused before it is written, and a bomb before it fills the disk."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgeft import cli
from edgeft.cli.verify import verify_any
from edgeft.ship import archive
from edgeft.ship.archive import LIMITS, Limits, pack, unpack
from edgeft.ship.verify import Refused

Capture = pytest.CaptureFixture[str]


def as_zip(folder: Path, place: Path, top: str = "") -> Path:
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, f"{top}{path.relative_to(folder).as_posix()}")
    return place


def as_tar(folder: Path, place: Path, mode: str = "w:gz", top: str = "") -> Path:
    with tarfile.open(place, mode) as packed:
        packed.add(folder, top or ".")
    return place


def refuse(place: Path, words: str, limits: Limits = LIMITS) -> None:
    """By name, and nothing is left outside the folder that was named."""
    out = place.with_name(f"{place.name}.out")
    with pytest.raises(Refused, match=words) as refusal:
        unpack(place, out, limits)
    assert refusal.value.check == "archive"
    assert cli.main(["verify", str(place), "--no-golden"]) in (0, 1)


FORMS: dict[str, Callable[[Path, Path], Path]] = {
    "zip": as_zip,
    "zip of a folder": lambda folder, place: as_zip(folder, place, "tiny/"),
    "tar": lambda folder, place: as_tar(folder, place, "w:"),
    "tar.gz": as_tar,
    "tar of a folder": lambda folder, place: as_tar(folder, place, "w:gz", "tiny"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_bundle_in_an_archive_is_verified(
    form: str, bundle: Path, tmp_path: Path, trusted: dict[str, bytes], capsys: Capture
) -> None:
    place = FORMS[form](bundle, tmp_path / "b.bin")
    found = verify_any(place, trusted, golden=False)
    assert found.exit_code == 0, found.lines()
    (bundle / "model.onnx").write_bytes(b"x")
    found = verify_any(FORMS[form](bundle, tmp_path / "c.bin"), trusted, golden=False)
    assert found.exit_code == 1 and "model.onnx is not the file" in found.lines()[2]
    (bundle / "model.onnx").unlink()
    found = verify_any(FORMS[form](bundle, tmp_path / "d.bin"), trusted, golden=False)
    assert found.exit_code == 1 and "model.onnx is missing" in found.lines()[2]


def test_packing_gives_the_same_bytes_and_a_bundle(bundle: Path, tmp_path: Path, trusted: dict[str, bytes]) -> None:
    pack(bundle, tmp_path / "one.zip")
    os.utime(bundle / "model.onnx", (1e9, 1e9))
    pack(bundle, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert zipfile.ZipFile(tmp_path / "one.zip").namelist()[:2] == ["manifest.json", "manifest.sig"]
    assert verify_any(tmp_path / "one.zip", trusted, golden=False).exit_code == 0


def test_the_pack_command(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["pack", "bundle"]) == 0 and "tiny-local-cpu.zip" in capsys.readouterr().out
    assert cli.main(["pack", "bundle"]) == 2 and "is there already" in capsys.readouterr().err
    (bundle / "model.onnx").write_bytes(b"x")
    assert cli.main(["pack", "bundle", "--out", "x.zip"]) == 3 and "model.onnx is not" in capsys.readouterr().err
    assert not list(tmp_path.glob("*x.zip*"))


def zipped(place: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            packed.writestr(name, content)
    return place


def tarred(place: Path, *members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(place, "w:gz", format=form) as packed:
        for info, content in members:
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return place


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


OUTSIDE = ["../evil", "/tmp/evil-edgeft", "a/../../evil", "a\\..\\evil", "C:/evil", "a//b"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_outside(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    refuse(zipped(folder / "a.zip", (name, b"x")), "leads outside")
    refuse(tarred(folder / "a.tar", (member(name), b"x")), "leads outside")
    assert sorted(path.name for path in tmp_path.rglob("*evil*")) == [] and not Path("/tmp/evil-edgeft").exists()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "x is a link"),
        (tarfile.LNKTYPE, "x is a hard link"),
        (tarfile.CHRTYPE, "x is a pipe or device"),
        (tarfile.BLKTYPE, "x is a pipe or device"),
        (tarfile.FIFOTYPE, "x is a pipe or device"),
    ],
    ids=["link", "hard link", "char", "block", "pipe"],
)
def test_what_is_no_file_in_a_tar(kind: bytes, words: str, tmp_path: Path) -> None:
    members = (member("manifest.json"), b"{}"), (member("x", kind, "manifest.json"), b"")
    refuse(tarred(tmp_path / "a.tar.gz", *members), words)


@pytest.mark.parametrize(("mode", "words"), [(stat.S_IFLNK, "x is a link"), (stat.S_IFIFO, "x is a pipe or device")])
def test_what_is_no_file_in_a_zip(mode: int, words: str, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("x")
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    refuse(zipped(tmp_path / "a.zip", (info, b"/etc/passwd")), words)


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        ("a", "A", "are one name on some systems"),
        ("é", "É", "are one name on some systems"),
        ("d/a", "D/b", "are one name on some systems"),
        ("a", "a/b", "lies in a file"),
        ("e\u0301", "x", "NFC form"),
        ("a", "a", "is in it twice"),
    ],
)
def test_names_that_clash(one: str, two: str, words: str, tmp_path: Path) -> None:
    members = [("manifest.json", b"{}"), (one, b"1"), (two, b"2")]
    if one != two:
        refuse(zipped(tmp_path / "a.zip", *members), words)
    refuse(tarred(tmp_path / "a.tar.gz", *((member(name), content) for name, content in members)), words)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_in_a_zip(tmp_path: Path) -> None:
    refuse(zipped(tmp_path / "a.zip", ("manifest.json", b"{}"), ("manifest.json", b"{ }")), "is in it twice")


SMALL = Limits(bytes=4 << 20, ratio=20, free=1 << 20, files=50, directory=4096, headers=2 << 20)


def test_a_bomb(tmp_path: Path) -> None:
    """32 MiB of zeros: refused once 1 MiB, 20 times the archive or 4 MiB came out, whatever the headers say."""
    zeros = bytes(32 << 20)
    refuse(zipped(tmp_path / "a.zip", ("x", zeros)), "more than 20 times its size, as bombs do", SMALL)
    refuse(tarred(tmp_path / "a.tar.gz", (member("x"), zeros)), "more than 20 times its size, as bombs do", SMALL)
    written = sum(path.stat().st_size for path in tmp_path.rglob("x"))
    assert written <= 2 * (2 << 20)
    (tmp_path / "a.zip").rename(tmp_path / "b.zip")
    refuse(tmp_path / "b.zip", "unpacks to more than 4 MiB", replace(SMALL, ratio=10_000))


def test_a_bomb_of_names(tmp_path: Path) -> None:
    many = [(f"f{place}", b"") for place in range(60)]
    refuse(zipped(tmp_path / "a.zip", *many), "holds more than 50 files", SMALL)
    refuse(tarred(tmp_path / "a.tar.gz", *((member(name), b"") for name, _ in many)), "holds more than 50 files", SMALL)
    (tmp_path / "a.zip").rename(tmp_path / "b.zip")
    refuse(tmp_path / "b.zip", "the list of its members is larger", replace(SMALL, directory=1024))


def test_a_bomb_of_headers(tmp_path: Path) -> None:
    """Python's tar reader keeps the keys of every header in memory."""
    members = [(member(f"x{number}"), b"1") for number in range(5)]
    for info, _ in members:
        info.pax_headers = {f"key{place}": "v" * 200 for place in range(3000)}
    refuse(tarred(tmp_path / "a.tar.gz", *members), "headers take more than 2 MiB", replace(SMALL, ratio=10_000))
    big = member("x")
    big.pax_headers = {"key": "v" * (2 << 20)}
    refuse(tarred(tmp_path / "b.tar.gz", (big, b"1")), "header of more than 1 MiB")


def test_a_list_of_members_that_is_hidden_in_the_zip64_record(tmp_path: Path) -> None:
    content = zipped(tmp_path / "a.zip", ("x", b"1")).read_bytes()
    at = content.rfind(archive.END)
    count, _, start = struct.unpack_from("<HII", content, at + 10)
    record = struct.pack("<4sQ2H2I4Q", archive.END64, 44, 45, 45, 0, 0, count, count, 1 << 40, start)
    for place, words in ((at, "list of its members is larger"), (0, "list of its members is missing")):
        locator = struct.pack("<4sIQI", archive.LOCATOR64, 0, place, 1)
        (tmp_path / "b.zip").write_bytes(content[:at] + record + locator + content[at:])
        refuse(tmp_path / "b.zip", words)


def test_a_tar_that_goes_backwards(tmp_path: Path) -> None:
    """A negative size: Python's reader went back to the same header for ever (CVE-2025-8194)."""
    whole = tarred(tmp_path / "a.tar.gz", (member("x"), b"1" * 600), (member("y"), b"2"))
    content = bytearray(gzip.decompress(whole.read_bytes()))
    content[124:136] = b"\xff" * 10 + struct.pack(">h", -1024)
    content[148:156] = b" " * 8
    content[148:156] = f"{sum(content[:512]):06o}\0 ".encode()
    (tmp_path / "b.tar").write_bytes(content)
    refuse(tmp_path / "b.tar", "elsewhere|broken|no manifest|header")


def test_sparse_and_encrypted_and_odd_methods(tmp_path: Path) -> None:
    info = member("x")
    info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 40), "GNU.sparse.realsize": str(1 << 40)}
    refuse(tarred(tmp_path / "a.tar.gz", (info, b"1")), "x is no plain file")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_BZIP2) as packed:
        packed.writestr("x", b"1" * 100)
    refuse(tmp_path / "a.zip", "packed by a method")
    content = bytearray(zipped(tmp_path / "b.zip", ("x", b"1")).read_bytes())
    content[content.rfind(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "b.zip").write_bytes(content)
    refuse(tmp_path / "b.zip", "x is encrypted")


@pytest.mark.parametrize("cut", [3, 100, 300, -700])
@pytest.mark.parametrize("form", ["zip", "tar.gz", "tar"])
def test_an_archive_that_is_cut(form: str, cut: int, bundle: Path, tmp_path: Path, trusted: dict[str, bytes]) -> None:
    whole = FORMS[form](bundle, tmp_path / "whole").read_bytes()
    end = cut if form != "tar" else max(0, whole.rfind(b"ustar") + 300 + cut)
    (tmp_path / "cut").write_bytes(whole[:end])
    found = verify_any(tmp_path / "cut", trusted, golden=False)
    assert found.exit_code == 1, found.lines()


def test_what_is_no_archive_and_no_bundle(tmp_path: Path) -> None:
    for name, content, words in (
        ("a", b"", "no .zip, .tar"),
        ("b", b"BZh91AY", "no .zip, .tar"),
        ("c", b"PK\x03\x04", "broken"),
    ):
        (tmp_path / name).write_bytes(content)
        refuse(tmp_path / name, words)
    refuse(zipped(tmp_path / "d.zip", ("a/x", b"1"), ("b/manifest.json", b"{}")), r"no manifest\.json at its top")


@pytest.mark.parametrize("form", ["zip", "tar.gz", "tar"])
def test_flipped_bits_end_in_a_verdict(form: str, bundle: Path, tmp_path: Path, trusted: dict[str, bytes]) -> None:
    """No traceback: verified (a bit that says nothing of the bundle, such as a time) or refused."""
    whole = FORMS[form](bundle, tmp_path / "whole").read_bytes()
    codes = set()
    for place in range(0, len(whole), max(1, len(whole) // 150)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        (tmp_path / "changed").write_bytes(changed)
        codes.add(verify_any(tmp_path / "changed", trusted, golden=False).exit_code)
    assert codes <= {0, 1} and 1 in codes


def test_an_error_in_an_opened_archive_names_the_archive(tmp_path: Path, capsys: Capture) -> None:
    """The private folder is gone by then: its name would send people looking for nothing."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "manifest.json").write_text("{}")
    place = as_zip(broken, tmp_path / "broken.zip")
    assert cli.main(["run", str(place), "a text"]) == 3
    said = capsys.readouterr().err
    assert str(place / "manifest.json") in said and "edgeft-archive-" not in said
