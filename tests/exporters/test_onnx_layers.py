"""Single layers of ONNX graphs: which there are, what they give, keeping them in float, and repairs that spare that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from edgeft_exporters.onnx.exporter import OnnxExporter

from edgeft.artifact import Artifact
from edgeft.device.profile import Device
from edgeft.exporter import Unsupported, Variant
from tests import outliers
from tests.exporters import tiny

pytestmark = pytest.mark.ml

DEVICE = Device(name="here")
NAIVE = {"conv": 0.15, "mlp": 0.3}
"""Mean logit error over the logits' standard deviation that plain 8-bit ranges exceed: 0.22 and 0.67 observed."""
RECOVERED = {"conv": 0.03, "mlp": 0.06}
"""What a repaired form stays under: at most 0.015 and 0.052 observed; 8-bit weights alone cost 0.008 and 0.048."""
MINMAX = {"mode": "static", "ranges": "minmax"}


class Net:
    """A float artefact of this exporter with its statistics and cases."""

    def __init__(
        self,
        folder: Path,
        save: Callable[[Path], Artifact],
        feeds: Callable[..., dict[str, Any]],
        labels: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.exporter, self.made = folder, OnnxExporter(), 0
        self.context = tiny.context(folder, labels)
        self.float = self._write(
            "float", lambda out: self.exporter.export(save(folder / "given"), tiny.SETTINGS, out, self.context)
        )
        self.calibration, self.cases = feeds(200, seed=2), feeds(200, seed=7)
        facts = self._write(
            "statistics",
            lambda out: self.exporter.calibrate(self.float, tiny.SETTINGS, self.calibration, out, self.context),
        )
        self.statistics = replace(facts, kind="statistics")
        self.reference = self.run(self.float)

    def _write(self, name: str, make: Callable[[Path], Any]) -> Artifact:
        out = self.folder / name
        out.mkdir()
        return Artifact("onnx", out, "0" * 64, make(out))

    def compress(self, options: dict[str, Any], keep: frozenset[str] = frozenset()) -> Artifact:
        self.made += 1
        given: Any = self.calibration if options["mode"] in ("nncf", "qnn") else self.statistics
        variant = Variant("tried", options, keep)
        return self._write(
            str(self.made), lambda out: self.exporter.compress(self.float, variant, given, out, self.context)
        )

    def run(self, artifact: Artifact) -> np.ndarray:
        session = onnxruntime.InferenceSession(str(artifact.path / "model.onnx"), providers=["CPUExecutionProvider"])
        return session.run(["logits"], self.cases)[0]

    def error(self, artifact: Artifact) -> float:
        return float(np.abs(self.run(artifact) - self.reference).mean() / self.reference.std())

    def layers(self) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.exporter.layers(self.float))


@pytest.fixture(scope="module", params=["conv", "mlp"])
def net(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Net]:
    save, feeds = {
        "conv": (outliers.save_conv, outliers.image_feeds), "mlp": (outliers.save_mlp, outliers.feature_feeds)
    }[request.param]  # fmt: skip
    return request.param, Net(tmp_path_factory.mktemp(request.param), save, feeds)


def test_a_planted_outlier_makes_plain_ranges_bad(net: tuple[str, Net]) -> None:
    name, here = net
    assert here.error(here.compress(MINMAX)) > NAIVE[name]


def test_layers_come_in_order_with_their_weights(net: tuple[str, Net]) -> None:
    name, here = net
    found = [(layer.name, layer.op, layer.weights) for layer in here.exporter.layers(here.float)]
    if name == "conv":
        assert found == [("conv_0", "Conv", 16 * 28), ("conv_1", "Conv", 16 * 145), ("conv_2", "Conv", 16 * 145),
                         ("head", "Gemm", 51)]  # fmt: skip
    else:
        assert found == [("layer_0", "MatMul", 2048), ("layer_1", "MatMul", 4096), ("head", "Gemm", 195)]


def test_keeping_every_layer_gives_the_float_answers_bit_for_bit(net: tuple[str, Net]) -> None:
    _, here = net
    for mode in ("static", "nncf", "dynamic"):
        if mode == "dynamic" and net[0] == "conv":
            continue
        made = here.compress({"mode": mode, "head": "int8"}, frozenset(here.layers()))
        assert np.array_equal(here.run(made), here.reference), mode
        assert made.facts["quantised"] == 0


