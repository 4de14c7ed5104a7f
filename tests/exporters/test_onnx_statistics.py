"""Calibration statistics: equal to those of all activations at once, in memory that does not grow, over every case."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from edgeft_exporters.onnx.exporter import OnnxExporter
from edgeft_exporters.onnx.graph import read_model
from edgeft_exporters.onnx.layers import linear_nodes
from edgeft_exporters.onnx.quantise.histogram import BINS, Histogram
from edgeft_exporters.onnx.quantise.ranges import choose_ranges, entropy_range, mse_range, percentile_range
from edgeft_exporters.onnx.quantise.statistics import Spread, collect, load_statistics, save_statistics
from edgeft_exporters.onnx.quantise.stream import plan_groups
from edgeft_exporters.onnx.tensors import with_outputs

from edgeft.artifact import Artifact
from edgeft.exporter import Unsupported
from tests import outliers
from tests.exporters import tiny

pytestmark = pytest.mark.ml


def histogram_of(*parts: Any) -> Histogram:
    made = Histogram()
    for part in parts:
        values = np.asarray(part, dtype=np.float32)
        made.add(values, float(values.min()), float(values.max()))
    return made


def spread_of(values: Any) -> Spread:
    flat = np.asarray(values, dtype=np.float32)
    made = histogram_of(flat)
    assert made.counts is not None
    low, high = float(flat.min()), float(flat.max())
    return Spread(low, high, low, high, made.zeros, flat.size, made.exponent, made.first, made.counts)


@pytest.mark.parametrize("seed", range(6))
def test_a_histogram_does_not_depend_on_the_order_of_what_it_sees(seed: int) -> None:
    draw = np.random.default_rng(seed)
    parts = [draw.normal(draw.normal() * 3, 10.0 ** draw.integers(-4, 4), 500).astype(np.float32) for _ in range(6)]
    whole, forth, back = histogram_of(np.concatenate(parts)), histogram_of(*parts), histogram_of(*parts[::-1])
    for other in (forth, back):
        assert (other.first, other.exponent, other.zeros) == (whole.first, whole.exponent, whole.zeros)
        assert np.array_equal(other.counts, whole.counts)
    values = np.concatenate(parts)
    assert np.array_equal(whole.counts, np.histogram(values.astype(np.float64), whole.edges())[0])
    assert whole.width < (values.max() - values.min()) / 512, "the stated error bound"
    assert whole.counts is not None and len(whole.counts) <= BINS


@pytest.mark.parametrize("values", [[0.0, 0.0], [5.0, 5.0], [-3.0], [1e-38, 0.0], [3e38, -3e38], [1000.0, 1000.0001]])
def test_odd_values_are_counted_too(values: list[float]) -> None:
    made = histogram_of(values)
    assert made.counts is not None and made.counts.sum() == len(values) and len(made.counts) <= BINS


def test_statistics_are_those_of_all_activations_at_once(exported: Artifact, tmp_path: Path) -> None:
    model = onnx.load(str(exported.path / "model.onnx"))
    tensor = linear_nodes(model.graph)[0].input[0]
    feeds = tiny.make_feeds(21, seed=3)
    session = onnxruntime.InferenceSession(
        with_outputs(model, [tensor]).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    values = session.run([tensor], feeds)[0]
    found = collect(model, [tensor], feeds, channels={tensor: -1})
    spread = found.tensors[tensor]
    assert found.cases == 21 and spread.values == values.size, "no case of the last, smaller group is dropped"
    assert (spread.low, spread.high) == pytest.approx((values.min(), values.max()), rel=1e-5)
    groups = [values[start : start + 8] for start in range(0, 21, 8)]
    means = np.mean([group.min() for group in groups]), np.mean([group.max() for group in groups])
    assert (spread.mean_low, spread.mean_high) == pytest.approx(means, rel=1e-5)
    assert found.channels[tensor] == pytest.approx(np.stack([values.min((0, 1)), values.max((0, 1))]), rel=1e-5)
    width = 2.0**spread.exponent
    for percentile in (99.9, 99.0):
        wanted = np.percentile(values, [(100 - percentile) / 2, 100 - (100 - percentile) / 2], method="inverted_cdf")
        low, high = choose_ranges(found, [tensor], f"percentile-{percentile}")[tensor]  # type: ignore[arg-type]
        assert abs(low - wanted[0]) <= width and abs(high - wanted[1]) <= width
    save_statistics(found, tmp_path)
    again = load_statistics(tmp_path)
    assert np.array_equal(again.tensors[tensor].counts, spread.counts) and again.cases == 21
    assert np.array_equal(again.channels[tensor], found.channels[tensor])


def test_one_large_value_does_not_move_entropy_and_percentiles() -> None:
    draw = np.random.default_rng(0)
    spread = spread_of(np.concatenate([draw.normal(0, 1, 200_000), [40.0]]))
    for low, high in (entropy_range(spread), percentile_range(spread, 99.9)):
        assert -6 < low < -2.5 and 2.5 < high < 6


def test_mse_range_has_the_least_error_of_all_it_may_choose() -> None:
    """Against quantising the values themselves."""
    draw = np.random.default_rng(1)
    values = np.maximum(np.concatenate([draw.normal(0, 1, 500_000), [14.0, 13.0]]), 0).astype(np.float32)
    low, high = mse_range(spread_of(values))
    assert low == 0.0

    def error(end: float) -> float:
        step = end / 255
        return float(((np.clip(np.rint(values / step), 0, 255) * step - values) ** 2).mean())

    least = min(error(float(values.max()) * share) for share in np.linspace(0.01, 1, 128))
    assert error(high) < 1.05 * least and least < 0.85 * error(float(values.max()))


def test_memory_does_not_grow_with_cases(exported: Artifact) -> None:
    model = onnx.load(str(exported.path / "model.onnx"))
    tensors = sorted({node.input[0] for node in linear_nodes(model.graph)})

    def peak(n: int) -> int:
        feeds = tiny.make_feeds(n)
        tracemalloc.start()
        collect(model, tensors, feeds)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(8)
    few, many = peak(16), peak(1600)
    activations = 1600 * 24 * 32 * 4 * len(tensors)
    assert many - few < activations / 20, "numbers per group are kept, activations are not"


def test_large_activations_are_fetched_in_parts(monkeypatch: pytest.MonkeyPatch, exported: Artifact) -> None:
    model = onnx.load(str(exported.path / "model.onnx"))
    tensors = sorted({node.input[0] for node in linear_nodes(model.graph)})
    feeds = tiny.make_feeds(19)
    whole = collect(model, tensors, feeds)
    monkeypatch.setattr("edgeft_exporters.onnx.quantise.stream.IN_FLIGHT", 4000)
    groups, cases = plan_groups({"a": 3000, "b": 2000, "c": 9000, "d": 1000})
    assert (groups, cases) == ([["a"], ["b"], ["c"], ["d"]], 1)
    parts = collect(model, tensors, feeds)
    for name in tensors:
        assert parts.tensors[name].values == whole.tensors[name].values
        assert parts.tensors[name].low == pytest.approx(whole.tensors[name].low, rel=1e-5)
        assert parts.tensors[name].mean_high == pytest.approx(whole.tensors[name].mean_high, rel=1e-5)


def test_the_same_statistics_have_the_same_bytes(exported: Artifact, tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        out = tmp_path / name
        out.mkdir()
        OnnxExporter().calibrate(exported, tiny.SETTINGS, tiny.make_feeds(24), out, tiny.context(tmp_path))
        made.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert made[0] == made[1] and set(made[0]) == {"statistics.json", "statistics.safetensors"}


def test_a_layer_that_gives_nan_is_named(tmp_path: Path) -> None:
    given = outliers.save_mlp(tmp_path / "net")
    model = read_model(given.path / "model.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == "layer_1.bias":
            broken = onnx.numpy_helper.to_array(tensor).copy()
            broken[5] = np.nan
            tensor.CopyFrom(onnx.numpy_helper.from_array(broken, tensor.name))
    onnx.save(model, given.path / "model.onnx")
    with pytest.raises(Unsupported, match=r"'relu_1' \(Relu\) is not finite") as caught:
        OnnxExporter().calibrate(given, {}, outliers.feature_feeds(16), tmp_path, tiny.context(tmp_path))
    assert caught.value.op == "Relu"


@pytest.mark.parametrize(
    ("feeds", "reason"),
    [
        ({}, "needs calibration cases"),
        ({"features": np.zeros((0, 32), np.float32)}, "needs calibration cases"),
        ({"other": np.zeros((4, 32), np.float32)}, "have no 'features'"),
    ],
)
def test_without_cases_there_is_no_calibration(tmp_path: Path, feeds: dict[str, Any], reason: str) -> None:
    given = outliers.save_mlp(tmp_path / "net")
    with pytest.raises(Unsupported, match=reason):
        OnnxExporter().calibrate(given, {}, feeds, tmp_path, tiny.context(tmp_path))


def test_statistics_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="statistics cannot be read"):
        load_statistics(tmp_path)
