"""What a receiver finds in a bundle, and what he must not find."""

from __future__ import annotations

import csv
import hashlib
import json
import socket
from pathlib import Path

import numpy as np
import pytest

from edgeft import plugins
from tests.bundle.conftest import Built

pytestmark = pytest.mark.ml


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_promised_file_is_there_and_in_the_manifest(text: Built) -> None:
    promised = {
        "model.onnx", "preprocess.json", "tokenizer.json", "postprocess.json", "INTEGRATION.md", "golden/index.json",
        "gates.json", "report.html", "model_card.md", "cases.csv", "latency.json", "provenance.json", "split_groups.csv",
        "recipe.resolved.yaml", "environment.lock", "sbom.cdx.json", "licences.json", "reproduce.json",
        *(f"samples/{name}" for name in ("python/golden_test.py", "cpp/golden_test.cpp", "kotlin/GoldenTest.kt")),
        "samples/swift/GoldenTest.swift",
    }  # fmt: skip
    files = set(text.json("manifest.json")["files"])
    assert promised <= files
    on_disk = {path.relative_to(text.bundle).as_posix() for path in text.bundle.rglob("*") if path.is_file()}
    assert on_disk - {"manifest.json", "manifest.sig"} == files
    about = text.json("reproduce.json")
    assert {*about["same"], *about["differs"]} - {"manifest.json", "manifest.sig"} == files
    card = (text.bundle / "model_card.md").read_text()
    assert "reproduce.json" in card and "licences.json" in card
    assert card.startswith('---\nlicense: "apache-2.0"\n'), "as licences.json has it of the model"
    assert next(row for row in text.json("licences.json") if row["kind"] == "model")["licence"] == "apache-2.0"


@pytest.mark.parametrize("name", ["text", "private"])
def test_nothing_tells_of_the_builders_machine(name: str, request: pytest.FixtureRequest) -> None:
    built: Built = request.getfixturevalue(name)
    places = [str(built.bench.folder), str(built.bench.store), str(Path.home()) + "/", "pytest-of-"]
    places += [socket.gethostname()] if len(socket.gethostname()) > 8 else []
    for path in built.bundle.rglob("*"):
        if path.is_file():
            found = [place for place in places if place.encode() in path.read_bytes()]
            assert not found, f"{path.name} has {found}"


