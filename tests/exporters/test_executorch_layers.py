"""Layers of ExecuTorch programs: recorded by the export, kept in float by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeft_exporters.executorch.exporter import ExecuTorchExporter

from edgeft.artifact import Artifact, entry_file
from edgeft.device.profile import Device
from edgeft.exporter import Unsupported, Variant
from edgeft.runtimes import xnnpack
from edgeft.targets.measure import runtime_feeds
from tests.exporters import tiny

pytestmark = [pytest.mark.ml, pytest.mark.slow]
pytest.importorskip("executorch")

SETTINGS = {"batch": 1, "length": 24}
EXPORTER = ExecuTorchExporter()
BEFORE = tiny.OUTLIER_READER.replace("output", "intermediate")
NAIVE, RECOVERED = 0.7, 0.35
"""Mean logit error over the logits' standard deviation, with the planted outlier in 8 bits and with both ends of it in
float: XNNPACK's static linear layers give 8 bits."""


def answers(artifact: Artifact) -> np.ndarray:
    own = runtime_feeds(EXPORTER.signature(artifact), tiny.make_feeds(40, seed=9))
    session = xnnpack.load(str(entry_file(artifact.path)), {"threads": 1})
    parts = [session.run({name: array[row : row + 1] for name, array in own.items()})["output_0"] for row in range(40)]
    session.close()
    return np.concatenate(parts)


def test_layers_kept_in_float(tmp_path: Path) -> None:
    given = tiny.save_outlier(tmp_path / "torch")
    (tmp_path / "float").mkdir()
    facts = EXPORTER.export(given, SETTINGS, tmp_path / "float", tiny.context(tmp_path))
    plain = Artifact("executorch", tmp_path / "float", "0" * 64, facts)
    layers = EXPORTER.layers(plain)
    names = frozenset(layer.name for layer in layers)
    assert layers[-1].name == "classifier" and {tiny.OUTLIER_READER, BEFORE} <= names
    assert next(layer for layer in layers if layer.name == BEFORE).weights == 32 * 64 + 64

    def compress(name: str, keep: frozenset[str]) -> np.ndarray:
        (tmp_path / name).mkdir()
        options: dict[str, Any] = {"mode": "static", "embeddings": "float", "settings": SETTINGS}
        variant, feeds = Variant("tried", options, keep, True), tiny.make_feeds(24, seed=5)
        made = EXPORTER.compress(given, variant, feeds, tmp_path / name, tiny.context(tmp_path))
        assert set(keep) <= set(made["kept_float"])
        return answers(Artifact("executorch", tmp_path / name, "0" * 64, made))

    wanted = answers(plain)
    spread = wanted.std()
    error = {
        name: float(np.abs(compress(name, keep) - wanted).mean() / spread)
        for name, keep in (("none", frozenset()), ("pair", frozenset({tiny.OUTLIER_READER, BEFORE})), ("all", names))
    }
    assert error["none"] > NAIVE and error["pair"] < RECOVERED and error["all"] == 0
    with pytest.raises(Unsupported, match="cannot be asked for the outputs"):
        EXPORTER.tensors(plain, (BEFORE,), {})
    assert EXPORTER.repairs(EXPORTER.ladder(Device(name="d"))[1], Device(name="d")) == ()
