"""The search on nets with a planted outlier channel: edgeft's own exporter, ONNX Runtime, no build around them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from edgeft_exporters.onnx.exporter import OnnxExporter

from edgeft.artifact import Artifact
from edgeft.canonical import digest_tree
from edgeft.device.profile import load_device
from edgeft.exporter import Unsupported, Variant
from edgeft.stage import Context
from edgeft.targets.search.asking import SCORED, Answer, Ask, Branch, Budget, Noise, Settings
from edgeft.targets.search.divergence import divergence
from edgeft.targets.search.search import Search
from edgeft.targets.search.sensitivity import measure_noise
from edgeft.tasks.text_classification import TextClassification
from tests import outliers

pytestmark = pytest.mark.ml
ALLOWED = 0.02
"""Share of the cases whose class may change."""
CASES = 200


@dataclass
class Oracle:
    """Makes and runs what the search asks for; cost is the size of the file."""

    folder: Path
    plain: Artifact
    feeds: dict[str, Any]
    exporter: OnnxExporter = field(default_factory=OnnxExporter)

    def __post_init__(self) -> None:
        self.device, self.context = load_device("local-cpu"), Context("test", 0, self.folder, TextClassification())
        out = self.folder / "statistics"
        out.mkdir()
        cases = {name: array[:64] for name, array in self.feeds.items()}
        self.exporter.calibrate(self.plain, {}, cases, out, self.context)
        self.statistics = Artifact("statistics", out, digest_tree(out), {})
        self.reference = self.run(self.plain)

    def run(self, artifact: Artifact) -> Any:
        session = onnxruntime.InferenceSession(str(artifact.path / "model.onnx"))
        return session.run(["logits"], self.feeds)[0]

    def size(self, artifact: Artifact) -> float:
        return float((artifact.path / "model.onnx").stat().st_size)

    def make(self, variant: Variant) -> Artifact:
        out = self.folder / f"{variant.name}-{len(list(self.folder.iterdir()))}"
        out.mkdir()
        given = self.statistics if variant.needs_statistics else self.feeds
        facts = self.exporter.compress(self.plain, variant, given, out, self.context)
        return Artifact("onnx", out, digest_tree(out), facts)

    def answer(self, ask: Ask) -> Answer:
        try:
            made = self.make(ask.variant)
        except Unsupported as refusal:
            return Answer(refused=refusal.reason)
        if ask.purpose == "layers":
            names = tuple(layer.name for layer in self.exporter.layers(self.plain))
            both = [self.exporter.tensors(item, names, self.feeds) for item in (self.plain, made)]
            found = measure_noise(both[0], both[1], names)
            weights = {layer.name: layer.weights * 3.0 for layer in self.exporter.layers(self.plain)}
            noise: dict[str, Noise] = {name: replace(item, cost=weights[name]) for name, item in found.items()}
            return Answer(cases=ask.cases, noise=noise)
        logits = self.run(made)
        changed = float(np.mean(logits.argmax(1) != self.reference.argmax(1)))
        slack = ALLOWED - changed if ask.purpose in SCORED else None
        return Answer(divergence({"logits": self.reference}, {"logits": logits}), slack, self.size(made), ask.cases)

    def search(self, repairs: bool) -> Search:
        static = next(item for item in self.exporter.ladder(self.device) if item.name == "int8-static")
        naive = replace(static, options={**static.options, "head": "int8"})

        def mend(variant: Variant) -> tuple[Variant, ...]:
            return self.exporter.repairs(variant, self.device) if repairs else ()

        layers = self.exporter.layers(self.plain)
        branch = Branch("onnx", (naive,), self.size(self.plain), layers, mend)
        search = Search([branch], Settings(CASES, budget=Budget(40)))
        while (ask := search.ask()) is not None:
            search.tell(self.answer(ask))
        return search


@pytest.mark.parametrize(
    ("net", "reader"), [("mlp", "layer_1"), ("conv", "conv_2")], ids=["linear layers", "convolutions"]
)
def test_the_layer_that_reads_the_outlier_stays_in_float(net: str, reader: str, tmp_path: Path) -> None:
    plain = getattr(outliers, f"save_{net}")(tmp_path / "net")
    feeds = {"mlp": outliers.feature_feeds, "conv": outliers.image_feeds}[net](CASES)
    (tmp_path / "made").mkdir()
    search = Oracle(tmp_path / "made", plain, feeds).search(False)
    naive = search.evaluations[0]
    assert not naive.passes and naive.answer.slack is not None and naive.answer.slack < -ALLOWED / 2
    assert search.best is not None
    assert reader in search.best.ask.variant.keep_float and len(search.best.ask.variant.keep_float) <= 2
    assert len(search.evaluations) <= 14, [done.ask.purpose for done in search.evaluations]


def test_a_repair_saves_the_float_layer(tmp_path: Path) -> None:
    """Cross-layer equalisation undoes the planted channel, so nothing has to stay in float."""
    (tmp_path / "made").mkdir()
    plain = outliers.save_conv(tmp_path / "net")
    search = Oracle(tmp_path / "made", plain, outliers.image_feeds(CASES)).search(True)
    assert search.best is not None and search.best.ask.purpose == "repair"
    assert not search.best.ask.variant.keep_float
