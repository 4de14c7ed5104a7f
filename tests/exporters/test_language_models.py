"""Causal language models as artefacts: logits of every token as torch gives them, tied embeddings and weights in few bits too."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
from edgeft_exporters.onnx.exporter import OnnxExporter

from edgeft.artifact import Artifact
from edgeft.device.profile import Device
from edgeft.exporter import Variant
from edgeft.models.load import load_model
from edgeft.models.predict import predict_logits
from edgeft.stage import Context
from tests.exporters import tiny
from tests.material import save_tiny_llama

pytestmark = pytest.mark.ml

VOCABULARY = tiny.VOCABULARY
FLOAT32 = 1e-4
"""As of the classifiers' exports."""


def save_llama(folder: Path, *, tied: bool) -> Artifact:
    """LlamaForCausalLM, hidden 32, 2 layers; weights wide enough that logits spread over a few units."""
    save_tiny_llama(folder, vocab_size=VOCABULARY, tie_word_embeddings=tied, initializer_range=0.3)
    return Artifact("torch-model", folder, "0" * 64, {"form": "transformers"})


def context(scratch: Path) -> Context:
    task: Any = SimpleNamespace(name="text-generation")
    return Context("test", 0, scratch, task, ())


def feeds_of(n: int, length: int, seed: int = 0) -> dict[str, Any]:
    made = tiny.make_feeds(n, length, seed, VOCABULARY)
    return {name: made[name] for name in ("input_ids", "attention_mask")}


def run(folder: Path, feeds: dict[str, Any]) -> Any:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return session.run(["logits"], feeds)[0]


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact]:
    """(the torch model, its float ONNX)."""
    root = tmp_path_factory.mktemp("llama")
    model, out = save_llama(root / "model", tied=request.param), root / "onnx"
    out.mkdir()
    facts = OnnxExporter().export(model, tiny.SETTINGS, out, context(root))
    return model, Artifact("onnx", out, "0" * 64, facts)


@pytest.mark.parametrize(("n", "length"), [(1, 24), (3, 24), (5, 7)])
def test_every_token_is_answered_as_torch_does_at_every_shape(made: Any, n: int, length: int) -> None:
    model, exported = made
    feeds = feeds_of(n, length)
    theirs = predict_logits(load_model(model, labels=(), task="text-generation"), feeds)
    ours = run(exported.path, feeds)
    assert ours.shape == theirs.shape == (n, length, VOCABULARY)
    real = feeds["attention_mask"] != 0
    assert np.abs(ours - theirs)[real].max() < FLOAT32 and np.abs(theirs[real]).max() > 1


def test_a_token_does_not_see_what_comes_after_it(made: Any) -> None:
    feeds = feeds_of(2, 12)
    feeds["attention_mask"][:] = 1
    before = run(made[1].path, feeds)
    feeds["input_ids"][:, 8:] = (feeds["input_ids"][:, 8:] + 1) % VOCABULARY
    after = run(made[1].path, feeds)
    assert np.array_equal(before[:, :8], after[:, :8]) and not np.array_equal(before[:, 8:], after[:, 8:])


@pytest.mark.parametrize(
    ("name", "largest"),
    [
        ("int8-dynamic", 0.13), ("int8-weights", 0.07), ("int4-weights", 0.5), ("int4-weights-awq", 0.5),
        ("int4-weights-gptq", 0.5), ("int8-static", 0.13),
    ],
)  # fmt: skip
def test_compressed_forms_answer_nearly_as_float_does(made: Any, name: str, largest: float, tmp_path: Path) -> None:
    """largest: mean logit error over the logits' standard deviation; half of it observed (of 4 bits 0.32)."""
    exporter, exported = OnnxExporter(), made[1]
    variant = next(rung for rung in exporter.possible_rungs(Device(name="here")) if rung.name == name)
    found = compress(exporter, exported, variant, tmp_path)
    feeds = feeds_of(16, 24, seed=3)
    real = feeds["attention_mask"] != 0
    plain, small = run(exported.path, feeds)[real], run(found, feeds)[real]
    # The head is compressed too: it is half of this net.
    assert float(np.abs(plain - small).mean() / plain.std()) < largest
    assert (found / "model.onnx").stat().st_size < 0.35 * (exported.path / "model.onnx").stat().st_size


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("ncnn", "ncnn"),
        ("openvino", "openvino"),
        pytest.param("litert", "litert_torch", marks=pytest.mark.slow),
        pytest.param("executorch", "executorch", marks=pytest.mark.slow),
    ],
)
def test_other_formats_answer_every_token_as_torch_does(
    name: str, package: str, tiny_llama: Path, tmp_path: Path
) -> None:
    from edgeft import plugins
    from edgeft.device.profile import load_device
    from edgeft.targets.measure import run_outputs
    from edgeft.tasks.text_generation import TextGeneration

    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    task, prepared, out = TextGeneration(), tmp_path / "prepared", tmp_path / "out"
    prepared.mkdir()
    out.mkdir()
    task.prepare(tiny_llama, {}, (), {"length": 24}, prepared)
    feeds = task.feeds(pa.table({"text": ["Return the number of nodes in a graph", "two words"]}), prepared)
    model = Artifact("torch-model", tiny_llama, "0" * 64, {"form": "transformers"})
    exporter, device = plugins.load("exporters", name)(), load_device("local-cpu")
    own = Context("test", 0, tmp_path, task, (), {}, prepared)
    facts = exporter.export(model, exporter.settings(device, {"batch": 1, "length": 24}), out, own)
    made = Artifact(exporter.makes, out, "0" * 64, facts)
    ours = run_outputs(device, exporter.runtime, made, exporter.signature(made), feeds, batch=1)["logits"]
    theirs = predict_logits(load_model(model, labels=(), task="text-generation"), dict(feeds))
    real = feeds["attention_mask"] != 0
    assert ours.shape == theirs.shape and np.abs(ours - theirs)[real].max() < FLOAT32


def compress(exporter: OnnxExporter, exported: Artifact, variant: Variant, folder: Path) -> Path:
    calibration: Any = feeds_of(32, 24, seed=2) if variant.needs_calibration else None
    if variant.needs_statistics:
        out = folder / "statistics"
        out.mkdir()
        facts = exporter.calibrate(exported, tiny.SETTINGS, calibration, out, context(folder))
        calibration = Artifact("statistics", out, "0" * 64, facts)
    out = folder / "small"
    out.mkdir()
    exporter.compress(exported, variant, calibration, out, context(folder))
    return out
