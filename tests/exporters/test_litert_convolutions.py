"""Convolutions of .tflite files in 8 bits: which, under what names, how near, and kept in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeft_exporters.litert import file as files
from edgeft_exporters.litert.exporter import LiteRTExporter

from edgeft.artifact import Artifact, entry_file
from edgeft.device.profile import Device
from edgeft.exporter import Variant
from edgeft.runtimes import litert
from edgeft.stage import Context
from tests.exporters.test_images import SERVE, make, pixels

pytestmark = pytest.mark.ml
pytest.importorskip("litert_torch")

EXPORTER, HERE = LiteRTExporter(), Device(name="here")
NEAR = {"dynamic": 0.03, "static": 0.05}
"""Mean logit error over the logits' standard deviation; 0.005 and 0.008 were seen on this net of random weights."""
NET = """
import torch


class Separable(torch.nn.Module):
    def __init__(self, num_labels):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.depth = torch.nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point = torch.nn.Conv2d(16, 24, 1)
        self.up = torch.nn.ConvTranspose2d(24, 8, 2, stride=2)
        self.head = torch.nn.Conv2d(8, num_labels, 1)

    def forward(self, pixel_values):
        hidden = torch.relu(self.stem(pixel_values))
        hidden = torch.relu(self.point(torch.relu(self.depth(hidden))))
        return self.head(torch.relu(self.up(hidden)))


def build(num_labels):
    return Separable(num_labels)
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Context]:
    folder = tmp_path_factory.mktemp("separable")
    model, context = make(folder, "unet", {}, NET)
    out = folder / "float"
    out.mkdir()
    facts = EXPORTER.export(model, EXPORTER.settings(HERE, SERVE), out, context)
    return Artifact("litert", out, "1" * 64, facts), context


def compress(plain: tuple[Artifact, Context], out: Path, mode: str, keep: frozenset[str] = frozenset()) -> Artifact:
    artifact, context = plain
    out.mkdir()
    variant = Variant("tried", {"mode": mode}, keep, mode == "static")
    feeds = pixels(context, 16) if mode == "static" else None
    return Artifact("litert", out, "2" * 64, EXPORTER.compress(artifact, variant, feeds, out, context))


def answers(artifact: Artifact, feeds: dict[str, Any]) -> Any:
    session = litert.load(str(entry_file(artifact.path)), {"threads": 1})
    signature, parts = EXPORTER.signature(artifact), []
    for row in range(len(next(iter(feeds.values())))):
        given = {spec.name: feeds[name][row : row + 1].astype(spec.dtype) for name, spec in signature.inputs.items()}
        parts.append(session.run(given)[signature.outputs["logits"].name])
    return np.concatenate(parts)


def weight_dtypes(artifact: Artifact) -> dict[str, str]:
    return {layer.name: layer.dtype for layer in files.list_layers(files.read_tflite(entry_file(artifact.path)))}


def test_convolutions_come_in_order_under_torchs_names(plain: tuple[Artifact, Context]) -> None:
    found = EXPORTER.layers(plain[0])
    assert [(layer.name, layer.op) for layer in found] == [
        ("stem", "CONV_2D"), ("depth", "DEPTHWISE_CONV_2D"), ("point", "CONV_2D"), ("up", "TRANSPOSE_CONV"),
        ("head", "CONV_2D"),
    ]  # fmt: skip
    assert found[0].weights == 3 * 16 * 9


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_eight_bits_are_near_float(mode: str, plain: tuple[Artifact, Context], tmp_path: Path) -> None:
    small = compress(plain, tmp_path / mode, mode)
    # The head stays float, and a depthwise layer where activations have no fixed scale.
    depth = "int8" if mode == "static" else "float32"
    assert weight_dtypes(small) == {"stem": "int8", "depth": depth, "point": "int8", "up": "int8", "head": "float32"}
    feeds = pixels(plain[1], 24)
    before, after = answers(plain[0], feeds), answers(small, feeds)
    error = float(np.abs(after - before).mean() / before.std())
    assert 0 < error < NEAR[mode], error


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_every_layer_kept_is_the_float_model(mode: str, plain: tuple[Artifact, Context], tmp_path: Path) -> None:
    names = frozenset(layer.name for layer in EXPORTER.layers(plain[0]))
    kept = compress(plain, tmp_path / mode, mode, names)
    feeds = pixels(plain[1])
    assert np.array_equal(answers(plain[0], feeds), answers(kept, feeds))


def test_a_kept_convolution_stays_float(plain: tuple[Artifact, Context], tmp_path: Path) -> None:
    kept = compress(plain, tmp_path / "kept", "static", frozenset({"up"}))
    assert weight_dtypes(kept) == {"stem": "int8", "depth": "int8", "point": "int8", "up": "float32", "head": "float32"}


def test_outputs_of_convolutions_are_read(plain: tuple[Artifact, Context], tmp_path: Path) -> None:
    small, feeds = compress(plain, tmp_path / "static", "static"), pixels(plain[1])
    (before,) = EXPORTER.tensors(plain[0], ("point", "up"), {name: rows[:1] for name, rows in feeds.items()})
    (after,) = EXPORTER.tensors(small, ("point", "up"), {name: rows[:1] for name, rows in feeds.items()})
    for name in ("point", "up"):
        assert before[name].shape == after[name].shape and before[name].std() > 0
        assert np.abs(before[name] - after[name]).mean() < 0.2 * before[name].std()
