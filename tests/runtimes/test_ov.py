"""The OpenVINO runtime file: right answers, a pinned precision, kernels by name, short errors, foreign files."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeft.runtimes import ov

pytestmark = pytest.mark.ml
pytest.importorskip("openvino")

WEIGHT = np.linspace(-1, 1, 64 * 32, dtype=np.float32).reshape(64, 32)
FLOAT32 = 1e-5
"""Sums of 64 products of numbers up to 1 in float32: 64 x 6e-8."""
BFLOAT16 = 0.2
"""8 bits of mantissa on sums up to 25: 25 / 2^8 = 0.1, and the inputs are rounded too."""


def saved_onnx(path: Path) -> Path:
    make, value = onnx.helper, onnx.helper.make_tensor_value_info
    graph = make.make_graph(
        [make.make_node("MatMul", ["x", "w"], ["h"], name="m"), make.make_node("Relu", ["h"], ["y"], name="r")],
        "g",
        [value("x", onnx.TensorProto.FLOAT, ["n", 64])],
        [value("y", onnx.TensorProto.FLOAT, ["n", 32])],
        [onnx.numpy_helper.from_array(WEIGHT, "w")],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def saved_xml(folder: Path, precision: str = "") -> Path:
    openvino = ov.import_openvino()
    model = openvino.Core().read_model(str(saved_onnx(folder / "source.onnx")))
    if precision:
        model.set_rt_info(precision, ov.PRECISION_INFO)
    openvino.save_model(model, str(folder / "model.xml"), compress_to_fp16=False)
    return folder / "model.xml"


def cases(n: int) -> Any:
    return np.random.default_rng(0).standard_normal((n, 64)).astype(np.float32)


@pytest.mark.parametrize("save", [saved_xml, lambda folder: saved_onnx(folder / "foreign.onnx")], ids=["xml", "onnx"])
def test_foreign_files_answer_and_name_their_tensors(tmp_path: Path, save: Any) -> None:
    session = ov.load(str(save(tmp_path)), {"threads": 1})
    x = cases(3)
    assert np.abs(session.run({"x": x})["y"] - np.maximum(x @ WEIGHT, 0)).max() < FLOAT32
    assert session.signature() == {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["dim_0", 64]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["dim_0", 32]}],
    }
    assert session.precision == "f32"
    session.close()


def test_answers_are_the_callers_own(tmp_path: Path) -> None:
    session = ov.load(str(saved_xml(tmp_path)), {})
    first = session.run({"x": cases(1)})["y"]
    kept = first.copy()
    session.run({"x": -cases(1)})
    assert np.array_equal(first, kept), "the next run does not write over an answer"


def test_placement_and_operators_name_kernels_with_their_precision(tmp_path: Path) -> None:
    session = ov.load(str(saved_xml(tmp_path)), {"threads": 1})
    with pytest.raises(ValueError, match="run the model once"):
        session.placement()
    with pytest.raises(ValueError, match="run the model once"):
        session.operators(1)
    session.run({"x": cases(2)})
    placement = session.placement()
    assert placement and all(name.startswith("CPU ") for name in placement)
    assert any(name.endswith("_f32") for name in placement) and not any("bf16" in name for name in placement)
    rows = session.operators(4)
    linear = next(row for row in rows if row["op"] == "FullyConnected")
    assert linear["ms"] > 0 and linear["backend"].endswith("_f32")
    assert all(row["ms"] >= 0 and row["name"] for row in rows)


@pytest.mark.skipif("BF16" not in ov.describe()["openvino_capabilities"], reason="this CPU has no bfloat16")
def test_the_stated_precision_is_computed_in_and_no_other(tmp_path: Path) -> None:
    x = cases(8)
    (tmp_path / "plain").mkdir()
    plain = ov.load(str(saved_xml(tmp_path / "plain")), {}).run({"x": x})["y"]
    session = ov.load(str(saved_xml(tmp_path, "bf16")), {})
    half = session.run({"x": x})["y"]
    assert session.precision == "bf16" and any("bf16" in name for name in session.placement())
    exact = np.maximum(x @ WEIGHT, 0)
    assert np.abs(plain - exact).max() < FLOAT32
    assert 1e-3 < np.abs(half - exact).max() < BFLOAT16


@pytest.mark.skipif("FP16" in ov.describe()["openvino_capabilities"], reason="this CPU computes in float16")
def test_a_precision_this_cpu_lacks_is_refused(tmp_path: Path) -> None:
    """OpenVINO itself takes the nearest it has and says nothing."""
    with pytest.raises(ValueError, match="meant for f16, on this CPU OpenVINO computes it in"):
        ov.load(str(saved_xml(tmp_path, "f16")), {})


def test_errors_are_short_sentences(tmp_path: Path) -> None:
    path = saved_xml(tmp_path)
    session = ov.load(str(path), {})
    with pytest.raises(ValueError, match=r"takes \['x'\], got \['z'\]"):
        session.run({"z": cases(1)})
    with pytest.raises(ValueError, match=r"64") as caught:
        session.run({"x": np.ones((1, 5), dtype=np.float32)})
    assert "Exception from" not in str(caught.value) and "\n" not in str(caught.value)
    path.write_text(path.read_text().replace('value="f32"', "") + "<broken")
    with pytest.raises(ValueError, match=r".+") as caught:
        ov.load(str(path), {})
    assert len(str(caught.value)) <= 400 and str(tmp_path) not in str(caught.value)
    with pytest.raises(ValueError, match="states precision 'int3'"):
        ov.load(str(saved_xml(tmp_path, "int3")), {})


def test_it_travels_alone_and_without_telemetry(tmp_path: Path) -> None:
    source = Path(ov.__file__).read_bytes()
    allowed = {"numpy", "openvino", *sys.stdlib_module_names}
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert {name.split(".")[0] for name in names} <= allowed
    (tmp_path / "ov.py").write_bytes(source)
    code = (
        "import sys, ov; ov.describe(); from openvino.tools.ovc import telemetry_utils as t\n"
        "print(sys.modules['openvino_telemetry'], t.tm.__name__, [m for m in sys.modules if m.startswith('edgeft')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "openvino.tools.ovc.telemetry_stub", "[]"]
