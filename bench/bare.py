"""The quickstart's work as a bare script on the same libraries: train, merge, export, quantise, evaluate, time.

`python -m bench.bare DATASET_FOLDER MODEL_FOLDER OPTIONS_JSON` where the folder holds the parquet splits of a build. No
cache, no checks: what a folder of scripts does. Its options come from the recipe: both do the same steps. The laps
named `evidence` are work that a careful script does and a quick one leaves out: starts in fresh processes, the profile
by operator, the export held against torch. The last line is the seconds of each lap.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.bare_run import batch_of, cold, latency, profile, run

os.environ["TOKENIZERS_PARALLELISM"] = "false"
PARITY_CASES = 24


def main(dataset: Path, folder: Path, options: dict[str, Any]) -> None:
    """Print the figures and the seconds of each part."""
    import numpy as np
    import pyarrow.parquet as pq
    import torch
    from tokenizers import Tokenizer

    torch.manual_seed(options["seed"])
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    length = options["length"]
    tokenizer.enable_truncation(length)
    tokenizer.no_padding()
    splits = {}
    for path in sorted(dataset.glob("*.parquet")):
        table = pq.read_table(path)
        encoded = tokenizer.encode_batch(table.column("text").to_pylist())
        splits[path.stem] = ([item.ids for item in encoded], table.column("label").to_numpy())
    splits["search"] = tuple(part[: options["search_cases"]] for part in splits["search"])
    labels = json.loads((dataset / "dataset.json").read_text())["labels"]
    clock = Clock()
    model = train(folder, splits, labels, options)
    clock.lap("train")
    merged = merge(folder, model, splits["validation"], labels, length)
    clock.lap("merge")
    with tempfile.TemporaryDirectory() as place:
        files = export(merged, Path(place), splits["calibration"], length)
        clock.lap("export and quantise")
        reference = logits_of(model, splits["search"][0], length)
        print("source", (reference.argmax(1) == splits["search"][1]).mean())
        for name, file in files.items():
            for split in ("search", *(("gate",) if name == options["chosen"] else ())):
                print(name, split, np.mean(run(file, splits[split][0], length).argmax(1) == splits[split][1]))
            clock.lap(f"evaluate {name}")
            print(name, "p50 ms", latency(file, splits["search"][0], length))
            clock.lap(f"time {name}")
            print(name, cold(file, splits["search"][0], length), profile(file, splits["search"][0], length), "nodes")
            clock.lap(f"evidence {name}")
        few = splits["search"][0][:PARITY_CASES]
        apart = np.abs(run(files["float"], few, length) - logits_of(merged, few, length)).max()
        print("float against torch", float(apart))
        clock.lap("evidence parity")
        logits_of(model, splits["gate"][0], length)
        clock.lap("source on the gate set")
    print(json.dumps(clock.laps))


class Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Close a lap."""
        now = time.perf_counter()
        self.laps[name], self.last = round(now - self.last, 2), now


def train(folder: Path, splits: dict[str, Any], labels: list[str], options: dict[str, Any]) -> Any:
    """QLoRA by Trainer with evaluation on validation."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, BitsAndBytesConfig, Trainer, TrainingArguments

    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["classifier", "pooler"],
    )
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(labels), quantization_config=nf4)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # Without this a plain script does not get past its first evaluation on such a CPU.
            module.support_avx512bf16_for_cpu = False
    fine = options["finetune"]
    model = get_peft_model(
        model,
        LoraConfig(
            task_type="SEQ_CLS",
            r=fine["rank"],
            lora_alpha=fine["alpha"],
            lora_dropout=fine["dropout"],
            target_modules="all-linear",
        ),
    )
    rows, targets = splits["train"]
    held = [{"input_ids": ids, "label": int(label)} for ids, label in zip(*splits["validation"], strict=True)]

    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            **batch_of([item["input_ids"] for item in items]),
            "labels": torch.tensor([item["label"] for item in items]),
        }

    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(
            output_dir=place,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            max_steps=fine["steps"],
            learning_rate=fine["learning_rate"],
            per_device_train_batch_size=fine["batch_size"],
            per_device_eval_batch_size=64,
            eval_strategy="steps",
            eval_steps=fine["eval_steps"],
            save_strategy="no",
            lr_scheduler_type=fine["schedule"],
            remove_unused_columns=False,
            label_names=["labels"],
            optim="adamw_torch_fused",
            train_sampling_strategy="group_by_length" if fine["group_by_length"] else "random",
        )
        data = [{"input_ids": ids, "label": int(label)} for ids, label in zip(rows, targets, strict=True)]
        Trainer(model, arguments, data_collator=collate, train_dataset=data, eval_dataset=held).train()
    return model.eval()


def logits_of(model: Any, rows: list[list[int]], length: int) -> Any:
    """(n, classes) float32 by torch."""
    import numpy as np
    import torch

    with torch.no_grad():
        parts = [model(**batch_of(rows[at : at + 32])).logits.float().numpy() for at in range(0, len(rows), 32)]
    return np.concatenate(parts)


def merge(folder: Path, model: Any, validation: Any, labels: list[str], length: int) -> Any:
    """Add the delta to the original and to the dequantised weights, score both against the unmerged model."""
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from transformers import AutoModelForSequenceClassification

    reference = logits_of(model, validation[0], length)
    best, found = -1.0, None
    original = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(labels))
    adapted = {name: module for name, module in model.base_model.model.named_modules() if hasattr(module, "lora_A")}
    for dequantised in (False, True):
        candidate = copy.deepcopy(original).eval()
        for name, module in adapted.items():
            weight = candidate.get_submodule(name).weight
            packed = module.base_layer.weight
            base = dequantize_4bit(packed.data, packed.quant_state).float() if dequantised else weight.data
            weight.data = base + module.get_delta_weight("default").float()
        candidate.classifier.load_state_dict(model.base_model.model.classifier.modules_to_save["default"].state_dict())
        scores = logits_of(candidate, validation[0], length)
        kl = (torch.log_softmax(torch.tensor(reference), 1) - torch.log_softmax(torch.tensor(scores), 1)).abs().mean()
        accuracy = float((scores.argmax(1) == validation[1]).mean())
        print("merge", "dequantised" if dequantised else "original", accuracy, float(kl))
        if accuracy > best:
            best, found = accuracy, candidate
    return found


def export(model: Any, place: Path, calibration: Any, length: int) -> dict[str, Path]:
    """float, dynamic and static int8."""
    import numpy as np
    import onnx
    import torch
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits

    feeds = batch_of(calibration[0][:2], length)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    files = {name: place / f"{name}.onnx" for name in ("float", "int8-dynamic", "int8-static")}
    program = torch.onnx.export(
        Logits(), tuple(feeds.values()), dynamo=True, opset_version=20, dynamic_shapes=(sizes,) * 3, verbose=False
    )
    program.save(str(files["float"]))
    graph = onnx.load(files["float"])
    del graph.graph.value_info[:]
    onnx.save(graph, files["float"])
    quantize_dynamic(
        files["float"],
        files["int8-dynamic"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm"],
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = iter(calibration[0])

        def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
            row = next(self.rows, None)
            return None if row is None else {name: value.numpy() for name, value in batch_of([row], length).items()}

    quantize_static(
        files["float"],
        files["int8-static"],
        Reader(),
        per_channel=True,
        op_types_to_quantize=["MatMul", "Gemm"],
        activation_type=QuantType.QUInt8,
        extra_options={"MatMulConstBOnly": True, "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
    )
    return files


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text()))
