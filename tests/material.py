"""What tests and benches build on: real short texts from installed packages, and a tiny BERT with a tokenizer of them."""

from __future__ import annotations

import ast
import csv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Three libraries the core always has, small enough to read in a second, far enough apart to tell from a few words.
LIBRARIES = ("networkx", "jinja2", "rich")
PER_LIBRARY = 320
TINY_DATA = """\
name: tiny
model: {{path: {model}, task: text-classification}}
data:
  source: csv
  path: {data}
  text: text
  label: label
  group: group
  unit: row
  fractions: {{train: 0.45, validation: 0.1, calibration: 0.05, search: 0.15, gate: 0.25}}
serve: {{batch: 1, length: 32}}
seed: 3
"""
"""How a recipe for `write_tiny_bert` on `write_texts` begins, for str.format with both places; steps follow."""
MEASURED = ("/latency", "/operators", "/probe")
"""Ends of the names of steps whose result differs from one time to the next by nature."""


def docstrings(library: str, limit: int) -> list[tuple[str, str]]:
    """(first paragraph, dotted module) of functions and classes, by ast, in file order."""
    spec = find_spec(library)
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*.py")):
        if "test" in path.name or len(found) >= limit:
            continue
        module = ".".join([library, *path.relative_to(root).with_suffix("").parts])
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8", errors="replace"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                if len(text) > 20:
                    found.setdefault(text[:300], module)
    return list(found.items())[:limit]


def write_texts(path: Path) -> None:
    """CSV with columns text, label, group: 960 real docstrings of three libraries."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "group"])
        for library in LIBRARIES:
            writer.writerows([text, library, module] for text, module in docstrings(library, PER_LIBRARY))


def write_tiny_bert(folder: Path, texts_csv: Path) -> None:
    """A randomly initialised 2-layer BERT (hidden 32) with a WordPiece tokenizer trained on the texts."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    with texts_csv.open(encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)]
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=800, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", '
        '"sep_token": "[SEP]", "mask_token": "[MASK]", "model_max_length": 64}\n'
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=800,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)


def write_answered(folder: Path, bert: Path, texts_csv: Path, path: Path) -> None:
    """A classifier of three labels on `bert`, not trained, into `folder`, and the texts with its own answers as labels, at `path`.

    It is right in every case on every machine; what a tiny model learns in seconds is another by the last bits of a sum.
    """
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    labels = dict(enumerate(sorted(LIBRARIES)))
    torch.manual_seed(0)
    model = BertForSequenceClassification.from_pretrained(bert, num_labels=len(labels), id2label=labels).eval()
    tokenizer = AutoTokenizer.from_pretrained(bert)
    with texts_csv.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    batch = tokenizer([row["text"] for row in rows], padding=True, truncation=True, max_length=32, return_tensors="pt")
    with torch.no_grad():
        pooled = model.bert(**batch).pooler_output
        # The two directions in which texts differ most: in others, an export's last bits would be magnified.
        spread, directions = torch.linalg.svd(pooled - pooled.mean(0), full_matrices=False)[1:]
        turns = torch.arange(len(labels)) * 2 * torch.pi / len(labels)
        sides = torch.stack([turns.cos(), turns.sin()], 1) * len(rows) ** 0.5 / spread[:2]
        model.classifier.weight.copy_(sides @ directions[:2])
        model.classifier.bias.copy_(-pooled.mean(0) @ model.classifier.weight.T)
        answers = model(**batch).logits.argmax(-1).tolist()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["text", "label", "group"])
        writer.writeheader()
        writer.writerows({**row, "label": labels[answer]} for row, answer in zip(rows, answers, strict=True))


def saturates() -> bool:
    """Whether 8-bit sums saturate here: x86 without VNNI, where ONNX Runtime's int8 is another arithmetic."""
    import platform

    from edgeft.pipeline.host import cpu_flags

    return platform.machine() == "x86_64" and not any("vnni" in flag for flag in cpu_flags())


SATURATES = "8-bit sums saturate on this processor, an x86 without VNNI"


def write_tiny_llama(folder: Path, texts_csv: Path, *, tied: bool = False) -> None:
    """A randomly initialised 2-layer Llama (hidden 32, 2 key-value heads of 4) with a byte-level BPE trained on the texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    with texts_csv.open(encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "</s>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "model_max_length": 64}\n'
    )
    save_tiny_llama(folder, vocab_size=600, bos_token_id=0, eos_token_id=1, pad_token_id=None, tie_word_embeddings=tied)


def save_tiny_llama(folder: Path, **stated: Any) -> None:
    """LlamaForCausalLM with random weights, hidden 32, 2 layers, 64 positions. stated: the rest of its configuration."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        max_position_embeddings=64, **stated,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
