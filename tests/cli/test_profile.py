"""`edgeft profile` and `edgeft compare` as a user runs them: verdicts, exit codes, no torch, foreign files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeft import cli
from edgeft.targets import latency, roofline, sessions
from edgeft.targets.profile import compare as profile_compare

pytestmark = pytest.mark.ml
SHORT = latency.Protocol(runs=64, seconds=0.4, cold=2)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocol as it is, on a tenth of a second's blocks."""
    monkeypatch.setitem(latency.PROTOCOLS, "quick", SHORT)
    monkeypatch.setitem(profile_compare.PLANS, "quick", profile_compare.Plan(blocks=3, seconds=0.5))
    monkeypatch.setitem(sessions.PLANS, "quick", sessions.Plan(sessions=3, blocks=2, seconds=0.6))
    monkeypatch.setattr(roofline, "PROBE_SECONDS", 0.05)


def save_model(path: Path, seed: int = 0, columns: int = 64) -> Path:
    """A product and an activation, with names that edgeft would not choose."""
    make, value = onnx.helper, onnx.helper.make_tensor_value_info
    weight = np.random.default_rng(seed).standard_normal((32, columns)).astype(np.float32)
    graph = make.make_graph(
        [make.make_node("MatMul", ["in:0", "w"], ["h"], name="dense"), make.make_node("Tanh", ["h"], ["out:0"])],
        "foreign",
        [value("in:0", onnx.TensorProto.FLOAT, ["N", 32])],
        [value("out:0", onnx.TensorProto.FLOAT, ["N", columns])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def ask(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, dict[str, Any]]:
    code = cli.main([*map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_foreign_model_whole(short: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, record = ask(capsys, "profile", save_model(tmp_path / "foreign.onnx"), "--batch", 8, "--out", tmp_path / "o")
    assert code == (0 if record["verdict"] == "VALID" else 5) and bool(record["reasons"]) == (code == 5)
    assert record["model"]["file"] == "foreign.onnx" and record["model"]["runtime"] == "onnxruntime"
    assert record["model"]["inputs"][0]["run"] == [8, 32] and record["inputs"].startswith("synthetic")
    metrics = {row["metric"]: row for row in record["metrics"]}
    assert {"latency_p50_ms", "latency_p90_ms", "cold_load_ms", "first_inference_ms", "peak_memory_mb"} < set(metrics)
    assert metrics["artifact_mb"]["value"] * 1e6 == (tmp_path / "foreign.onnx").stat().st_size
    assert [row["op"] for row in record["operators"]] == ["MatMul", "Tanh"]
    assert sum(row["share"] for row in record["operators"]) == pytest.approx(1)
    assert record["placement"] == {"CPUExecutionProvider": 2} and record["fallback"] is None
    assert record["roofline"]["gigaops"] == pytest.approx(2 * 8 * 32 * 64 / 1e9)
    assert record["conditions"]["onnxruntime"] and record["latency"]["conditions"]["core_share"]
    raw = json.loads((tmp_path / "o" / "samples.json").read_text())
    valid = [value for block in raw["blocks"] if not block["void"] for value in block["ms"]]
    assert len(valid) in (record["latency"]["runs"], 0), "every sample is kept, and the void blocks beside them"
    assert (tmp_path / "o" / "report.html").read_text().lstrip().startswith("<!")


def make_model(suffix: str, folder: Path) -> Path:
    """A tiny model of that format: another program's for .tflite, .xml and .param, edgeft's own for .ort and .pte."""
    if suffix == ".tflite":
        from tests.runtimes.test_litert import write_model

        return write_model(folder / "foreign.tflite")
    if suffix == ".xml":
        from tests.runtimes.test_ov import saved_xml

        return saved_xml(folder)
    if suffix == ".param":
        from tests.runtimes.test_ncnn import save

        return save(folder)
    from edgeft.artifact import entry_file
    from tests.exporters.test_images import export

    return entry_file(export({".ort": "ort", ".pte": "executorch"}[suffix], "conv", folder)[3].path)


@pytest.mark.parametrize(
    ("suffix", "runtime", "backends", "fallback"),
    [
        (".tflite", "litert", {"XNNPACK", "CPU"}, 0.5),
        (".xml", "openvino", {"CPU"}, None),
        (".param", "ncnn", {"CPU"}, None),
        (".ort", "onnxruntime", {"CPUExecutionProvider"}, None),
        (".pte", "executorch", {"XnnpackBackend", "portable"}, ...),
    ],
)
def test_every_format_is_profiled(
    short: None, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    suffix: str, runtime: str, backends: set[str], fallback: Any,
) -> None:  # fmt: skip
    """Times, where nodes ran, and what a delegate left: only LiteRT and ExecuTorch have one here."""
    pytest.importorskip({"litert": "ai_edge_litert"}.get(runtime, runtime))
    model = make_model(suffix, tmp_path)
    capsys.readouterr()
    code, record = ask(capsys, "profile", model)
    assert code in (0, 5) and record["model"]["runtime"] == runtime and record["model"]["file"] == model.name
    metrics = {row["metric"]: row["value"] for row in record["metrics"]}
    assert metrics["latency_p50_ms"] > 0 < metrics["cold_load_ms"] and record["latency"]["runs"] > 0
    assert record["operators"] and {name.split()[0] for name in record["placement"]} == backends
    if fallback is ...:
        fallback = record["placement"]["portable"] / sum(record["placement"].values())
    assert record["fallback"] == fallback


def test_against_another_and_as_text(short: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, other = save_model(tmp_path / "a.onnx"), save_model(tmp_path / "b.onnx", seed=1)
    code = cli.main(["profile", str(ours), "--against", str(other)])
    text = capsys.readouterr().out
    assert code in (0, 5) and text.startswith(("VALID  a.onnx", "INVALID  a.onnx"))
    assert "a.onnx is" in text and "b.onnx" in text and "sessions of blocks A B B A" in text and "out:0: max" in text
    assert "synthetic" in text and "MLPerf p90" in text and "(estimated)" in text


def test_compare_three(short: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "cases.npz", **{"in:0": np.zeros((4, 32), np.float32)})
    models = [save_model(tmp_path / f"{index}.onnx", seed=index // 2) for index in range(3)]
    code, record = ask(capsys, "compare", *models, "--inputs", tmp_path / "cases.npz")
    assert code in (0, 5) and record["inputs"] == "4 cases from cases.npz, 1 a run"
    same, other = record["comparisons"]
    assert (same["a"], same["b"], other["a"], other["b"]) == ("0.onnx", "1.onnx", "0.onnx", "2.onnx")
    assert same["outputs"][0]["max_abs"] == 0 and same["outputs"][0]["top1_agreement"] == 1
    assert same["interval"][0] <= same["ratio"] <= same["interval"][1]
    assert same["sessions"] > 1 and same["how"] == "one process a session"


def test_a_ratio_above_one_is_of_a_faster_b(short: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A has to do a thousand times as much: the times, the ratio and its interval say so, in this direction."""
    large, small = save_model(tmp_path / "large.onnx", columns=1 << 16), save_model(tmp_path / "small.onnx")
    _, record = ask(capsys, "compare", large, small)
    (row,) = record["comparisons"]
    assert (row["a"], row["b"]) == ("large.onnx", "small.onnx") and row["a_ms"] > 2 * row["b_ms"]
    assert 2 < row["ratio"] == pytest.approx(row["a_ms"] / row["b_ms"], rel=0.5)
    assert 1 < row["interval"][0] <= row["ratio"] <= row["interval"][1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["none.onnx"], 2, "there is no such file"),
        (["{model}", "--device", "local-cpi"], 2, "did you mean 'local-cpu'?"),
        (["{model}", "--batch", "0"], 2, "must be 1 or more"),
        (["{model}", "--shape", "in:0=4"], 2, "in:0 is Nx32"),
        (["{model}", "--inputs", "{model}"], 2, "no .npz"),
        (["{model}", "--wait-device", "soon"], 2, "is not a time"),
        (["{model}", "--pack", "a.zip", "--against", "{model}"], 2, "needs the device at hand"),
        (["{model}", "--collect", "{text}"], 2, "job.zip: there is no such file"),
        (["{text}"], 2, "no runtime opens a '.txt' file"),
        (["{broken}"], 4, "refused the inspect job"),
        (["{model}", "--device", "{emulated}"], 4, "is emulated: times taken there"),
    ],
)
def test_what_goes_wrong_is_a_sentence(
    words: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x09broken")
    (tmp_path / "phone.yaml").write_text("name: phone\ntransport: emulated\nhow: emulated\narchitecture: aarch64\n")
    places = {
        "model": save_model(tmp_path / "m.onnx"), "text": tmp_path / "a.txt", "broken": tmp_path / "broken.onnx",
        "emulated": tmp_path / "phone.yaml",
    }  # fmt: skip
    assert cli.main(["profile", *(word.format(**places) for word in words)]) == code
    found = capsys.readouterr()
    assert said in found.err and "Traceback" not in found.err and found.out == ""


WITHOUT_TORCH = """
import sys

class Absent:
    names = {"torch", "transformers", "peft", "datasets", "pyarrow", "sklearn", "onnxscript", "accelerate", "jinja2"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from edgeft import cli
from edgeft.targets import latency, roofline
latency.PROTOCOLS["quick"] = latency.Protocol(runs=64, seconds=0.4, cold=2)
roofline.PROBE_SECONDS = 0.05
code = cli.main(sys.argv[1:])
assert not Absent.names & set(sys.modules)
sys.exit(code)
"""


def test_it_needs_no_torch(tmp_path: Path) -> None:
    """numpy, scipy, pydantic, ruamel.yaml and filelock on the host, and the runtime; jinja2 for --out alone."""
    model = save_model(tmp_path / "m.onnx")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "profile", str(model), "--json"], capture_output=True, text=True
    )
    assert done.returncode in (0, 5), done.stderr
    assert json.loads(done.stdout)["latency"]["runs"] > 0


def test_weights_beside_the_model_travel_with_it(tmp_path: Path) -> None:
    from edgeft.targets.profile.model import open_model

    model = onnx.load(str(save_model(tmp_path / "m.onnx", columns=512)))
    onnx.save(model, str(tmp_path / "big.onnx"), save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "letter.txt").write_text("private")
    with open_model(tmp_path / "big.onnx") as opened:
        beside = sorted(path.name for path in opened.artifact.path.parent.iterdir())
        assert beside == ["big.onnx", "weights.bin"], "and nothing else of the folder it lay in"
        assert opened.bytes > 32 * 512 * 4
    assert not opened.artifact.path.exists() and (tmp_path / "weights.bin").is_file()


def test_carried_there_and_back(short: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The packed folder is run here by a plain interpreter, as a person would there."""
    words = carry(tmp_path, "")
    assert "python run.py" in capsys.readouterr().out
    code, record = ask(capsys, *words)
    assert code in (0, 5) and record["device"] == "clinic" and record["latency"]["runs"] > 0
    assert record["conditions"]["transport"] == "carried by hand" and len(record["operators"]) == 2
    save_model(tmp_path / "m.onnx", seed=5)
    assert cli.main(words) == 2 and "was packed with sha256" in capsys.readouterr().err


def carry(tmp_path: Path, profile: str, **environment: str) -> list[Any]:
    """Pack a profile for the device `clinic`, run it here by hand; the words that collect it."""
    model, job = save_model(tmp_path / "m.onnx"), tmp_path / "job.zip"
    (tmp_path / "clinic.yaml").write_text(f"name: clinic\ntransport: carried\n{profile}")
    words = ["profile", str(model), "--device", str(tmp_path / "clinic.yaml"), "--pack", str(job)]
    assert cli.main(words) == 0
    with zipfile.ZipFile(job) as archive:
        archive.extractall(tmp_path / "there")
    command = [sys.executable, "run.py"]
    subprocess.run(command, cwd=tmp_path / "there", check=True, capture_output=True, env={**os.environ, **environment})
    return [*words, "--collect", str(tmp_path / "there" / "result.zip")]


AS_WINDOWS = """
import json, os, pathlib, sys
sys.modules["resource"] = None
read = pathlib.Path.read_text
def read_text(self, *words, **more):
    if str(self).startswith("/proc"):
        raise FileNotFoundError(str(self))
    return read(self, *words, **more)
pathlib.Path.read_text = read_text
if os.path.exists("job.json") and json.load(open("job.json"))["kind"] in ("operators", "probe"):
    os.abort()
"""


def test_what_fails_beside_the_timing_does_not_cost_the_carried_record(
    short: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine that tells no memory (no /proc, no `resource`), and whose profiler and probes crash."""
    (tmp_path / "sitecustomize.py").write_text(AS_WINDOWS)
    words = carry(tmp_path, "", PYTHONPATH=str(tmp_path))
    capsys.readouterr()
    code, record = ask(capsys, *words)
    assert code in (0, 5) and record["latency"]["runs"] > 0
    assert record["latency"]["conditions"]["peak_memory"] == "this system does not tell it"
    metrics = {row["metric"] for row in record["metrics"]}
    assert "cold_load_ms" in metrics and "peak_memory_mb" not in metrics
    assert "killed by SIGABRT" in record["operators_note"] and "killed by SIGABRT" in record["roofline_note"]
    assert record["operators"] == [] and record["probe"] is None and record["roofline"] is None


def test_a_result_of_another_machine_is_refused(
    short: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = carry(tmp_path, "os: windows\narchitecture: aarch64\n")
    capsys.readouterr()
    assert cli.main(words) == 4
    said = capsys.readouterr().err
    assert "result.zip: was not made on clinic" in said and "os: the profile says windows, the device" in said
    assert "architecture: the profile says aarch64" in said and "hint: run the job on the device itself" in said


def test_times_that_are_not_the_phones_are_neither_packed_nor_collected(
    short: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = carry(tmp_path, "")
    (tmp_path / "clinic.yaml").write_text("name: clinic\ntransport: carried\nos: ios\n")
    for asked in (words, words[:-2]):
        capsys.readouterr()
        assert cli.main(asked) == 4
        assert "clinic runs no worker: another machine answers in its place" in capsys.readouterr().err
    model = str(save_model(tmp_path / "a.onnx"))
    assert cli.main(["profile", model, "--device", "iphone-15", "--pack", str(tmp_path / "phone.zip")]) == 4
    assert not (tmp_path / "phone.zip").exists()


def test_files_of_one_name_are_told_apart(short: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        save_model(tmp_path / folder / "model.onnx")
    paths = [tmp_path / folder / "model.onnx" for folder in ("first", "second")]
    _, record = ask(capsys, "compare", *paths)
    row = record["comparisons"][0]
    assert {row["a"], row["b"]} == set(map(str, paths))
    _, alone = ask(capsys, "compare", paths[0], save_model(tmp_path / "other.onnx"))
    assert alone["comparisons"][0]["a"] in ("model.onnx", "other.onnx")


def test_a_bundle_may_be_verified_while_its_model_is_open(tmp_path: Path) -> None:
    """verify refuses a file that has a second name, and did so while `profile` or `check` had linked it."""
    from edgeft.targets.profile.model import open_model

    model = save_model(tmp_path / "a.onnx")
    with open_model(model):
        assert model.stat().st_nlink == 1
