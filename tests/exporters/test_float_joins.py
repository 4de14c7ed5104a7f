"""What joins a layer in float is not rounded either: residual Adds of NNCF's forms, for OpenVINO and for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from edgeft_exporters.onnx.exporter import OnnxExporter
from edgeft_exporters.openvino.exporter import OpenVinoExporter

from edgeft.artifact import Artifact
from edgeft.exporter import Variant
from edgeft.runtimes import ort
from tests import outliers
from tests.exporters import tiny

pytestmark = pytest.mark.ml
for package in ("openvino", "nncf"):
    pytest.importorskip(package)

CASES = outliers.image_feeds(24, seed=2)
BETWEEN = {"add_left", "add_right", "pool"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The residual net as an OpenVINO model."""
    folder = tmp_path_factory.mktemp("residual")
    (out := folder / "float").mkdir()
    facts = OpenVinoExporter().export(
        outliers.save_residual(folder / "given"), {"serve": {"batch": 1}}, out, tiny.context(folder, ())
    )
    return Artifact("openvino", out, "0" * 64, facts)


def mixed(plain: Artifact, out: Path, kept: set[str]) -> Path:
    """model.xml with the layers of these first names in float."""
    names = frozenset(layer.name for layer in OpenVinoExporter().layers(plain) if layer.name.partition("/")[0] in kept)
    assert len(names) == len(kept)
    out.mkdir()
    variant = Variant("tried", {"mode": "int8-static"}, names, True)
    OpenVinoExporter().compress(plain, variant, CASES, out, tiny.context(out, ()))
    return out / "model.xml"


def rounded(path: Path) -> set[str]:
    """Names of what reads an activation in 8 bits."""
    import openvino

    found = set()
    for node in openvino.Core().read_model(path).get_ops():
        source = node.input_value(0).get_node() if node.get_type_name() == "FakeQuantize" else None
        if source is not None and source.get_type_name() != "Constant":
            found |= {
                port.get_node().get_friendly_name().partition("/")[0] for port in node.output(0).get_target_inputs()
            }
    return found


@pytest.mark.parametrize(
    ("kept", "reads", "floats"),
    [
        (set(), {"left", "right", "add_left", "add_right"}, set()),
        ({"left"}, {"right", "add_right"}, {"left", "add_left"}),
        ({"first"}, {"left", "right", "add_right"}, {"add_left"}),
        ({"first", "left"}, {"right"}, {"add_left"}),
        ({"left", "right"}, {"first"}, {"left", "right", "add_left", "add_right"}),
    ],
    ids=lambda value: "+".join(sorted(value)) if isinstance(value, set) else "",
)
def test_an_add_reads_8_bits_only_where_its_layers_give_them(
    plain: Artifact, tmp_path: Path, kept: set[str], reads: set[str], floats: set[str]
) -> None:
    """The second Add of a chain stays in 8 bits while its own branch does, whatever the first one is."""
    found = rounded(mixed(plain, tmp_path / "made", kept))
    assert reads <= found and not floats & found


def test_onnx_runtime_reads_them_in_float_too(tmp_path: Path) -> None:
    given = outliers.save_residual(tmp_path / "given")
    exporter = OnnxExporter()

    def read_in_float(kept: frozenset[str], out: Path) -> set[str]:
        out.mkdir()
        variant = Variant("tried", {"mode": "nncf", "head": "int8"}, kept, True)
        exporter.compress(given, variant, CASES, out, tiny.context(out, ()))
        graph = onnx.load(out / "model.onnx").graph
        makers = {name: node.op_type for node in graph.node for name in node.output}
        session = ort.load(str(out / "model.onnx"), {"threads": 1})
        assert np.isfinite(session.run({"pixel_values": CASES["pixel_values"][:1]})["logits"]).all()
        return {
            node.name for node in graph.node
            if node.name in BETWEEN and all(makers.get(name) != "DequantizeLinear" for name in node.input)
        }  # fmt: skip

    assert read_in_float(frozenset(), tmp_path / "none") == set()
    assert read_in_float(frozenset({"left"}), tmp_path / "left") == {"add_left"}
    assert read_in_float(frozenset({"right"}), tmp_path / "right") == {"add_right", "pool"}
    assert read_in_float(frozenset({"left", "right"}), tmp_path / "both") == BETWEEN
