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
