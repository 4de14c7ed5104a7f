"""The two sides of `python -m bench gpu`: edgeft's fine-tuning stage, and the usual script of transformers and peft.

Each returns when every optimiser step ended (seconds, monotonic; the first entry is when training began) and the loss
of every step.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.gpu import LABELS, STEPS, Shape
from edgeft.tasks.text_generation import TextGeneration

RANK, ALPHA, RATE = 16, 32, 1e-4
HELD = 64
"""Rows of the validation split."""
Times = tuple[list[float], list[float]]


def read(folder: Path) -> tuple[Any, Any]:
    """(ids, labels), int64 (n, length) and (n,)."""
    import numpy as np

    with np.load(folder / "tokens.npz") as held:
        return held["ids"], held["labels"]


class TokenTask:
    """Text classification whose rows name lines of tokens.npz: no tokenizer runs while the clock does."""

    name = "text-classification"
    columns = ("text",)
    metrics = ("accuracy",)
    gated: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    headline = "accuracy"

    def __init__(self, folder: Path) -> None:
        self.ids, _ = read(folder)

    def feeds(self, rows: Any, prepared: Path) -> dict[str, Any]:
        import numpy as np

        ids = self.ids[[int(text) for text in rows.column("text").to_pylist()]]
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}

    def plain(self, feeds: Any, prepared: Path) -> Any:
        return feeds

    def keep(self, outputs: Any) -> Any:
        return outputs

    def score(self, outputs: Mapping[str, Any], rows: Any, labels: Sequence[str]) -> Any:
        from edgeft.tasks.classification import score_logits

        return score_logits(outputs, rows, labels)


class NextTokenTask(TextGeneration):
    """The same lines, each to be predicted token by token."""

    def __init__(self, folder: Path) -> None:
        self.ids, _ = read(folder)

    def feeds(self, rows: Any, prepared: Path) -> dict[str, Any]:
        import numpy as np

        ids = self.ids[[int(text) for text in rows.column("text").to_pylist()]]
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def by_edgeft(folder: Path, shape: Shape, method: str) -> Times:
    """The stage as a build runs it."""
    from edgeft.artifact import Artifact
    from edgeft.stages.finetune import stage_for

    place = folder / "edgeft" / method
    (place / "out").mkdir(parents=True)
    options: dict[str, Any] = {
        "method": method, "max_steps": STEPS, "batch_size": shape.batch, "learning_rate": RATE, "schedule": "constant",
        "eval_steps": STEPS, "checkpoint_steps": 10 * STEPS, "warmup": 0.0,
    }  # fmt: skip
    if method != "full":
        options |= {"rank": RANK, "alpha": ALPHA, "dropout": 0.0}
    times: list[float] = []
    ctx = context(folder, place, shape, times)
    stage = stage_for(options)(**options)
    facts = {"form": "transformers"}
    made = stage.run({"model": Artifact("torch-model", folder / "model", "0" * 64, facts)}, place / "out", ctx)
    losses = [point["loss"] for point in made["training"]["curve"] if point["loss"] is not None]
    return times, losses


def context(folder: Path, place: Path, shape: Shape, times: list[float]) -> Any:
    """Splits and preprocessing on disk, and a clock that every step's progress advances."""
    import pyarrow as pa
    from pyarrow import parquet

    from edgeft.stage import Context, Split

    _, labels = read(folder)
    prepared = place / "prepared"
    prepared.mkdir()
    (prepared / "preprocess.json").write_text(json.dumps({"kind": "text", "length": shape.length, "pad_id": 0}))
    splits = {}
    for name, at in (("train", range(HELD, len(labels))), ("validation", range(HELD))):
        path = place / f"{name}.parquet"
        names = [str(index) for index in at]
        parquet.write_table(pa.table({"id": names, "text": names, "label": [int(labels[index]) for index in at]}), path)
        splits[name] = Split(name, path, len(names), name)
    (place / "scratch").mkdir()
    return Context(
        step="finetune", seed=7, scratch=place / "scratch", splits=splits,
        task=NextTokenTask(folder) if shape.tokens else TokenTask(folder), labels=() if shape.tokens else LABELS,
        prepared=prepared, threads=8, on_progress=lambda event: times.append(time.monotonic()),
    )  # fmt: skip


def by_script(folder: Path, shape: Shape, method: str) -> Times:
    """What a careful user writes by hand."""
    import torch
    from transformers import Trainer, TrainingArguments

    ids, labels = read(folder)
    module = script_model(folder / "model", method, shape.tokens)
    clock, cuda = Clock(), torch.cuda.is_available()
    paged = cuda and method == "qlora"
    rows = [
        {
            "input_ids": torch.from_numpy(line),
            "attention_mask": torch.ones_like(torch.from_numpy(line)),
            "labels": torch.from_numpy(line) if shape.tokens else int(label),
        }
        for line, label in zip(ids[HELD:], labels[HELD:], strict=True)
    ]
    arguments = TrainingArguments(
        output_dir=str(folder / "script" / method), max_steps=STEPS, per_device_train_batch_size=shape.batch,
        learning_rate=RATE, lr_scheduler_type="constant", bf16=cuda, logging_steps=1, save_strategy="no",
        report_to="none", disable_tqdm=True, optim="paged_adamw_32bit" if paged else "adamw_torch_fused",
        use_cpu=not cuda, seed=7,
    )  # fmt: skip
    trainer = Trainer(model=module, args=arguments, train_dataset=rows, callbacks=[clock.callback()])
    trainer.train()
    return clock.times, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def script_model(path: Path, method: str, tokens: bool) -> Any:
    """qlora: NF4 by transformers; lora: weights in bf16; full: float32 under autocast."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig

    kind = AutoModelForCausalLM if tokens else AutoModelForSequenceClassification
    quantise = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["classifier", "score", "lm_head"],  # a fresh head in 4 bits ends in an AssertionError
    )
    cuda = torch.cuda.is_available()
    torch.manual_seed(7)
    labels = {} if tokens else {"num_labels": len(LABELS)}
    module = kind.from_pretrained(
        str(path), **labels, dtype=torch.float32 if method == "full" or not cuda else torch.bfloat16,
        quantization_config=quantise if method == "qlora" else None, device_map={"": 0} if cuda else None,
    )  # fmt: skip
    if method == "full":
        return module
    if method == "qlora":
        module = prepare_model_for_kbit_training(module, use_gradient_checkpointing=False)
    config = LoraConfig(
        task_type="CAUSAL_LM" if tokens else "SEQ_CLS",
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=0.0,
        target_modules="all-linear",
    )
    return get_peft_model(module, config)


class Clock:
    """When each optimiser step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def callback(self) -> Any:
        """As the Trainer takes it."""
        from transformers import TrainerCallback

        times = self.times

        class Ticks(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, *_: Any, **__: Any) -> None:
                times.append(time.monotonic())

        return Ticks()
