"""The LiteRT runtime file: foreign models, free dimensions, real placement and times, short errors, alone on a target."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.runtimes import litert

pytestmark = pytest.mark.ml

WEIGHT = np.arange(4, dtype=np.float32)


def write_model(path: Path, *, signature: bool = True, free: bool = False) -> Path:
    """y = floor_mod(x + WEIGHT, WEIGHT + 3) of x (2 or free, 4): XNNPACK takes the addition, not the remainder."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray

    def tensor(name: str, shape: list[int], buffer: int = 0) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.buffer, made.type = name.encode(), shape, buffer, schema.TensorType.FLOAT32
        if free and buffer == 0:
            made.shapeSignature = [-1, *shape[1:]]
        return made

    def buffer(values: Any = None) -> Any:
        made = schema.BufferT()
        made.data = None if values is None else np.frombuffer(values.tobytes(), dtype=np.uint8)
        return made

    def operator(code: int, inputs: list[int], output: int) -> Any:
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = code, inputs, [output]
        return made

    def code(number: int) -> Any:
        made = schema.OperatorCodeT()
        made.builtinCode, made.deprecatedBuiltinCode, made.version = number, number, 1
        return made

    rows = 1 if free else 2
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("x:0", [rows, 4]),
        tensor("w", [4], 1),
        tensor("h", [rows, 4]),
        tensor("m", [4], 2),
        tensor("y:0", [rows, 4]),
    ]
    graph.inputs, graph.outputs = [0], [4]
    graph.operators = [operator(0, [0, 1], 2), operator(1, [2, 3], 4)]
    graph.operators[0].builtinOptionsType = schema.BuiltinOptions.AddOptions
    graph.operators[0].builtinOptions = schema.AddOptionsT()
    model = schema.ModelT()
    model.version, model.subgraphs = 3, [graph]
    model.operatorCodes = [code(schema.BuiltinOperator.ADD), code(schema.BuiltinOperator.FLOOR_MOD)]
    model.buffers = [buffer(), buffer(WEIGHT), buffer(WEIGHT + 3)]
    if signature:
        entry, model.signatureDefs = schema.SignatureDefT(), []
        entry.signatureKey, entry.subgraphIndex = b"serve", 0
        for side, name, index in (("inputs", b"features", 0), ("outputs", b"scores", 4)):
            named = schema.TensorMapT()
            named.name, named.tensorIndex = name, index
            setattr(entry, side, [named])
        model.signatureDefs = [entry]
    path.write_bytes(convert_object_to_bytearray(model))
    return path


def expected(x: Any) -> Any:
    return np.mod(x + WEIGHT, WEIGHT + 3)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.tflite")


@pytest.mark.parametrize(("signature", "names"), [(True, ("features", "scores")), (False, ("x:0", "y:0"))])
def test_foreign_files_answer_under_their_own_names(tmp_path: Path, signature: bool, names: tuple[str, str]) -> None:
    session = litert.load(str(write_model(tmp_path / "m.tflite", signature=signature)), {"threads": 1})
    spec = {"dtype": "float32", "shape": [2, 4]}
    assert session.signature() == {"inputs": [{"name": names[0], **spec}], "outputs": [{"name": names[1], **spec}]}
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    answers = session.run({names[0]: x})
    assert np.array_equal(answers[names[1]], expected(x))
    before = answers[names[1]].copy()
    session.run({names[0]: x + 1})
    assert np.array_equal(answers[names[1]], before), "answers are copies, not views of the interpreter's memory"
    session.close()


def test_free_dimensions_follow_the_feeds(tmp_path: Path) -> None:
    session = litert.load(str(write_model(tmp_path / "m.tflite", free=True)), {})
    assert session.signature()["inputs"][0]["shape"] == ["batch", 4]
    for rows in (1, 3, 2, 1):
        x = np.full((rows, 4), rows, dtype=np.float32)
        assert np.array_equal(session.run({"features": x})["scores"], expected(x))
    with pytest.raises(ValueError, match=r"shape \[-1, 4\], got \[2, 5\]"):
        session.run({"features": np.ones((2, 5), dtype=np.float32)})
    assert {row["backend"] for row in session.operators(3)} == {"XNNPACK", "CPU"}


def test_placement_and_operators_say_who_ran_what(model: Path) -> None:
    session = litert.load(str(model), {"threads": 1})
    for ask in (session.placement, lambda: session.operators(3)):
        with pytest.raises(ValueError, match="run the model once"):
            ask()
    session.run({"features": np.ones((2, 4), dtype=np.float32)})
    assert session.placement() == {"CPU": 1, "XNNPACK": 1}
    rows = session.operators(20)
    found = {row["backend"]: row["op"] for row in rows}
    assert found["CPU"] == "FLOOR_MOD" and found["XNNPACK"].startswith("Add")
    assert all(row["ms"] >= 0 for row in rows) and len({row["name"] for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"z": np.ones((2, 4), dtype=np.float32)}, r"takes \['features'\], got \['z'\]"),
        ({"features": np.ones((2, 4))}, "is float32, got float64"),
        ({"features": np.ones((3, 4), dtype=np.float32)}, r"shape \[2, 4\], got \[3, 4\]"),
        ({"features": np.ones(4, dtype=np.float32)}, r"shape \[2, 4\], got \[4\]"),
    ],
)
def test_wrong_feeds_are_refused_in_a_sentence(model: Path, feeds: dict[str, Any], message: str) -> None:
    session = litert.load(str(model), {})
    with pytest.raises(ValueError, match=message):
        session.run(feeds)
    right = np.ones((2, 4), dtype=np.float32)
    assert np.array_equal(session.run({"features": right})["scores"], expected(right)), "and the session still works"


def test_broken_files_are_refused_in_a_sentence(model: Path, tmp_path: Path) -> None:
    whole = model.read_bytes()
    wrong = {"empty": b"", "noise": b"not a model at all" * 9, "half": whole[: len(whole) // 2], "head": whole[:40]}
    for name, content in wrong.items():
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r".+") as caught:
            litert.load(str(path), {})
        said = str(caught.value)
        assert len(said) <= 400 and "\n" not in said and str(tmp_path) not in said
    with pytest.raises(ValueError, match=r"nowhere\.tflite"):
        litert.load(str(tmp_path / "nowhere.tflite"), {})


def test_a_profile_without_a_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="no table"):
        litert.read_summary("Number of nodes executed: 0\n")
    row = "  ADD  0.0  0.5  0.25  10.0%  10.0%  0.0  20  [Builtin]:0"
    text = f"==== Run Order ====\n [node type] [start]\n{row}\n==== Top by Computation Time ====\n{row}\n"
    assert litert.read_summary(text) == [{"name": "ADD_0", "op": "ADD", "backend": "CPU", "ms": 0.25}]


def test_what_travels_to_a_target_imports_only_what_is_there(tmp_path: Path) -> None:
    from edgeft.device.transport import runtime_file

    path = runtime_file("litert")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert {name.split(".")[0] for name in names} <= {"numpy", "ai_edge_litert", *sys.stdlib_module_names}
    (tmp_path / "runtime.py").write_bytes(path.read_bytes())
    code = "import sys, runtime; runtime.describe(); print(sorted(m for m in sys.modules if m.split('.')[0] in ('edgeft', 'torch')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
