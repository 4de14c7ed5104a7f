"""Each candidate's floor is that of the shape its task really feeds, texts or pictures."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeft.artifact import Artifact
from edgeft.device.profile import Device
from edgeft.measurement import Measurement
from edgeft.pipeline.judging.floors import add_floors
from edgeft.pipeline.judging.trial import Trial
from edgeft.record import CandidateRow, ProbeRow

PROBE = ProbeRow(threads=1, gemm={"float32": 100.0}, bandwidth=10.0, how="made up")
SIDE, CHANNELS, FILTERS, KERNEL, BATCH = 24, 3, 5, 3, 2


PICTURES = {"inputs": [{"name": "pixels", "dtype": "float32", "shape": ["batch", CHANNELS, SIDE, SIDE]}]}
"""What preprocessing declares of pictures: it knows no length."""


def write_convolution(path: Path) -> None:
    """y = conv(pixels), every extent of the input open."""
    from onnx import TensorProto, helper, numpy_helper, save

    weight = numpy_helper.from_array(np.ones((FILTERS, CHANNELS, KERNEL, KERNEL), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["pixels", "w"], ["y"], pads=[1, 1, 1, 1])],
        "convolution",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", "c", "h", "w_"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", FILTERS, "h", "w_"])],
        [weight],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


@pytest.fixture
def executor(tmp_path: Path) -> Any:
    """What add_floors asks of an executor: a float export and the preprocessing."""
    made = tmp_path / "onnx"
    made.mkdir()
    write_convolution(made / "model.onnx")
    (tmp_path / "preprocess.json").write_text(json.dumps(PICTURES))
    return SimpleNamespace(
        done={"box/onnx/float": Artifact("onnx", made, "0" * 64)},
        prepared=SimpleNamespace(path=tmp_path),
    )


def test_the_floor_is_that_of_the_shape_the_task_feeds(executor: Any) -> None:
    candidate: Any = SimpleNamespace(variant=None)
    row = CandidateRow(name="onnx/float", exporter="onnx", runtime="onnxruntime", variant={}, status="eligible", why="")
    trial = Trial(candidate, row)
    trial.measurements = [Measurement("latency_p50_ms", 1.0, "ms", 64, "measured", "box")]
    add_floors(executor, Device(name="box"), [trial], PROBE, BATCH)
    assert trial.row.roofline is not None
    operations = 2 * BATCH * FILTERS * SIDE * SIDE * CHANNELS * KERNEL * KERNEL
    assert trial.row.roofline.gigaops == pytest.approx(operations / 1e9)
