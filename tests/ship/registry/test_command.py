"""`edgeft registry` as a user calls it: what it prints, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgeft.cli import main
from edgeft.ship.registry.core import Registry
from edgeft.ship.registry.names import NotPromotable, parse_reference
from edgeft.ship.verify import read_keys, verify_folder
from tests.ship.registry.conftest import Make
from tests.ship.registry.kit import make_bundle

WHO = ["--by", "Ada", "--reason", "because"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry's folder, named in the environment."""
    monkeypatch.setenv("EDGEFT_REGISTRY", str(tmp_path / "models"))
    return tmp_path / "models"


def call(*words: str) -> int:
    return main(["registry", *words])


def test_from_the_first_bundle_to_a_rollback(
    place: Path, signed: Make, release_key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    public = str(release_key.with_name("release.pem.pub"))
    assert call("add", str(signed(1))) == 0
    said = capsys.readouterr().out
    assert f"new registry: {place}" in said and "added tiny:1, PASS" in said and "in 5 files" in said
    assert call("add", str(signed(2, accuracy=0.93)), "--parent", "tiny:1") == 0
    assert call("add", str(signed(2, accuracy=0.93))) == 0
    assert "tiny:2 is this bundle already" in capsys.readouterr().out
    assert call("promote", "tiny:1", *WHO) == 5
    assert "no key was given" in capsys.readouterr().err
    assert call("promote", "tiny:1", *WHO, "--key", public) == 0
    assert call("trust", public, *WHO) == 0
    assert call("promote", "tiny:2", *WHO) == 0
    assert call("rollback", "tiny", *WHO) == 0
    assert "production of tiny is tiny:1 again" in capsys.readouterr().out
    assert call("get", "tiny@production", "--out", str(tmp_path / "got")) == 0
    assert verify_folder(tmp_path / "got", read_keys([Path(public)])).exit_code == 0
    assert call("get", "tiny@production", "--out", str(tmp_path / "got")) == 2
    assert call("list", "--json") == 0
    rows = json.loads(capsys.readouterr().out.partition("\n")[2])["versions"]
    assert [(row["version"], row["stages"], row["parent"]) for row in rows] == [
        ("1", ["production"], ""),
        ("2", [], "tiny:1"),
    ]


def test_an_archive_is_the_bundle_in_it(
    place: Path, signed: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = signed(1)
    assert main(["pack", str(folder), "--out", str(tmp_path / "tiny.zip")]) == 0
    assert call("add", str(tmp_path / "tiny.zip")) == 0
    capsys.readouterr()
    assert call("add", str(folder)) == 0
    assert "tiny:1 is this bundle already" in capsys.readouterr().out
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 no archive")
    assert call("add", str(tmp_path / "bad.zip")) == 2
    assert "is no bundle's archive" in capsys.readouterr().err


WITHOUT = """
import sys

class Absent:
    names = {"torch", "transformers", "numpy", "scipy", "pyarrow", "onnx", "onnxruntime", "datasets", "fsspec", "rich", "jinja2"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from edgeft import cli
sys.exit(cli.main(["registry", *sys.argv[1:]]))
"""


def test_a_release_machine_needs_neither_torch_nor_numpy(
    place: Path, signed: Make, release_key: Path, tmp_path: Path
) -> None:
    folder = str(signed(1))
    for words, code in (
        (["add", folder], 0),
        (["promote", "tiny", *WHO, "--key", str(release_key.with_name("release.pem.pub"))], 0),
        (["list"], 0),
        (["show", "tiny", "--html", str(tmp_path / "page.html")], 3),
    ):
        done = subprocess.run([sys.executable, "-c", WITHOUT, *words], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
    assert "an HTML page needs jinja2" in done.stderr


def test_refusals_and_their_codes(
    place: Path, signed: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("list") == 3
    assert "is no registry" in capsys.readouterr().err
    assert call("add", str(tmp_path)) == 2
    assert not place.exists()  # what is no bundle makes no registry
    assert call("add", str(make_bundle(tmp_path / "bad", gate="FAIL"))) == 0
    assert call("promote", "tiny:1", *WHO) == 1
    assert call("add", str(make_bundle(tmp_path / "open", 2, gate="INCONCLUSIVE", status="inconclusive"))) == 0
    assert call("promote", "tiny:2", *WHO) == 5
    assert call("promote", "tiny:3", *WHO) == 2
    assert call("promote", "tiny:2", "--by", "Ada", "--reason", " ") == 2
    assert call("promote", "tiny:2", "--by", "", "--reason", "x") == 2
    assert call("promote", "tiny:2", "--by", "a\nb", "--reason", "x") == 2
    assert call("trust", str(tmp_path / "absent.pub"), *WHO) == 2
    monkeypatch.delenv("EDGEFT_REGISTRY")
    capsys.readouterr()
    assert call("list") == 2
    assert "set EDGEFT_REGISTRY" in capsys.readouterr().err


@pytest.mark.parametrize("action", [["list"], ["show", "tiny"], ["show", "tiny:1"], ["log"]])
def test_reading_tells_what_was_edited(
    place: Path, signed: Make, action: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    call("add", str(signed(1)))
    call("add", str(signed(2)))
    entry = place / "log" / "00000002.json"
    entry.chmod(0o644)
    entry.write_bytes(entry.read_bytes().replace(b'"version":"2"', b'"version":"3"'))
    entry.write_bytes(entry.read_bytes() + b" ")
    capsys.readouterr()
    assert call(*action) == 3
    said = capsys.readouterr()
    assert "00000002.json was edited" in said.err
    assert "tiny" in said.out


def test_a_changed_bundle_is_told_by_name(place: Path, signed: Make, capsys: pytest.CaptureFixture[str]) -> None:
    call("add", str(signed(1)))
    model = next(place.glob("bundles/*/model.onnx"))
    model.chmod(0o644)
    model.write_bytes(model.read_bytes() + b"x")
    capsys.readouterr()
    assert call("list") == 3
    said = capsys.readouterr()
    assert "DAMAGED" in said.out
    assert "tiny:1 was changed: model.onnx is not the file that was bundled" in said.err


def test_compare_says_what_differs_and_leaves_times_out(
    place: Path, signed: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    call("add", str(signed(1)))
    call("add", str(signed(2, accuracy=0.93, labels=["b", "a"], gate_set="d" * 64)))
    capsys.readouterr()
    assert call("compare", "tiny:1", "tiny:2") == 0
    said = capsys.readouterr().out
    marked = [line.split()[1] for line in said.splitlines() if line.startswith("*")]
    assert marked == ["model", "bytes", "labels", "recipe", "data:", "gate", "accuracy"]
    assert "4.25" not in said  # the recorded latency
    assert "`edgeft check CANDIDATE --baseline BASELINE`" in said
    assert "gated on different cases" in said


def test_history_breaks_where_the_cases_changed(
    place: Path, signed: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, cases in enumerate("aad", 1):
        call("add", str(signed(seed, accuracy=0.9 + seed / 100, gate_set=cases * 64)))
    capsys.readouterr()
    page = tmp_path / "history.html"
    assert call("show", "tiny", "--html", str(page)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["VERSION", "tiny:1", "tiny:2", "--", "tiny:3"]
    text = page.read_text(encoding="utf-8")
    accuracy, size = (part for part in text.split("<svg")[1:])
    assert (accuracy.count("curve s0"), size.count("curve s0")) == (1, 2)
    assert "<desc>tiny:1 91; tiny:2 92; tiny:3 93</desc>" in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")


def test_what_a_stranger_wrote_is_escaped(
    place: Path, signed: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "<script>alert(1)</script>\x1b[31m"
    call("add", str(signed(1, labels=[hostile], candidate=hostile, status="passed")), "--by", "<b>Ada</b>")
    call("add", str(signed(2, task=hostile)))
    page = tmp_path / "history.html"
    capsys.readouterr()
    for words in (["show", "tiny:1"], ["show", "tiny:2"], ["compare", "tiny:1", "tiny:2"], ["list"]):
        assert call(*words) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert call("show", "tiny", "--html", str(page)) == 0
    assert "<script" not in page.read_text(encoding="utf-8")
    assert "<b>Ada" not in page.read_text(encoding="utf-8")


EVIDENCE = {
    "no JSON": b"{",
    "NaN": b'{"verdicts": [{"gate": "g", "metric": "m", "status": "PASS", "value": NaN}]}',
    "a verdict of words": b'{"verdicts": ["PASS"]}',
    "an unknown status": b'{"verdicts": [{"gate": "g", "metric": "m", "status": "GOOD"}]}',
    "a number of words": b'{"verdicts": [{"gate": "g", "metric": "m", "status": "PASS", "value": [1]}]}',
    "no list": b'{"verdicts": 5}',
    "deep": b"[" * 50_000,
}


@pytest.mark.parametrize("kind", EVIDENCE)
def test_evidence_that_cannot_be_read_is_not_promoted(local: Registry, signed: Make, kind: str) -> None:
    """The files are whole and signed, but what the gates said is not to be had from them."""
    added = local.add(signed(1, evidence=EVIDENCE[kind]))
    assert local.facts(added.stored.digest).problems
    with pytest.raises(NotPromotable, match=r"gates\.json"):
        local.promote(parse_reference("tiny:1"), "production", "Ada", "good")


def test_a_manifest_of_odd_types_is_shown_all_the_same(local: Registry, signed: Make) -> None:
    odd = {"labels": 5, "inputs": [1], "outputs": {"y": {"shape": 5}, "z": 1}, "task": ["x"], "model": 7}
    facts = local.facts(local.add(signed(1, evidence=b'{"verdicts": 5, "gate_set": 5}', **odd)).stored.digest)
    assert (facts.labels, facts.inputs, facts.verdicts, facts.metrics) == ([], {}, [], {})
