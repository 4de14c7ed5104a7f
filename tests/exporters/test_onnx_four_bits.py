"""4-bit weights fitted to what a layer reads: the grid, its packing, GPTQ, AWQ's scales and where they go."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from edgeft_exporters.onnx.quantise.awq import search_scales
from edgeft_exporters.onnx.quantise.gptq import make_factor, quantise_gptq
from edgeft_exporters.onnx.quantise.grid import Quantised, by_columns, fit_grid, plain_grid, round_to
from edgeft_exporters.onnx.quantise.moments import Moments
from edgeft_exporters.onnx.quantise.nbits import DOMAIN, replace_layer
from edgeft_exporters.onnx.quantise.scaling import divide_input
from onnx import TensorProto, helper, numpy_helper

from edgeft.exporter import Unsupported

pytestmark = pytest.mark.ml

BLOCK = 32
OUTLIERS, FACTOR = (3, 17), 30.0
"""Channels of each norm's result that are so many times as large, the next weights as much smaller: float answers do
not know. On one grid with the others, weights so small become 0."""


def correlated(n: int, k: int, seed: int = 0) -> Any:
    """(n, k) float32 rows of a quarter of k causes and a little noise, as activations are."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(n, k // 4)) @ random.normal(size=(k // 4, k))
    return (mixed + 0.3 * random.normal(size=(n, k))).astype(np.float32)


def weights(k: int, n: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).normal(size=(k, n)).astype(np.float32)


def moments_of(rows: Any) -> Moments:
    return Moments((rows.T @ rows / len(rows)).astype(np.float32), np.abs(rows).mean(axis=0), len(rows))


def one_layer(weight: Any, *, gain: Any = None) -> onnx.ModelProto:
    """x (rows, k) [times gain] through one MatMul called `layer`."""
    nodes = [helper.make_node("MatMul", ["x" if gain is None else "scaled", "weight"], ["y"], name="layer")]
    arrays = {"weight": weight}
    if gain is not None:
        nodes.insert(0, helper.make_node("Mul", ["gain", "x"], ["scaled"], name="norm"))
        arrays["gain"] = gain
    graph = helper.make_graph(
        nodes, "one", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", len(weight)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", weight.shape[1]])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)], ir_version=10
    )


def answers(model: onnx.ModelProto, rows: Any) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": rows})[0]


@pytest.mark.parametrize(("k", "n", "block"), [(64, 5, 32), (40, 7, 32), (48, 3, 16), (200, 4, 128)])
def test_the_runtime_reads_the_weights_that_were_meant(k: int, n: int, block: int) -> None:
    """Codes, scales and zero points in the operator's own order, where blocks do not divide the inputs too."""
    weight = weights(k, n) + 0.5
    quantised = round_to(weight, fit_grid(weight, np.ones(k, np.float32), block))
    model = one_layer(weight)
    replace_layer(model.graph, "layer", quantised)
    rows = np.random.default_rng(2).normal(size=(6, k)).astype(np.float32)
    wanted = rows @ quantised.weights()
    # Activations are rounded to 8 bits inside the kernel: 1 / 254 of the largest in a block, so far under 2% together.
    assert np.abs(answers(model, rows) - wanted).max() < 0.02 * np.abs(wanted).max()
    assert [tensor.name for tensor in model.graph.initializer if tensor.name == "weight"] == []


def test_a_fitted_grid_errs_less_than_the_full_range_and_least_where_inputs_are_large() -> None:
    weight = weights(64, 50)
    plain = np.ones(64, np.float32)
    lopsided = np.where(np.arange(64) % 8 == 0, 100, 1).astype(np.float32)

    def error(quantised: Quantised, importance: Any) -> float:
        return float((((quantised.weights() - weight) ** 2) * importance[:, None]).sum())

    rounded = round_to(weight, plain_grid(weight, BLOCK))
    fitted, aware = (round_to(weight, fit_grid(weight, which, BLOCK)) for which in (plain, lopsided))
    assert error(fitted, plain) < 0.95 * error(rounded, plain)
    assert error(aware, lopsided) < 0.95 * error(fitted, lopsided)


