"""Single layers of .tflite files: what they give, and keeping them in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeft_exporters.litert.exporter import LiteRTExporter

from edgeft.artifact import Artifact
from edgeft.device.profile import Device
from edgeft.exporter import Unsupported, Variant
from edgeft.runtimes import litert
from tests.exporters import tiny

pytestmark = pytest.mark.ml
pytest.importorskip("litert_torch")

LENGTH = 24
EXPORTER, HERE = LiteRTExporter(), Device(name="here")
STATIC = {"mode": "static", "embeddings": "float", "ranges": "minmax"}
BEFORE = tiny.OUTLIER_READER.replace("output", "intermediate")
"""LiteRT's static linear layers give 8 bits: the layer that makes the outlier must stay float too."""
NAIVE, RECOVERED = 0.7, 0.35
"""Mean logit error over the logits' standard deviation: 1.1 observed with the planted outlier in 8 bits."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("outlier")
    out = folder / "float"
    out.mkdir()
    given = tiny.save_outlier(folder / "torch")
    settings = EXPORTER.settings(HERE, {"batch": 1, "length": LENGTH})
    return Artifact("litert", out, "0" * 64, EXPORTER.export(given, settings, out, tiny.context(folder)))


def compress(plain: Artifact, out: Path, keep: frozenset[str]) -> Artifact:
    out.mkdir()
    feeds = tiny.make_feeds(40, LENGTH, seed=5)
    facts = EXPORTER.compress(plain, Variant("tried", STATIC, keep, True), feeds, out, tiny.context(out))
    return Artifact("litert", out, "0" * 64, facts)


def answers(artifact: Artifact) -> Any:
    session = litert.load(str(artifact.path / "model.tflite"), {"threads": 1})
    signature, feeds = EXPORTER.signature(artifact), tiny.make_feeds(60, LENGTH, seed=9)
    parts = []
    for row in range(60):
        given = {s.name: feeds[name][row : row + 1].astype(s.dtype) for name, s in signature.inputs.items()}
        parts.append(session.run(given)[signature.outputs["logits"].name])
    return np.concatenate(parts)


def test_layers_come_in_order_under_torchs_names(plain: Artifact) -> None:
    found = EXPORTER.layers(plain)
    assert found[0].name.startswith("bert.encoder.layer.0.attention") and found[-1].name == "classifier"
    weights = {layer.name: layer.weights for layer in found}
    assert weights[tiny.OUTLIER_READER] == 64 * 32 and len(found) == 14


def test_keeping_layers_in_float(plain: Artifact, tmp_path: Path) -> None:
    wanted = answers(plain)
    names = frozenset(layer.name for layer in EXPORTER.layers(plain))
    pair = frozenset({tiny.OUTLIER_READER, BEFORE})
    error = {}
    for name, keep in (("none", frozenset()), ("pair", pair), ("all", names)):
        made = answers(compress(plain, tmp_path / name, frozenset(keep)))
        error[name] = float(np.abs(made - wanted).mean() / wanted.std())
    assert error["none"] > NAIVE and error["pair"] < RECOVERED and error["all"] == 0


def test_noise_of_layer_outputs_points_at_the_guilty_layer(plain: Artifact, tmp_path: Path) -> None:
    made, cases = compress(plain, tmp_path / "made", frozenset()), tiny.make_feeds(12, LENGTH, seed=3)
    names = (BEFORE, tiny.OUTLIER_READER)
    noise, signal = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for clean, coarse in zip(EXPORTER.tensors(plain, names, cases), EXPORTER.tensors(made, names, cases), strict=True):
        for name in names:
            assert clean[name].dtype == np.float32 and clean[name].shape == coarse[name].shape == (
                1,
                *clean[name].shape[1:],
            )
            noise[name] += float(((clean[name] - coarse[name]) ** 2).sum())
            signal[name] += float((clean[name] ** 2).sum())
    ratio = {name: noise[name] / signal[name] for name in names}
    assert ratio[tiny.OUTLIER_READER] > 5 * ratio[BEFORE]


def test_outputs_of_the_float_head_are_the_answers(plain: Artifact) -> None:
    cases = tiny.make_feeds(60, LENGTH, seed=9)
    found = np.concatenate([batch["classifier"] for batch in EXPORTER.tensors(plain, ("classifier",), cases)])
    assert np.array_equal(found, answers(plain))


def test_tensors_of_an_unknown_layer_are_refused(plain: Artifact) -> None:
    with pytest.raises(Unsupported, match="no layer is called 'nowhere'"):
        next(iter(EXPORTER.tensors(plain, ("nowhere",), tiny.make_feeds(1, LENGTH))))