def test_the_bundle_still_runs(text: Built) -> None:
    run = text.bench.run("run", str(text.bundle), "Returns the eigenvalues of a matrix.", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["label"] in text.json("postprocess.json")["labels"]


def test_postprocessing_is_stated_whole(text: Built) -> None:
    found = text.json("postprocess.json")
    assert found["labels"] == text.json("manifest.json")["labels"] == ["jinja2", "networkx", "rich"]
    assert (found["output"], found["activation"], found["axis"]) == ("logits", "softmax", 1)
    assert found["outputs"]["logits"]["name"] == "logits" and found["outputs"]["logits"]["shape"][-1] == 3


def test_golden_cases_are_rows_of_the_calibration_split_and_never_of_the_gate_set(text: Built) -> None:
    index, raw = text.json("golden/index.json"), text.json("golden/raw.json")
    assert index["from"] == "calibration" and index["cases"] == len(raw) == 8
    assert set(raw) <= set(text.split("calibration").column("text").to_pylist())
    sealed = {line.encode() for line in text.split("gate").column("text").to_pylist()}
    for path in text.bundle.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [line for line in sealed if line in content], path.name


def test_golden_tensors_are_what_the_task_makes_and_the_artefact_answered(text: Built) -> None:
    import pyarrow as pa

    index = text.json("golden/index.json")
    task = plugins.load("tasks", "text-classification")()
    feeds = task.feeds(pa.table({"text": text.json("golden/raw.json")}), text.bundle)
    for name, row in index["inputs"].items():
        assert np.array_equal(np.load(text.bundle / "golden" / row["file"]), feeds[name])
    outputs = index["outputs"]["logits"]
    logits = np.load(text.bundle / "golden" / outputs["file"])
    assert list(logits.shape) == outputs["shape"] == [8, 3] and np.ptp(logits) > 0
    same, other = (outputs["tolerance"][name]["atol"] for name in ("same_processor", "other_processor"))
    assert 0 < same < other < np.abs(logits).max(), "a tolerance as large as the answers could not fail"


def test_tokenizer_vectors_are_the_frozen_tokenizers(text: Built) -> None:
    import pyarrow as pa

    about = text.json("golden/index.json")["tokenizer"]
    lines = [json.loads(line) for line in (text.bundle / "golden/tokenizer.jsonl").read_text().split("\n") if line]
    texts = [line["text"] for line in lines]
    assert len(texts) == len(set(texts)) == about["vectors"] >= 500
    kinds = {
        "emoji": "👍🏽",
        "accent": "café",
        "ideographs": "返回",
        "right to left": "שלום",
        "control": "\u0007",
        "mark": "e\u0301",
    }
    for kind, letters in kinds.items():
        assert any(letters in text for text in texts), kind
    assert "" in texts and any(len(line["ids"]) == about["length"] < len(line["text"]) for line in lines)
    feeds = plugins.load("tasks", "text-classification")().feeds(pa.table({"text": texts}), text.bundle)
    for place, line in enumerate(lines):
        padding = about["length"] - len(line["ids"])
        assert feeds["input_ids"][place].tolist() == line["ids"] + [about["pad_id"]] * padding
        assert feeds["attention_mask"][place].tolist() == [1] * len(line["ids"]) + [0] * padding


def test_cases_give_the_figures_of_the_gate_report(text: Built) -> None:
    cases, gates = rows_of(text.bundle / "cases.csv"), text.json("gates.json")
    assert len(cases) == gates["gate_set"]["n"] == text.split("gate").num_rows
    for side in ("source", "artefact"):
        right = sum(row[side] == row["truth"] for row in cases) / len(cases)
        assert right == pytest.approx(gates["gate_set"][side]["accuracy"], abs=1e-12)
        assert all((row[side] == row["truth"]) == (row[f"{side}_right"] == "1") for row in cases)
    assert {verdict["status"] for verdict in gates["verdicts"]} == {"PASS"}


def test_an_auditor_with_the_salt_finds_names_and_others_do_not(text: Built) -> None:
    salt = bytes.fromhex((text.bench.folder / "out/tiny/split-salt.txt").read_text().strip())
    listed = {row["group"]: row for row in rows_of(text.bundle / "split_groups.csv")}
    for split in ("train", "gate"):
        for name in set(text.split(split).column("group").to_pylist()):
            assert listed[hashlib.sha256(salt + name.encode()).hexdigest()[:32]]["split"] == split
            assert hashlib.sha256(name.encode()).hexdigest()[:32] not in listed
    counted = {name: about["n"] for name, about in text.json("provenance.json")["splits"].items()}
    for split, n in counted.items():
        assert sum(int(row["rows"]) for row in listed.values() if row["split"] == split) == n
    assert all(salt not in path.read_bytes() and salt.hex().encode() not in path.read_bytes()
               for path in text.bundle.rglob("*") if path.is_file())  # fmt: skip


def test_provenance_states_licence_hashes_and_division(text: Built, text_csv: Path) -> None:
    found = text.json("provenance.json")
    assert found["licence"] == "CC-BY-4.0"
    assert found["content"]["content"]["all"] == hashlib.sha256(text_csv.read_bytes()).hexdigest()
    assert found["division"]["by"] == "fractions" and found["division"]["seed"] == 3


def test_the_environment_lock_names_what_the_steps_used(text: Built) -> None:
    from importlib.metadata import version

    lines = (text.bundle / "environment.lock").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    for name in ("torch", "transformers", "onnxruntime", "tokenizers", "numpy", "pyarrow"):
        assert pinned[name] == version(name)
    assert "pytest" not in pinned and any("python" in line.lower() for line in lines if line.startswith("#"))


def test_latency_holds_every_candidate_with_its_runs(text: Built) -> None:
    found = text.json("latency.json")["runtimes"]["onnxruntime"]
    assert [row["name"] for row in found] == ["onnx/float", "onnx/int8-dynamic"]
    assert all(len(row["latency"]["samples_ms"]) >= 64 and row["latency"]["conditions"] for row in found)


def test_a_refused_artefact_gets_no_evidence_that_looks_like_a_release(text: Built) -> None:
    run = text.bench.run("build", "recipe.yaml", "--quiet", "--set", "gates.1.at_most=0.001", "--set", "name=refused")
    assert run.returncode == 1
    names = {path.name for path in (text.bench.folder / "out/refused").rglob("*")}
    assert "NOT-FOR-SHIPPING.txt" in names and not names & {"golden", "gates.json", "split-salt.txt"}