def test_keeping_the_layer_that_reads_the_outlier_recovers_it_and_no_other_does(net: tuple[str, Net]) -> None:
    name, here = net
    guilty = {"conv": "conv_2", "mlp": "layer_1"}[name]
    for layer in here.layers():
        error = here.error(here.compress(MINMAX, frozenset({layer})))
        assert (error < RECOVERED[name]) is (layer == guilty), layer


def test_noise_of_layer_outputs_points_at_the_guilty_layer(net: tuple[str, Net]) -> None:
    name, here = net
    made = here.compress(MINMAX)
    noise = dict.fromkeys(here.layers(), 0.0)
    signal = dict(noise)
    names = tuple(noise)
    pairs = zip(
        here.exporter.tensors(here.float, names, here.cases),
        here.exporter.tensors(made, names, here.cases),
        strict=True,
    )
    for plain, coarse in pairs:
        for layer in names:
            assert plain[layer].dtype == np.float32 and plain[layer].shape == coarse[layer].shape
            noise[layer] += float(((plain[layer] - coarse[layer]) ** 2).sum())
            signal[layer] += float((plain[layer] ** 2).sum())
    ratio = {layer: noise[layer] / signal[layer] for layer in names}
    before, guilty = {"conv": ("conv_1", "conv_2"), "mlp": ("layer_0", "layer_1")}[name]
    assert ratio[guilty] > 100 * ratio[before]


def test_outputs_of_the_float_artefact_are_the_graphs_own(net: tuple[str, Net]) -> None:
    _, here = net
    batches = list(here.exporter.tensors(here.float, ("head",), here.cases))
    assert len(batches) == 25 and all(len(batch["head"]) == 8 for batch in batches)
    assert np.array_equal(np.concatenate([batch["head"] for batch in batches]), here.reference)


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "static", "ranges": "minmax", "equalise": True},
        {"mode": "static", "ranges": "minmax", "activation_bits": 16},
    ],
    ids=lambda change: next(key for key in ("equalise", "activation_bits") if key in change),
)
def test_repairs_recover_what_plain_ranges_lose(net: tuple[str, Net], change: dict[str, Any]) -> None:
    name, here = net
    assert here.error(here.compress(change)) < RECOVERED[name]


def test_percentiles_and_bias_correction_help_where_they_can(net: tuple[str, Net]) -> None:
    """Neither knows of channels: they are better than plain ranges, not good."""
    _, here = net
    plain = here.error(here.compress(MINMAX))
    assert here.error(here.compress({"mode": "static", "ranges": "percentile-99.9"})) < 0.8 * plain
    assert here.error(here.compress({"mode": "nncf", "bias_correction": "fast"})) < 0.5 * plain


