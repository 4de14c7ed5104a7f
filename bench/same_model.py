"""Two copies of one model against each other: how far off a ratio is, and how often its interval denies that they are
equal, from blocks in one process and from sessions, each a process (`edgeft compare`, `edgeft check`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeft.artifact import Artifact, Signature, TensorSpec
from edgeft.device.profile import Device, load_device
from edgeft.device.protocol import ignore_progress
from edgeft.targets import sessions
from edgeft.targets.compare import Side, compare_sides
from edgeft.targets.profile import compare as profile_compare

TRIALS, LAYERS, WIDTH = 10, 40, 256
Found = tuple[float, tuple[float, float]]


def save_net(folder: Path) -> Side:
    """A chain of products that takes a tenth of a millisecond, as a side of a comparison."""
    folder.mkdir()
    weight = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32) / WIDTH**0.5
    names = ["x", *(f"h{index}" for index in range(1, LAYERS)), "y"]
    nodes = [helper.make_node("MatMul", [names[at], "w"], [names[at + 1]]) for at in range(LAYERS)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    specs = {name: TensorSpec(name, "float32", ("batch", WIDTH)) for name in ("x", "y")}
    feeds = {"x": np.random.default_rng(1).standard_normal((16, WIDTH)).astype(np.float32)}
    return Side("onnxruntime", Artifact("onnx", path, ""), Signature({"x": specs["x"]}, {"y": specs["y"]}), feeds)


def by_blocks(device: Device, first: Side, second: Side) -> Found:
    plan = profile_compare.PLANS["quick"]
    found = compare_sides(device, first, second, blocks=plan.blocks, seconds=plan.seconds)
    return found.ratio, found.interval


def by_sessions(device: Device, first: Side, second: Side) -> Found:
    found = sessions.time_in_sessions(device, first, second, 1, sessions.PLANS["quick"], ignore_progress)
    return found.ratio, found.interval


def main() -> None:
    """Both ways in turn, so that the machine is in the same state for each."""
    device = load_device("local-cpu")
    ways: dict[str, Callable[[Device, Side, Side], Found]] = {"blocks": by_blocks, "sessions": by_sessions}
    found: dict[str, list[Found]] = {name: [] for name in ways}
    with TemporaryDirectory() as folder:
        sides = save_net(Path(folder, "a")), save_net(Path(folder, "b"))
        for _ in range(TRIALS):
            for name, way in ways.items():
                found[name].append(way(device, *sides))
    print(f"two copies of one model, {TRIALS} comparisons each way")
    print("| interval from | deviation of the ratio | largest error | half width | intervals without 1 |")
    print("| --- | --- | --- | --- | --- |")
    for name, rows in found.items():
        ratios = [ratio for ratio, _ in rows]
        width = fmean((high - low) / 2 for _, (low, high) in rows)
        missed = sum(not low <= 1 <= high for _, (low, high) in rows)
        error = max(abs(ratio - 1) for ratio in ratios)
        print(f"| {name} | {stdev(ratios):.2%} | {error:.2%} | {width:.2%} | {missed} of {len(rows)} |")
