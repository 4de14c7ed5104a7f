"""Shared fixtures: real short texts read from installed packages, and a tiny BERT with a tokenizer trained on them."""

from __future__ import annotations

import ast
import csv
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# Two workers with two threads each on two cores spend their time in OpenMP's barriers, not in the tests.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
# A test module that looks whether openvino is there imports it, and openvino reports that. The project's own code keeps
# this module out by itself (edgeft/runtimes/ov.py), which a test watches in a process of its own.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# Three libraries the core always has, small enough to read in a second, far enough apart to tell from a few words.
LIBRARIES = ("networkx", "jinja2", "rich")
PER_LIBRARY = 320


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs hardware is skipped with its reason, never faked and never silently left out."""
    from edgeft.pipeline.host import gpu_names

    absent = {
        "gpu": None if gpu_names() else "needs a CUDA GPU; this machine has none",
        "device": "needs a device that is not this machine",
        "macos": None if sys.platform == "darwin" else "needs macOS",
    }
    for item in items:
        for mark, reason in absent.items():
            if reason and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's store."""
    if "EDGEFT_STORE" not in os.environ or "pytest" not in os.environ["EDGEFT_STORE"]:
        monkeypatch.setenv("EDGEFT_STORE", str(tmp_path_factory.mktemp("store")))


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


@pytest.fixture(scope="session")
def text_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CSV with columns text, label, group: 960 real docstrings of three libraries."""
    path = tmp_path_factory.mktemp("data") / "docstrings.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "group"])
        for library in LIBRARIES:
            writer.writerows([text, library, module] for text, module in docstrings(library, PER_LIBRARY))
    return path


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory, text_csv: Path) -> Path:
    """Folder of a randomly initialised 2-layer BERT (hidden 32) with a WordPiece tokenizer trained on `text_csv`."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny-bert")
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    with text_csv.open(encoding="utf-8", newline="") as stream:
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
    return folder
