"""The ncnn runtime file: right answers case by case, shapes it guesses, errors before ncnn can crash."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.runtimes import ncnn_net

pytestmark = pytest.mark.ml
pytest.importorskip("ncnn")

WEIGHT = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
BIAS = np.array([1.0, 2.0, 3.0], dtype=np.float32)
FLOAT32 = 1e-5
"""Sums of four products of order 1."""


def save(folder: Path, lines: list[str] | None = None) -> Path:
    """tanh(W x + b), as a hand-written foreign model: weights are a zero tag (float32), then the numbers."""
    rows = lines or [
        "Input            data  0 1 data",
        "InnerProduct     fc    1 1 data hidden 0=3 1=1 2=12",
        "TanH             act   1 1 hidden prob",
    ]
    path = folder / "net.param"
    path.write_text("\n".join(["7767517", f"{len(rows)} {len(rows)}", *rows]) + "\n")
    (folder / "net.bin").write_bytes(np.uint32(0).tobytes() + WEIGHT.tobytes() + BIAS.tobytes())
    return path


def cases(n: int) -> Any:
    return np.random.default_rng(0).standard_normal((n, 4)).astype(np.float32)


def test_a_foreign_file_answers_a_batch_case_by_case(tmp_path: Path) -> None:
    session = ncnn_net.load(str(save(tmp_path)), {"threads": 1})
    x = cases(5)
    found = session.run({"data": x})
    assert list(found) == ["prob"] and found["prob"].shape == (5, 3)
    assert np.abs(found["prob"] - np.tanh(x @ WEIGHT.T + BIAS)).max() < FLOAT32
    assert session.signature()["inputs"] == [{"name": "data", "dtype": "float32", "shape": ["batch", 4]}]
    session.close()


@pytest.mark.parametrize(
    ("lines", "dtype", "shape"),
    [
        (["Input a 0 1 a 0=8 1=6 2=3", "ReLU r 1 1 a b"], "float32", ["batch", 3, 6, 8]),
        (["Input a 0 1 a", "Convolution c 1 1 a b 0=8 1=3 6=216"], "float32", ["batch", 3, "height", "width"]),
        (["Input a 0 1 a", "Embed e 1 1 a b 0=8 1=30 3=240"], "int32", ["batch", "length"]),
        (["Input a 0 1 a", "Split s 1 1 a c", "Embed e 1 1 c d 0=8 1=30 3=240"], "int32", ["batch", "length"]),
        (["Input a 0 1 a", "ReLU r 1 1 a b"], "float32", ["batch", "dim_1"]),
    ],
)
def test_input_shapes_come_from_the_layers(tmp_path: Path, lines: list[str], dtype: str, shape: list[Any]) -> None:
    layers = ncnn_net.read_param(str(save(tmp_path, lines)))
    assert ncnn_net.guessed(layers, ["a"], ["b"])["inputs"] == [{"name": "a", "dtype": dtype, "shape": shape}]


def test_a_signature_beside_the_model_is_believed(tmp_path: Path) -> None:
    path = save(tmp_path)
    spec = {"name": "data", "dtype": "float32", "shape": ["batch", 4]}
    about = {
        "inputs": {"x": spec},
        "outputs": {"logits": {"name": "prob", "dtype": "float32", "shape": ["batch", 1, 3]}},
    }
    (tmp_path / "signature.json").write_text(json.dumps(about))
    session = ncnn_net.load(str(path), {})
    assert session.signature()["inputs"] == [spec]
    assert session.run({"data": cases(2)})["prob"].shape == (2, 1, 3), "a dimension of 1 that ncnn dropped comes back"


def test_placement_and_operators(tmp_path: Path) -> None:
    session = ncnn_net.load(str(save(tmp_path)), {})
    for ask in (session.placement, lambda: session.operators(2)):
        with pytest.raises(ValueError, match="run the model once"):
            ask()
    session.run({"data": cases(2)})
    assert session.placement() == {"CPU f32": 2}
    rows = session.operators(3)
    assert [(row["name"], row["op"]) for row in rows] == [("fc", "InnerProduct"), ("act", "TanH")]
    assert rows[0]["shapes"] == {"inputs": [[4]], "outputs": [[3]]}
    assert all(row["ms"] > 0 for row in rows)


def test_float32_stays_float32_unless_the_artefact_says_otherwise(tmp_path: Path) -> None:
    path = save(tmp_path)
    assert not any(getattr(ncnn_net.load(str(path), {})._net.opt, name) for name in ncnn_net.HALF_OPTIONS)
    (tmp_path / ncnn_net.PRECISION).write_text('{"fp16": true}')
    assert all(getattr(ncnn_net.load(str(path), {})._net.opt, name) for name in ncnn_net.HALF_OPTIONS)


@pytest.mark.parametrize(
    ("feeds", "reason"),
    [
        ({"z": np.zeros((1, 4), np.float32)}, r"takes \['data'\], got \['z'\]"),
        ({"data": np.zeros((1, 5), np.float32)}, r"has shape \[1, 5\]"),
        ({"data": np.zeros(4, np.float32)}, r"has shape \[4\]"),
        ({"data": np.zeros((1, 4), np.int64)}, "is int64; ncnn takes float32 or int32"),
        ({"data": np.zeros((1, 4), np.int32)}, "is int32, the model takes float32"),
    ],
)
def test_what_would_crash_ncnn_is_refused_first(tmp_path: Path, feeds: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ncnn_net.load(str(save(tmp_path)), {}).run(feeds)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not an ncnn .param"),
        ("7767517\n1 1\nInput data zero one data\n", "not a layer"),
        ("7767517\n1 1\nInput data -1 1 data\n", "not a layer"),
        ("7767517\n1 1\nInput data 0 9 data\n", "not a layer"),
        ("7767517\n2 2\nInput data 0 1 data\nTensor.to t 1 1 data out\n", r"no layer 'Tensor\.to'"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "net.param"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason):
        ncnn_net.load(str(path), {})


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = save(tmp_path)
    (tmp_path / "net.bin").unlink()
    with pytest.raises(ValueError, match=r"net\.bin"):
        ncnn_net.load(str(path), {})


def test_it_imports_only_what_is_on_a_target() -> None:
    allowed = {"numpy", "ncnn", *sys.stdlib_module_names}
    for node in ast.walk(ast.parse(Path(ncnn_net.__file__).read_bytes())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert {name.split(".")[0] for name in names} <= allowed
    assert ncnn_net.describe()["ncnn"]
