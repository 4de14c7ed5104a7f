"""The runtime file: alone on a target, right answers, short errors, real placement."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeft.runtimes import ort

pytestmark = pytest.mark.ml


@pytest.fixture
def model(tmp_path: Path) -> Path:
    make, value = onnx.helper, onnx.helper.make_tensor_value_info
    weight = onnx.numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "w")
    graph = make.make_graph(
        [make.make_node("MatMul", ["x", "w"], ["h"], name="m"), make.make_node("Sin", ["h"], ["y"], name="s")],
        "g",
        [value("x", onnx.TensorProto.FLOAT, ["n", 4])],
        [value("y", onnx.TensorProto.FLOAT, ["n", 3])],
        [weight],
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(
        make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=9).SerializeToString()
    )
    return path


def test_answers_and_placement(model: Path) -> None:
    session = ort.load(str(model), {"threads": 1})
    x = np.ones((2, 4), dtype=np.float32)
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert session.run({"x": x})["y"] == pytest.approx(np.sin(x @ weight), abs=1e-5)
    assert session.placement() == {"CPUExecutionProvider": 2}
    session.close()


def test_placement_needs_a_run_first(model: Path) -> None:
    with pytest.raises(ValueError, match="run the model once"):
        ort.load(str(model), {}).placement()


def test_errors_are_short_sentences(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"takes \['x'\], got \['z'\]"):
        ort.load(str(model), {}).run({"z": np.ones((1, 4), dtype=np.float32)})
    with pytest.raises(ValueError, match=r"(?i)invalid dimensions|got: 5") as caught:
        ort.load(str(model), {}).run({"x": np.ones((1, 5), dtype=np.float32)})
    assert "ONNXRuntimeError" not in str(caught.value) and "\n" not in str(caught.value)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x09broken")
    with pytest.raises(ValueError, match=r".+") as caught:
        ort.load(str(broken), {})
    assert len(str(caught.value)) <= 400


def test_what_travels_to_a_target_imports_only_what_is_there(tmp_path: Path) -> None:
    from edgeft.device.transport import runtime_file, worker_files

    allowed = {"numpy", "onnxruntime", *sys.stdlib_module_names}
    for path in (*worker_files(), runtime_file("onnxruntime")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= allowed, path.name
    copy = tmp_path / "ort.py"
    copy.write_bytes(runtime_file("onnxruntime").read_bytes())
    code = "import sys, ort; ort.describe(); print(sorted(m for m in sys.modules if m.startswith('edgeft')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_signature_is_numpys(model: Path) -> None:
    assert ort.load(str(model), {}).signature() == {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["n", 4]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["n", 3]}],
    }


def test_operators_have_times_and_shapes(model: Path) -> None:
    session = ort.load(str(model), {})
    with pytest.raises(ValueError, match="run the model once"):
        session.operators(3)
    session.run({"x": np.ones((5, 4), dtype=np.float32)})
    rows = session.operators(10)
    assert [(row["name"], row["op"], row["backend"]) for row in rows] == [
        ("m", "MatMul", ort.CPU),
        ("s", "Sin", ort.CPU),
    ]
    assert all(0 <= row["ms"] < 50 for row in rows), "the mean of one run, not the sum of ten"
    assert rows[1]["shapes"] == {"inputs": [[5, 3]], "outputs": [[5, 3]]}


def test_a_subgraphs_time_is_its_nodes(tmp_path: Path) -> None:
    """An If and what runs inside it: one row, so that shares do not count the inside twice."""
    make, value = onnx.helper, onnx.helper.make_tensor_value_info
    flag = value("c", onnx.TensorProto.BOOL, [])
    inside = make.make_graph(
        [make.make_node("Sin", ["x"], ["t"], name="inner")], "t", [], [value("t", onnx.TensorProto.FLOAT, ["n"])]
    )
    other = make.make_graph(
        [make.make_node("Cos", ["x"], ["e"], name="outer")], "e", [], [value("e", onnx.TensorProto.FLOAT, ["n"])]
    )
    node = make.make_node("If", ["c"], ["y"], name="choice", then_branch=inside, else_branch=other)
    ends = [value("x", onnx.TensorProto.FLOAT, ["n"]), flag], [value("y", onnx.TensorProto.FLOAT, ["n"])]
    graph = make.make_graph([node], "g", *ends)
    path = tmp_path / "if.onnx"
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8), str(path))
    session = ort.load(str(path), {})
    session.run({"x": np.ones(50_000, dtype=np.float32), "c": np.array(True)})
    assert [row["op"] for row in session.operators(5)] == ["If"]


def test_a_provider_this_build_lacks_is_named(model: Path) -> None:
    with pytest.raises(ValueError, match=r"no NnapiExecutionProvider; it has .*CPUExecutionProvider"):
        ort.load(str(model), {"providers": ["nnapi", "cpu"]})
    with pytest.raises(ValueError, match=r"'abacus' is no execution provider; known: cpu, cuda, tensorrt"):
        ort.load(str(model), {"providers": ["abacus"]})


def test_provider_names_and_options() -> None:
    given = {"providers": ["tensorrt", ["CUDA", {"device_id": 0}], "CPUExecutionProvider"]}
    assert ort.wanted_providers(given) == [
        ("TensorrtExecutionProvider", {}),
        ("CUDAExecutionProvider", {"device_id": "0"}),
        ("CPUExecutionProvider", {}),
    ]
    assert ort.wanted_providers({}) == [(ort.CPU, {})]


def test_every_provider_of_this_version_is_known() -> None:
    import onnxruntime

    for name in onnxruntime.get_all_providers():
        assert ort.provider_name(name) == ort.provider_name(name.lower()) == name


OTHER = "AzureExecutionProvider"
"""A provider of the usual wheels that takes no node of a local model: everything falls back to the CPU."""


@pytest.mark.parametrize("told", [True, False], ids=["by the graph", "by a profile"])
def test_falling_back_needs_leave(model: Path, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    """Where ORT does not tell how it divided the graph (before 1.24), a profile of the first run does."""
    import onnxruntime

    if OTHER not in onnxruntime.get_available_providers():
        pytest.skip(f"this wheel has no {OTHER}")
    if not told:
        monkeypatch.setattr(ort, "assigned_nodes", lambda session: None)
    x = {"x": np.ones((1, 4), dtype=np.float32)}
    with pytest.raises(
        ValueError, match=r"2 nodes fell back.*`fallback: true` in its profile.*: m \(MatMul\), s \(Sin\)"
    ):
        ort.load(str(model), {"providers": [OTHER, "cpu"]}).run(x)
    session = ort.load(str(model), {"providers": [OTHER], "fallback": True})
    assert session.run(x)["y"].shape == (1, 3) and session.placement() == {ort.CPU: 2}
    assert ort.load(str(model), {"providers": ["cpu"], "fallback": False}).run(x), "the CPU was asked for"


def test_a_provider_that_fails_in_a_run_is_an_error_and_no_second_session_on_the_cpu(model: Path) -> None:
    """ORT's own answer to it is a message and a new session on the CPU, whose times would be the accelerator's."""
    from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

    class Failing:
        def __init__(self, real: object) -> None:
            self.real = real

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

        def run(self, *words: object) -> None:
            raise EPFail("[ONNXRuntimeError] : 11 : EP_FAIL : the GPU is gone")

    session = ort.load(str(model), {"providers": ["cpu"], "fallback": True})
    session._session._sess = Failing(session._session._sess)
    with pytest.raises(ValueError, match="the GPU is gone"):
        session.run({"x": np.ones((1, 4), dtype=np.float32)})


def test_mobile_format_opens(model: Path, tmp_path: Path) -> None:
    import onnxruntime

    setup = onnxruntime.SessionOptions()
    setup.optimized_model_filepath = str(tmp_path / "model.ort")
    setup.log_severity_level = 4
    setup.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(model), setup, providers=[ort.CPU])
    session = ort.load(str(tmp_path / "model.ort"), {})
    assert session.run({"x": np.ones((1, 4), dtype=np.float32)})["y"].shape == (1, 3)
    assert session.signature()["inputs"][0]["name"] == "x" and len(session.operators(2)) == 2
