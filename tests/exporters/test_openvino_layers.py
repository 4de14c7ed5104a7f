"""Single layers of OpenVINO models: what they give, keeping them in float, and the rungs and repairs of the ladder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeft_exporters.openvino.exporter import OpenVinoExporter

from edgeft.artifact import Artifact
from edgeft.device.profile import Device
from edgeft.exporter import Unsupported, Variant
from edgeft.runtimes import ov
from tests import outliers
from tests.exporters import tiny

pytestmark = pytest.mark.ml
for package in ("openvino", "nncf"):
    pytest.importorskip(package)

EXPORTER, HERE = OpenVinoExporter(), Device(name="here")
MINMAX = {"mode": "int8-static", "ranges": "minmax"}
NAIVE, RECOVERED = 0.04, 0.02
"""Mean logit error over the logits' standard deviation with min-max ranges: 0.06 observed (0.135 over 100 cases, whose
extremes are further out); with the layer that reads the planted outlier in float: 0.008."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("outlier")
    out = folder / "float"
    out.mkdir()
    given = outliers.save_conv(folder / "given")
    facts = EXPORTER.export(given, {"serve": {"batch": 1}}, out, tiny.context(folder, ()))
    return Artifact("openvino", out, "0" * 64, facts)


def compress(plain: Artifact, out: Path, options: dict[str, Any], keep: frozenset[str] = frozenset()) -> Artifact:
    out.mkdir()
    cases = outliers.image_feeds(60, seed=2)
    facts = EXPORTER.compress(plain, Variant("tried", options, keep, True), cases, out, tiny.context(out, ()))
    return Artifact("openvino", out, "0" * 64, facts)


def answers(artifact: Artifact) -> Any:
    session = ov.load(str(artifact.path / "model.xml"), {"threads": 1})
    images = outliers.image_feeds(100, seed=7)["pixel_values"]
    return np.concatenate(
        [session.run({"pixel_values": images[row : row + 1]})["logits"] for row in range(len(images))]
    )


def layer_names(plain: Artifact) -> tuple[str, ...]:
    return tuple(layer.name for layer in EXPORTER.layers(plain))


def test_layers_come_in_order_with_their_weights(plain: Artifact) -> None:
    found = [(layer.name.partition("/")[0], layer.op, layer.weights) for layer in EXPORTER.layers(plain)]
    assert found == [("conv_0", "Convolution", 432), ("conv_1", "Convolution", 2304), ("conv_2", "Convolution", 2304),
                     ("head", "MatMul", 48)]  # fmt: skip


def test_keeping_layers_in_float(plain: Artifact, tmp_path: Path) -> None:
    """All of them: the float answers bit for bit. The one that reads the planted outlier: nearly those. None: neither."""
    names, wanted = layer_names(plain), answers(plain)

    def error(name: str, keep: frozenset[str]) -> float:
        made = answers(compress(plain, tmp_path / name, MINMAX, keep))
        return float(np.abs(made - wanted).mean() / wanted.std())

    assert error("none", frozenset()) > NAIVE
    assert 0 < error("one", frozenset({names[2]})) < RECOVERED
    assert np.array_equal(answers(compress(plain, tmp_path / "all", MINMAX, frozenset(names))), wanted)


def test_noise_of_layer_outputs_points_at_the_guilty_layer(plain: Artifact, tmp_path: Path) -> None:
    names, cases = layer_names(plain), outliers.image_feeds(12, seed=4)
    made = compress(plain, tmp_path / "made", MINMAX)
    noise, signal = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    batches = 0
    for clean, coarse in zip(EXPORTER.tensors(plain, names, cases), EXPORTER.tensors(made, names, cases), strict=True):
        batches += 1
        for name in names:
            assert clean[name].dtype == np.float32 and clean[name].shape == coarse[name].shape
            noise[name] += float(((clean[name] - coarse[name]) ** 2).sum())
            signal[name] += float((clean[name] ** 2).sum())
    ratio = [noise[name] / signal[name] for name in names]
    assert batches == 12 and ratio[2] > 100 * ratio[1], "conv_2 reads the outlier that conv_1 gives"


def test_tensors_of_an_unknown_layer_are_refused(plain: Artifact) -> None:
    with pytest.raises(Unsupported, match="no layer is called 'nowhere'"):
        next(iter(EXPORTER.tensors(plain, ("nowhere",), outliers.image_feeds(1))))


def test_rungs_begin_with_the_ladder_and_repairs_change_something(plain: Artifact) -> None:
    ladder, rungs = EXPORTER.ladder(HERE), EXPORTER.rungs(plain, HERE)
    assert rungs[: len(ladder)] == ladder and len({rung.name for rung in rungs}) == len(rungs) > len(ladder)
    static = next(rung for rung in rungs if rung.name == "int8-static")
    repairs = EXPORTER.repairs(static, HERE)
    assert [repair.name for repair in repairs] == ["int8-static-histogram", "int8-static-bias-corrected"]
    assert all(repair.options != static.options and repair.needs_calibration for repair in repairs)
