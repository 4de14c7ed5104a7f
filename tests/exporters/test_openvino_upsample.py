"""Transposed convolutions as ordinary ones: the same numbers for every geometry it accepts, untouched elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgeft_exporters.openvino.upsample import rewrite_transposed

from edgeft.runtimes.ov import import_openvino

pytestmark = pytest.mark.ml
pytest.importorskip("openvino")

FLOAT32 = 1e-4
"""The same products summed in another order: at most 6 x 16 of them, of order 1."""


def net(kernel: int, stride: int, pad: int, extra: int, dynamic: bool = False) -> tuple[Any, Any]:
    """(a model of one transposed convolution 6 -> 4 channels on 9x7, an input)."""
    openvino = import_openvino()
    from openvino import opset13 as ops

    random = np.random.default_rng(0)
    x = ops.parameter([1, 6, -1, -1] if dynamic else [1, 6, 9, 7], np.float32, name="x")
    weight = ops.constant(random.standard_normal((6, 4, kernel, kernel)).astype(np.float32))
    y = ops.convolution_backprop_data(
        x,
        weight,
        [stride, stride],
        pads_begin=[pad, pad],
        pads_end=[pad, pad],
        output_padding=[extra, extra],
        name="up",
    )
    return openvino.Model([ops.relu(y)], [x]), random.standard_normal((1, 6, 9, 7)).astype(np.float32)


def answer(model: Any, x: Any) -> Any:
    setup = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return import_openvino().Core().compile_model(model, "CPU", setup)([x])[0].copy()


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "extra"),
    [(3, 2, 1, 1), (2, 2, 0, 0), (4, 2, 1, 0), (5, 3, 1, 0), (3, 3, 0, 0), (4, 4, 0, 0)],
)
def test_the_rewrite_is_exact(kernel: int, stride: int, pad: int, extra: int) -> None:
    model, x = net(kernel, stride, pad, extra)
    before = answer(model, x)
    assert rewrite_transposed(model, ()) == ["up"]
    assert "ConvolutionBackpropData" not in {node.get_type_name() for node in model.get_ops()}
    after = answer(model, x)
    assert after.shape == before.shape == (1, 4, stride * 9, stride * 7)
    assert np.abs(after - before).max() < FLOAT32 and np.abs(before).max() > 1


@pytest.mark.parametrize(
    ("geometry", "kept"),
    [((3, 2, 1, 1), ("up",)), ((3, 2, 0, 0), ()), ((3, 1, 1, 0), ())],
    ids=["kept in float", "output is not stride x input", "stride 1"],
)
def test_others_stay_as_they_are(geometry: tuple[int, int, int, int], kept: tuple[str, ...]) -> None:
    model, x = net(*geometry)
    before = answer(model, x)
    assert rewrite_transposed(model, kept) == []
    assert np.array_equal(answer(model, x), before)


def test_open_sizes_are_left() -> None:
    model, _ = net(3, 2, 1, 1, dynamic=True)
    assert rewrite_transposed(model, ()) == []