def test_smooth_quant_recovers_what_an_outlier_costs_a_transformer(tmp_path: Path) -> None:
    """The channel's size goes into the weights that read it; without that, NNCF's ranges leave few steps to the others."""
    here = Net(tmp_path, tiny.save_outlier, lambda n, seed: tiny.make_feeds(n // 4, seed=seed), tiny.LABELS)
    smooth, plain = (here.error(here.compress({"mode": "nncf", "smooth": smooth})) for smooth in (True, False))
    assert smooth < 0.3 * plain, (smooth, plain)


def test_equalised_layers_compare_with_the_float_ones(net: tuple[str, Net]) -> None:
    """Their channels are scaled, and read back unscaled."""
    _, here = net
    made = here.compress({"mode": "static", "equalise": True})
    (first,) = [layer for layer in made.facts["equalised"] if layer in ("conv_1", "layer_0")]
    assert max(made.facts["equalised"][first]) >= 6, "the outlier, 2 ** 8 times as large, moves"
    plain = next(iter(here.exporter.tensors(here.float, (first,), here.cases)))[first]
    coarse = next(iter(here.exporter.tensors(made, (first,), here.cases)))[first]
    assert ((plain - coarse) ** 2).sum() < 0.01 * (plain**2).sum()


def test_one_part_in_eight_bits_tells_where_the_error_comes_from(net: tuple[str, Net]) -> None:
    name, here = net
    weights = here.error(here.compress({**MINMAX, "part": "weights"}))
    activations = here.error(here.compress({**MINMAX, "part": "activations"}))
    assert weights < RECOVERED[name] < NAIVE[name] < activations


def test_sixteen_bit_activations_for_qnn_run_on_this_cpu(tmp_path: Path) -> None:
    here = Net(tmp_path, outliers.save_conv, outliers.image_feeds)
    made = here.compress({"mode": "qnn", "activation_bits": 16, "head": "int8", "embeddings": "float"})
    assert here.error(made) < RECOVERED["conv"]
    assert "not run on QNN" in made.facts["notes"][0]
    graph = onnx.load(str(made.path / "model.onnx")).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    points = {kinds[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert points == {onnx.TensorProto.UINT16}


def test_repairs_have_names_and_options_of_their_own(net: tuple[str, Net]) -> None:
    _, here = net
    for variant in here.exporter.rungs(here.float, DEVICE):
        kept = replace(variant, keep_float=frozenset({"head"}))
        repairs = here.exporter.repairs(kept, DEVICE)
        made = [repr(sorted(repair.to_json().items())) for repair in (kept, *repairs)]
        assert len(set(made)) == len(made)
        assert all(repair.keep_float == {"head"} and repair.name != variant.name for repair in repairs)


def test_convolutions_run_in_eight_bits_with_their_activations(tmp_path: Path) -> None:
    """ONNX Runtime must find QLinearConv, with the ReLU inside, in what is written."""
    here = Net(tmp_path, outliers.save_conv, outliers.image_feeds)
    made = here.compress({"mode": "static"})
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(made.path / "model.onnx"), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(str(tmp_path / "optimised.onnx")).graph.node]
    assert kinds.count("QLinearConv") == 3 and "Relu" not in kinds and "Conv" not in kinds
    assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") == 1, "at the image and at the float head"
    written = onnx.load(str(made.path / "model.onnx")).graph.node
    makers = {name: node.op_type for node in written for name in node.output}
    assert {makers[node.input[0]] for node in written if node.op_type == "Relu"} == {"Conv"}, (
        "no scale of its own between"
    )


@pytest.mark.parametrize(
    ("options", "keep", "reason"),
    [
        ({"mode": "static"}, {"nowhere"}, "no layer is called 'nowhere'"),
        ({"mode": "static", "bits": 4}, set(), "option bits means nothing with mode static"),
        ({"mode": "qnn", "ranges": "mse"}, set(), "option ranges means nothing with mode qnn"),
    ],
)
def test_what_cannot_be_done_is_refused(
    net: tuple[str, Net], options: dict[str, Any], keep: set[str], reason: str
) -> None:
    with pytest.raises(Unsupported, match=reason):
        net[1].compress(options, frozenset(keep))


def test_tensors_of_an_unknown_layer_are_refused(net: tuple[str, Net]) -> None:
    with pytest.raises(Unsupported, match="no layer is called 'nowhere'"):
        next(iter(net[1].exporter.tensors(net[1].float, ("nowhere",), net[1].cases)))


def test_operators_without_a_known_shape_are_quantised_too(tmp_path: Path) -> None:
    """Nothing infers the type of what FastGelu gives; ORT's quantiser would leave the next layer's input in float."""
    given = outliers.save_mlp(tmp_path / "given", factor=1.0)
    model = onnx.load(str(given.path / "model.onnx"))
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type, node.domain = "FastGelu", "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, given.path / "model.onnx")
    here = Net(tmp_path, lambda folder: given, outliers.feature_feeds)
    made = here.compress(MINMAX)
    graph = onnx.load(str(made.path / "model.onnx")).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    for node in graph.node:
        if node.name in ("layer_0", "layer_1"):
            assert [makers[name] for name in node.input] == ["DequantizeLinear"] * 2
    assert 0 < here.error(made) < RECOVERED["mlp"]


def test_a_quantised_model_is_neither_calibrated_nor_searched(net: tuple[str, Net], tmp_path: Path) -> None:
    _, here = net
    made = here.compress(MINMAX)
    for ask in (
        lambda: here.exporter.calibrate(made, {}, here.calibration, tmp_path, here.context),
        lambda: here.exporter.layers(made),
        lambda: here.exporter.rungs(made, DEVICE),
    ):
        with pytest.raises(Unsupported, match="already quantised"):
            ask()