def test_blocks_of_zeros_of_one_sign_and_constants_are_kept() -> None:
    weight = np.stack([np.zeros(32), np.full(32, 0.7), np.full(32, -0.7), np.linspace(1, 2, 32)], axis=1).astype(
        np.float32
    )
    made = round_to(weight, fit_grid(weight, np.ones(32, np.float32), BLOCK)).weights()
    assert np.isfinite(made).all() and np.array_equal(made[:, 0], weight[:, 0])
    assert np.abs(made - weight).max() <= 2 / 15


def test_gptq_errs_less_where_inputs_are_correlated_and_is_rounding_where_they_are_not() -> None:
    (rows, fresh), weight = np.split(correlated(2500, 64), [2000]), weights(64, 40)
    second = moments_of(rows).second
    importance = second.diagonal()
    grid = fit_grid(weight, importance, BLOCK)
    rounded = round_to(weight, grid).weights()
    made = quantise_gptq(weight, importance, *make_factor(second), BLOCK).weights()
    errors = [float(((fresh @ (found - weight)) ** 2).mean()) for found in (made, rounded)]
    assert errors[0] < 0.5 * errors[1]
    alone = np.diag(importance).astype(np.float32)
    assert np.array_equal(
        quantise_gptq(weight, importance, *make_factor(alone), BLOCK).codes, round_to(weight, grid).codes
    )


def test_gptq_takes_inputs_that_are_never_there_and_refuses_what_is_no_number() -> None:
    rows = correlated(100, 64)
    rows[:, 5] = 0
    second = moments_of(rows).second
    made = quantise_gptq(weights(64, 8), second.diagonal(), *make_factor(second), BLOCK).weights()
    assert np.isfinite(made).all()
    with pytest.raises(Unsupported, match="cannot be inverted"):
        make_factor(-np.eye(4, dtype=np.float32))


def test_columns_are_worked_on_in_parts_that_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, importance = weights(48, 21), np.ones(48, np.float32)

    def solve(part: Any) -> Quantised:
        return round_to(part, fit_grid(part, importance, BLOCK))

    whole = by_columns(weight, solve)
    monkeypatch.setattr("edgeft_exporters.onnx.quantise.grid.COLUMNS", 5)
    parts = by_columns(weight, solve)
    assert np.array_equal(parts.codes, whole.codes) and np.array_equal(parts.weights(), whole.weights())


def test_awq_scales_down_what_is_large_and_leaves_alone_what_is_even() -> None:
    rows, weight = np.random.default_rng(3).normal(size=(500, 64)).astype(np.float32), weights(64, 40)
    assert search_scales(weight, moments_of(rows), BLOCK)[1] > 0.9
    rows[:, OUTLIERS] *= FACTOR
    scales, left = search_scales(weight, moments_of(rows), BLOCK)
    assert scales is not None and left < 0.5
    assert scales[list(OUTLIERS)].min() > 2 * np.delete(scales, OUTLIERS).max()


@pytest.mark.parametrize("shared", [False, True])
def test_a_division_goes_into_the_norm_unless_another_reads_it(shared: bool) -> None:
    random = np.random.default_rng(4)
    gain, weight = random.uniform(0.5, 2, 16).astype(np.float32), weights(16, 5)
    scales = random.uniform(0.1, 10, 16).astype(np.float32)
    rows = random.normal(size=(7, 16)).astype(np.float32)
    model = one_layer(weight, gain=gain)
    if shared:
        model.graph.node.append(helper.make_node("Neg", ["scaled"], ["other"], name="other"))
        model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["rows", 16]))
    assert divide_input(model.graph, "scaled", ["layer"], scales) is not shared
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node].count("Mul") == 1 + shared
    assert np.allclose(answers(model, rows), (rows * gain / scales) @ weight, rtol=1e-4, atol=1e-5)
