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
from edgeft.exporter import Unsupported, Variant
from edgeft.models.load import load_model
from edgeft.models.predict import predict_logits
from edgeft.models.save import save_model
from edgeft.models.surgery import Answers, Vocabulary, operate, read_surgery, spans
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


def without_words(model: Artifact, kept: range, folder: Path) -> Artifact:
    """The model with rows for these tokens and one for all others."""
    module: Any = load_model(model, labels=(), task="text-generation")
    keep, size = spans(kept), module.config.vocab_size
    words = Vocabulary(module="model.embed_tokens", of=size, keep=keep)
    operate(module, [words, Answers(module="lm_head", of=size, keep=keep, shift=0.25)])
    folder.mkdir()
    return Artifact("torch-model", folder, "1" * 64, save_model(module, model, folder))


@pytest.fixture(scope="module", params=["untied", "tied", "untied-fewer-words", "tied-fewer-words"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact]:
    """(the torch model, its float ONNX)."""
    root = tmp_path_factory.mktemp("llama")
    tied, _, fewer = request.param.partition("-")
    model, out = save_llama(root / "model", tied=tied == "tied"), root / "onnx"
    if fewer:
        model = without_words(model, range(2200), root / "fewer")
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
    maps = 2 * 4 * VOCABULARY if kept_words(made[0]) < VOCABULARY else 0  # from ids to rows, in and out: whole numbers
    sizes = [(folder / "model.onnx").stat().st_size - maps for folder in (found, exported.path)]
    assert sizes[0] < 0.35 * sizes[1]
    assert (plain.argmax(1) < kept_words(made[0])).all() and (small.argmax(1) < kept_words(made[0])).all()


def kept_words(model: Artifact) -> int:
    """How many tokens, from the first, have rows of their own."""
    surgery = read_surgery(model.path)
    return surgery.edits[0].count if surgery.edits else VOCABULARY


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("ncnn", "ncnn"),
        ("openvino", "openvino"),
        pytest.param("litert", "litert_torch", marks=pytest.mark.slow),
        pytest.param("executorch", "executorch", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("fewer", [False, True], ids=["whole", "fewer-words"])
def test_other_formats_answer_every_token_as_torch_does(
    fewer: bool, name: str, package: str, tiny_llama: Path, tmp_path: Path
) -> None:
    """ncnn has no layer for the look-up of dropped tokens, and says so."""
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
    if fewer:
        model = without_words(model, range(400), tmp_path / "fewer")
    exporter, device = plugins.load("exporters", name)(), load_device("local-cpu")
    own = Context("test", 0, tmp_path, task, (), {}, prepared)
    settings = exporter.settings(device, {"batch": 1, "length": 24})
    if fewer and name == "ncnn":
        with pytest.raises(Unsupported, match="ncnn has no layer for it"):
            exporter.export(model, settings, out, own)
        return
    facts = exporter.export(model, settings, out, own)
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
