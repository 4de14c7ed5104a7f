"""The IsNaN rewrite: applied exactly where it is safe, and otherwise it says why not."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from edgeft_exporters.onnx.rewrite import remove_softmax_nan_guards
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.ml


def guarded(fill: float, fallback: float = 0.0, mask_is_constant: bool = True) -> onnx.ModelProto:
    """Where(IsNaN(p), fallback, p), p = Softmax(scores + Where(keep, 0, fill))."""
    constants = {"zero": 0.0, "fill": fill, "fallback": fallback}
    initializers = [numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()]
    nodes = [
        helper.make_node("Where", ["keep", "zero", "fill" if mask_is_constant else "extra"], ["mask"], name="mask"),
        helper.make_node("Add", ["scores", "mask"], ["masked"], name="add"),
        helper.make_node("Softmax", ["masked"], ["p"], name="softmax", axis=-1),
        helper.make_node("IsNaN", ["p"], ["bad"], name="isnan"),
        helper.make_node("Where", ["bad", "fallback", "p"], ["out"], name="guard"),
        helper.make_node("Identity", ["out"], ["y"], name="result"),
    ]
    inputs = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 4]),
        helper.make_tensor_value_info("keep", TensorProto.BOOL, ["n", 4]),
    ]
    if not mask_is_constant:
        inputs.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, []))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def run(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    keep = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
    return session.run(None, {"scores": np.arange(12, dtype=np.float32).reshape(3, 4), "keep": keep})[0]


@pytest.mark.parametrize("fill", [-np.inf, np.finfo(np.float32).min, -1e4])
def test_guard_of_a_padding_mask_goes_and_answers_stay(fill: float) -> None:
    model = guarded(fill)
    before = run(model)
    assert remove_softmax_nan_guards(model.graph) == {}
    after = run(model)
    assert [node.op_type for node in model.graph.node] == ["Where", "Add", "Softmax", "Identity"]
    assert np.array_equal(before[:2], after[:2])
    assert np.isfinite(after).all(), "a row with nothing to attend to stays finite"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (guarded(-np.inf, fallback=1.0), "zero and the probabilities"),
        (guarded(np.inf), "NaN or"),
        (guarded(-np.inf, mask_is_constant=False), "not a Where between constants"),
    ],
)
def test_a_guard_that_may_matter_stays_with_its_reason(model: onnx.ModelProto, reason: str) -> None:
    left = remove_softmax_nan_guards(model.graph)
    assert reason in left["isnan"]
    assert "IsNaN" in [node.op_type for node in model.graph.node]


def test_torchs_own_attention_is_recognised() -> None:
    """The pattern as torch 2.13 writes it for scaled_dot_product_attention with a boolean mask."""
    import torch
    from edgeft_exporters.onnx.exporter import clean
    from edgeft_exporters.onnx.torch_export import quiet_export

    class Attention(torch.nn.Module):
        def forward(self, q: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.scaled_dot_product_attention(q, q, q, attn_mask=keep)

    example = (torch.randn(1, 2, 5, 4), torch.ones(1, 1, 5, 5, dtype=torch.bool))
    with quiet_export():
        program = torch.onnx.export(Attention(), example, dynamo=True, opset_version=20, verbose=False)
    assert program is not None
    model = program.model_proto
    assert "IsNaN" in [node.op_type for node in model.graph.node]
    model, facts = clean(model)
    assert facts["nan_guards_left"] == {}
    assert "IsNaN" not in [node.op_type for node in model.graph.node]
