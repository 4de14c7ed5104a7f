"""Weights of a language model in few bits: what each form of ONNX Runtime's keeps of it, its size and its time.

`EDGEFT_LM=FOLDER EDGEFT_TEXTS=FILE.csv python -m bench weights`: a decoder-only checkpoint, and a table with a column
`text` of which the first 128 rows calibrate and the next 200 are scored, each cut to 64 tokens.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from bench.unet import interleave, ratio

FORMS = ("int8-weights", "int4-weights", "int4-weights-awq", "int4-weights-gptq", "int4-weights-hqq")
CALIBRATION, SCORED, LENGTH, BATCH = 128, 200, 64, 8
FLOAT = "float"


def main(calibration: int = CALIBRATION, scored: int = SCORED, blocks: int = 12) -> None:
    """Print a row for each form: token accuracy and nll against float, megabytes, seconds to make, time of a call."""
    model, texts = os.environ.get("EDGEFT_LM"), os.environ.get("EDGEFT_TEXTS")
    if not model or not texts:
        print("weights: skipped, it needs a language model and texts: EDGEFT_LM=FOLDER EDGEFT_TEXTS=FILE.csv")
        return
    rows = read_texts(Path(texts), calibration + scored)
    feeds = tokens(Path(model), rows)
    first = {name: array[:calibration] for name, array in feeds.items()}
    rest = {name: array[calibration:] for name, array in feeds.items()}
    with TemporaryDirectory() as place:
        made = make(Path(model), Path(place), first)
        _tell(made, rest, blocks)


def read_texts(path: Path, most: int) -> list[str]:
    """The column `text` of so many rows."""
    with path.open(newline="", encoding="utf-8") as stream:
        found = [row["text"] for _, row in zip(range(most), csv.DictReader(stream), strict=False)]
    if len(found) < most:
        raise SystemExit(f"{path}: {len(found)} texts, {most} are needed")
    return found


def tokens(model: Path, texts: Sequence[str]) -> dict[str, Any]:
    """input_ids and attention_mask, int64 (n, 64), padded on the right with token 0, which the mask leaves out."""
    import numpy as np
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    ids = np.zeros((len(texts), LENGTH), np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        found = tokenizer(text)["input_ids"][:LENGTH]
        ids[row, : len(found)], mask[row, : len(found)] = found, 1
    return {"input_ids": ids, "attention_mask": mask}


def make(model: Path, place: Path, cases: Mapping[str, Any]) -> dict[str, tuple[Path, float]]:
    """Form -> (model.onnx, processor seconds it took), float first; a form that cannot be made is told and left out."""
    from edgeft_exporters.onnx.exporter import OnnxExporter

    from edgeft.artifact import Artifact
    from edgeft.device.profile import load_device
    from edgeft.exporter import Unsupported
    from edgeft.stage import Context

    task: Any = SimpleNamespace(name="text-generation")
    exporter, device, context = OnnxExporter(), load_device("local-cpu"), Context("weights", 0, place, task, ())
    found: dict[str, tuple[Path, float]] = {}
    (out := place / FLOAT).mkdir()
    began = time.process_time()
    source = Artifact("torch-model", model, "0" * 64, {"form": "transformers"})
    facts = exporter.export(source, exporter.settings(device, {"batch": 1, "length": LENGTH}), out, context)
    found[FLOAT] = out / "model.onnx", time.process_time() - began
    plain = Artifact("onnx", out, "1" * 64, facts)
    rungs = {variant.name: variant for variant in exporter.rungs(plain, device)}
    for form in FORMS:
        (out := place / form).mkdir()
        began = time.process_time()
        try:
            exporter.compress(plain, rungs[form], dict(cases), out, context)
        except Unsupported as refusal:
            print(f"{form}: {refusal.reason}")
            continue
        found[form] = out / "model.onnx", time.process_time() - began
    return found


def score(path: Path, feeds: Mapping[str, Any]) -> tuple[Any, Any]:
    """(share of next tokens that are the likeliest, their mean nll in nats), each (n,), of texts with a next token."""
    import numpy as np

    from edgeft.runtimes import ort
    from edgeft.tasks.text_generation import log_softmax

    session, right, nll = ort.load(str(path), {"threads": 1}), [], []
    for batch in batches(feeds):
        logits = log_softmax(session.run(batch)["logits"])
        for row, ids, mask in zip(logits, batch["input_ids"], batch["attention_mask"], strict=True):
            places = np.arange(int(mask.sum()) - 1)
            if len(places):
                nll.append(-row[places, ids[places + 1]].mean())
                right.append((row[places].argmax(-1) == ids[places + 1]).mean())
    return np.array(right), np.array(nll)


def batches(feeds: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A few rows at a time: logits of 150,000 tokens are large."""
    for start in range(0, len(feeds["input_ids"]), BATCH):
        yield {name: array[start : start + BATCH] for name, array in feeds.items()}


def _tell(made: Mapping[str, tuple[Path, float]], feeds: Mapping[str, Any], blocks: int) -> None:
    from edgeft.runtimes import ort

    results = {form: score(path, feeds) for form, (path, _) in made.items()}
    one = {name: array[:1] for name, array in feeds.items()}
    sessions = {form: partial(ort.load(str(path), {"threads": 1}).run, one) for form, (path, _) in made.items()}
    times = interleave(sessions, blocks, 2)
    right, nll = results[FLOAT]
    print(f"{len(nll)} texts; differences to float are paired, with their standard error")
    for form, (path, seconds) in made.items():
        size = sum(item.stat().st_size for item in path.parent.glob("model.onnx*")) / 1e6
        print(
            f"{form}: token accuracy {_against(results[form][0], right, 100)}%, nll {_against(results[form][1], nll)}, "
            f"{size:.0f} MB, made in {seconds:.0f} s of processor time, {median(times[form]):.1f} ms a call"
        )
        if form != FLOAT:
            print(f"  {ratio(times[FLOAT], times[form])} than float")


def _against(values: Any, other: Any, scale: float = 1.0) -> str:
    """Mean, and how far it is from the other's."""
    if values is other:
        return f"{values.mean() * scale:.3f}"
    apart = (values - other) * scale
    return f"{values.mean() * scale:.3f} ({apart.mean():+.3f} +- {apart.std(ddof=1) / len(apart) ** 0.5:.3f})"
