"""Fixed tiny graphs through edgeft's own runtime files: integer answers exactly, or the arithmetic here is another."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edgeft.ship.selftest.items import Item, Mismatch, Skipped, near, same

GROUP = "Runtimes"
OPSET, IR = 13, 8
SPEC = "ONNX operator specification, its example"
Arrays = Mapping[str, Any]


def items() -> Iterator[Item]:
    """ONNX Runtime in integers, OpenVINO in float, and the runtimes that have no fixed model."""
    from edgeft import plugins

    rows = [
        ("ONNX Runtime: QLinearMatMul, int8", SPEC, _qlinear),
        ("ONNX Runtime: MatMulInteger", SPEC, _matmul),
        ("ONNX Runtime: ConvInteger", SPEC, _conv),
        ("ONNX Runtime: DynamicQuantizeLinear", SPEC, _dynamic),
        ("ONNX Runtime: uint8 x int8 does not saturate", "32 x 255 x 127 and 32 x 255 x -128", _saturation),
        ("ONNX Runtime: the same bits twice, from 1 and 2 threads", "integers do not depend on their order", _repeated),
        ("OpenVINO: Gemm, float32", "by hand: [[1, 2], [3, 4]] x [[1, 0], [0, -1]] + [0.5, 0]", _openvino),
    ]
    yield from (Item(GROUP, name, source, ask) for name, source, ask in rows)
    for name in plugins.names("runtimes"):
        if name not in ("onnxruntime", "openvino"):
            yield Item(GROUP, f"{name}: loads", "none", partial(_other, name))


def _qlinear() -> str:
    import numpy as np

    a = np.array([[208, 236, 0, 238], [3, 214, 255, 29]]).astype(int) - 127
    b = np.array([[152, 51, 244], [60, 26, 255], [0, 127, 246], [127, 254, 247]]).astype(int) - 127
    fixed = {
        "a_scale": np.array([0.0066], np.float32), "a_zero": np.array([-14], np.int8), "b": b.astype(np.int8),
        "b_scale": np.array([0.00705], np.float32), "b_zero": np.array([-13], np.int8),
        "y_scale": np.array([0.0107], np.float32), "y_zero": np.array([-9], np.int8),
    }  # fmt: skip
    got = _answer("QLinearMatMul", {"a": a.astype(np.int8)}, fixed, {"y": ("INT8", (2, 3))})
    return same([[41, -12, -9], [1, -75, -128]], got["y"].tolist())


def _matmul() -> str:
    import numpy as np

    a = np.array([[11, 7, 3], [10, 6, 2], [9, 5, 1], [8, 4, 0]], np.uint8)
    fixed = {"b": np.array([[1, 4], [2, 5], [3, 6]], np.uint8), "a_zero": np.array([12], np.uint8)}
    got = _answer("MatMulInteger", {"a": a}, fixed, {"y": ("INT32", (4, 2))})
    return same([[-38, -83], [-44, -98], [-50, -113], [-56, -128]], got["y"].tolist())


def _conv() -> str:
    import numpy as np

    x = np.arange(2, 11, dtype=np.uint8).reshape(1, 1, 3, 3)
    fixed = {"w": np.ones((1, 1, 2, 2), np.uint8), "x_zero": np.array(1, np.uint8)}
    got = _answer("ConvInteger", {"x": x}, fixed, {"y": ("INT32", (1, 1, 2, 2))})
    return same([12, 16, 24, 28], got["y"].ravel().tolist())


def _dynamic() -> str:
    import numpy as np

    x = np.array([0, 2, -3, -2.5, 1.34, 0.5], np.float32)
    outputs = {"y": ("UINT8", (6,)), "scale": ("FLOAT", ()), "zero": ("UINT8", ())}
    got = _answer("DynamicQuantizeLinear", {"x": x}, {}, outputs)
    same(([153, 255, 0, 26, 221, 179], 153), (got["y"].tolist(), int(got["zero"])))
    return near((0.0196078438,), (float(got["scale"]),), 5e-9)


def _saturation() -> str:
    """Processors without VNNI add two products in 16 bits; a runtime that lets them gives other answers there."""
    import numpy as np

    weights = np.stack([np.full(32, 127), np.full(32, -128)], axis=1).astype(np.int8)
    got = _answer("MatMulInteger", {"a": np.full((1, 32), 255, np.uint8)}, {"b": weights}, {"y": ("INT32", (1, 2))})
    try:
        return same([32 * 255 * 127, 32 * 255 * -128], got["y"].ravel().tolist())
    except Mismatch as wrong:
        hint = "this processor saturates: gate on it itself, or quantise with reduce_range"
        raise Mismatch(wrong.expected, f"{wrong.got}; {hint}") from None


def _repeated() -> str:
    import numpy as np

    random = np.random.default_rng(7)
    a, b = random.integers(0, 256, (64, 96), dtype=np.uint8), random.integers(-128, 128, (96, 48), dtype=np.int8)
    expected = a.astype(np.int64) @ b.astype(np.int64)
    for threads in (1, 2, 1):
        got = _answer("MatMulInteger", {"a": a}, {"b": b}, {"y": ("INT32", (64, 48))}, threads)
        same((threads, True), (threads, bool((got["y"] == expected).all())))
    return f"sum of all {int(expected.sum())}"


def _openvino() -> str:
    import numpy as np

    fixed = {"b": np.array([[1, 0], [0, -1]], np.float32), "c": np.array([0.5, 0], np.float32)}
    feeds = {"a": np.array([[1, 2], [3, 4]], np.float32)}
    got = _answer("Gemm", feeds, fixed, {"y": ("FLOAT", (2, 2))}, runtime="openvino")
    return near((1.5, -2, 3.5, -4), got["y"].ravel().tolist(), 1e-6)


def _other(name: str) -> str:
    module = _runtime(name)
    if name == "coreml" and sys.platform != "darwin":
        raise Skipped(f"Core ML answers on macOS alone, this is {sys.platform}")
    try:
        facts = module.describe()
    except ModuleNotFoundError as error:
        raise Skipped(f"{name} needs {error.name}, which is not installed") from None
    said = ", ".join(f"{key} {value}" for key, value in sorted(facts.items()) if key in module.DISTRIBUTIONS)
    raise Skipped(f"{said}: no fixed model of its format comes with edgeft; a build proves each export against torch")


def _answer(
    op: str, feeds: Arrays, fixed: Arrays, outputs: Mapping[str, tuple[str, Sequence[int]]], threads: int = 1,
    runtime: str = "onnxruntime",
) -> dict[str, Any]:  # fmt: skip
    """One operator with these constants, run by edgeft's own runtime file."""
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ModuleNotFoundError as error:
        raise Skipped(f"the graphs are made by {error.name}, which is not installed") from None
    module = _runtime(runtime)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    answers = [
        helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape)
        for name, (kind, shape) in outputs.items()
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in fixed.items()]
    graph = helper.make_graph([helper.make_node(op, [*feeds, *fixed], [*outputs])], op, inputs, answers, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        session = module.load(str(path), {"threads": threads})
        try:
            return dict(session.run(feeds))
        finally:
            session.close()


def _runtime(name: str) -> Any:
    """A runtime's module. Skipped where its packages are not installed."""
    from importlib.metadata import PackageNotFoundError, version

    from edgeft import plugins

    module = plugins.load("runtimes", name)
    for distribution in module.DISTRIBUTIONS:
        try:
            version(distribution)
        except PackageNotFoundError:
            raise Skipped(f"{distribution} is not installed: pip install 'edgeft[{name}]'") from None
    return module
