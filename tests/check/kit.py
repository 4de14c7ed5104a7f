"""Small bundles that answer sensibly, made without torch: naive Bayes on real texts, a colour rule on drawn images."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeft import plugins
from edgeft.artifact import Signature
from edgeft.canonical import canonical_json, digest_file, walk_files
from edgeft.gate import OperatingPoint
from edgeft.ship.bundle import FORMAT
from edgeft.ship.postprocess import postprocess_json
from edgeft.ship.provenance import GROUPS, name_hash
from edgeft.ship.verify import MANIFEST, NOT_SHIPPED

LENGTH = 32
INT64, FLOAT, UINT8 = TensorProto.INT64, TensorProto.FLOAT, TensorProto.UINT8


@dataclass(frozen=True)
class Texts:
    """A tokenizer, a table (vocabulary, labels) of naive Bayes weights from the first rows, and the other rows."""

    tokenizer: str
    weights: Any
    labels: tuple[str, ...]
    train: list[tuple[str, str]]
    test: list[tuple[str, str]]


def learn_texts(path: Path) -> Texts:
    """From a csv of text, label; every other row is for testing."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    with path.open(encoding="utf-8", newline="") as stream:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(stream)]
    train, test = rows[::2], rows[1::2]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=800, special_tokens=["[PAD]", "[UNK]"], show_progress=False)
    tokenizer.train_from_iterator([text for text, _ in train], trainer)
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]", length=LENGTH)
    labels = tuple(sorted({label for _, label in train}))
    counts = np.ones((800, len(labels)))
    for text, label in train:
        for token in set(tokenizer.encode(text).ids):
            counts[token, labels.index(label)] += 1
    weights = np.log(counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
    weights[:2] = 0
    return Texts(tokenizer.to_str(), weights, labels, train, test)


def text_model(path: Path, weights: Any, names: Sequence[str] = ("input_ids", "attention_mask"), out: str = "logits",
               slow: int = 0) -> Path:  # fmt: skip
    """Sum of each token's weights. slow: how many products of 256 x 256 it does for nothing."""
    classes = weights.shape[1]
    nodes = [
        helper.make_node("Gather", ["table", names[0]], ["rows"]),
        helper.make_node("Cast", [names[1]], ["mask"], to=FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weight"]),
        helper.make_node("Mul", ["rows", "weight"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["sum0"], keepdims=0),
    ]
    constants = {"table": weights.astype(np.float32), "last": np.array([2]), "axis": np.array([1])}
    last = "sum0"
    if slow:
        constants |= {"big": np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32) / 16,
                      "lift": np.zeros((classes, 256), np.float32), "drop": np.zeros((256, classes), np.float32)}  # fmt: skip
        nodes.append(helper.make_node("MatMul", ["sum0", "lift"], ["h0"]))
        for index in range(slow):
            nodes.append(helper.make_node("MatMul", [f"h{index}", "big"], [f"h{index + 1}"]))
        nodes += [
            helper.make_node("MatMul", [f"h{slow}", "drop"], ["nothing"]),
            helper.make_node("Add", ["sum0", "nothing"], ["all"]),
        ]
        last = "all"
    nodes.append(helper.make_node("Identity", [last], [out]))
    inputs = [helper.make_tensor_value_info(name, INT64, ["batch", "sequence"]) for name in names]
    return _save(path, nodes, inputs, helper.make_tensor_value_info(out, FLOAT, ["batch", classes]), constants)


def pixel_model(path: Path, weights: Any, size: int, segment: bool = False) -> Path:
    """uint8 pixels (n, size, size, 3) to logits by a product with the colours: per pixel, or of their mean."""
    classes = weights.shape[1]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["values"], to=FLOAT),
        helper.make_node("MatMul", ["values", "w"], ["each"]),
    ]
    constants = {"w": weights[:3].astype(np.float32), "bias": weights[3].astype(np.float32)}
    nodes.append(helper.make_node("Add", ["each", "bias"], ["scored"]))
    if segment:
        nodes.append(helper.make_node("Transpose", ["scored"], ["logits"], perm=[0, 3, 1, 2]))
        out = helper.make_tensor_value_info("logits", FLOAT, ["batch", classes, size, size])
    else:
        constants["axes"] = np.array([1, 2])
        nodes.append(helper.make_node("ReduceMean", ["scored", "axes"], ["logits"], keepdims=0))
        out = helper.make_tensor_value_info("logits", FLOAT, ["batch", classes])
    inputs = [helper.make_tensor_value_info("pixels", UINT8, ["batch", size, size, 3])]
    return _save(path, nodes, inputs, out, constants)


def volume_model(path: Path, weights: Any, patch: Sequence[int], split: bool = False) -> Path:
    """uint8 pixels (n, *patch, 1) to logits (n, classes, *patch): of a voxel's value, [slope, bias] of each class.
    split: the same function as two convolutions instead of one."""
    classes, (slopes, bias) = weights.shape[1], weights.astype(np.float32)
    kernel = np.zeros((classes, 1, 3, 3, 3), np.float32)
    kernel[:, 0, 1, 1, 1] = slopes
    constants = {"kernel": kernel, "bias": bias}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["values"], to=FLOAT),
        helper.make_node("Transpose", ["values"], ["first"], perm=[0, 4, 1, 2, 3]),
        helper.make_node("Conv", ["first", "kernel", "bias"], ["logits"], pads=[1] * 6),
    ]
    if split:
        constants = {"one": np.ones((1, 1, 1, 1, 1), np.float32) * 2, "kernel": kernel / 2, "bias": bias}
        nodes[2:] = [
            helper.make_node("Conv", ["first", "one"], ["twice"]),
            helper.make_node("Conv", ["twice", "kernel", "bias"], ["logits"], pads=[1] * 6),
        ]
    inputs = [helper.make_tensor_value_info("pixels", UINT8, ["batch", *patch, 1])]
    out = helper.make_tensor_value_info("logits", FLOAT, ["batch", classes, *patch])
    return _save(path, nodes, inputs, out, constants)


def _save(path: Path, nodes: Any, inputs: Any, out: Any, constants: dict[str, Any]) -> Path:
    graph = helper.make_graph(
        nodes, "kit", inputs, [out], [numpy_helper.from_array(v, k) for k, v in constants.items()]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path


def text_bundle(
    folder: Path, texts: Texts, weights: Any = None, labels: Sequence[str] | None = None, **more: Any
) -> Path:
    """A bundle of a text classifier. more: of `text_model`, and `status`, `gates`, `thresholds`."""
    folder.mkdir(parents=True)
    weights = texts.weights if weights is None else weights
    sealed = {name: more.pop(name) for name in ("status", "gates", "thresholds") if name in more}
    text_model(folder / "model.onnx", weights, **more)
    (folder / "tokenizer.json").write_text(texts.tokenizer, encoding="utf-8")
    named = list(labels or texts.labels)
    preprocess = {"kind": "text", "version": 1, "tokenizer": "tokenizer.json", "length": LENGTH, "labels": named,
                  "inputs": ["input_ids", "attention_mask"], "pad_id": 0, "pad_token": "[PAD]"}  # fmt: skip
    (folder / "preprocess.json").write_bytes(canonical_json(preprocess))
    shape = ["batch", "sequence"]
    inputs = {name: {"name": name, "dtype": "int64", "shape": shape} for name in ("input_ids", "attention_mask")}
    return seal(folder, "text-classification", named, inputs, ["batch", len(named)], **sealed)


def image_bundle(folder: Path, weights: Any, labels: Sequence[str], size: int, *, segment: bool = False) -> Path:
    """A bundle of an image classifier, or of a segmentation, of `pixel_model`."""
    folder.mkdir(parents=True)
    pixel_model(folder / "model.onnx", weights, size, segment)
    task = "segmentation" if segment else "image-classification"
    image = {"embed": "pixels", "height": size, "width": size, "mean": [0.5] * 3, "std": [0.5] * 3}
    feed = {"name": "pixels", "dtype": "uint8", "shape": ["batch", size, size, 3]}
    preprocess = {"kind": "image", "version": 1, "task": task, "labels": list(labels), "image": image, "inputs": [feed]}
    (folder / "preprocess.json").write_bytes(canonical_json(preprocess))
    out = ["batch", len(labels), *([size, size] if segment else [])]
    return seal(folder, task, labels, {"pixels": feed}, out)


def volume_bundle(
    folder: Path, weights: Any, labels: Sequence[str], patch: Sequence[int], *, split: bool = False, gates: str = "",
    medical: Mapping[str, Any] | None = None, data: str = "", **volume: Any,
) -> Path:  # fmt: skip
    """A bundle of `volume_model`. medical: of preprocess.json, besides its window; data: of the recipe, in YAML;
    volume: of preprocess.json's part of that name, besides the patch."""
    folder.mkdir(parents=True)
    volume_model(folder / "model.onnx", weights, patch, split)
    sizes = dict(zip(("depth", "height", "width"), patch, strict=True))
    feed = {"name": "pixels", "dtype": "uint8", "shape": ["batch", *patch, 1]}
    preprocess = {
        "kind": "volume", "version": 1, "task": "volume-segmentation", "labels": list(labels), "inputs": [feed],
        "volume": {"embed": "pixels", **sizes, "largest": list(patch), **volume},
        "medical": {"window": [0, 255], "orientation": "RAS", "spacing": None, "invert": True, **(medical or {})},
    }  # fmt: skip
    (folder / "preprocess.json").write_bytes(canonical_json(preprocess))
    out = ["batch", len(labels), *patch]
    return seal(folder, "volume-segmentation", labels, {"pixels": feed}, out, gates=gates, data=data)


def seal(
    folder: Path, task: str, labels: Sequence[str], inputs: Any, out: Any, status: str = "passed", gates: str = "",
    thresholds: Mapping[OperatingPoint, float] | None = None, data: str = "",
) -> Path:  # fmt: skip
    """The manifest, as a build writes it. gates, data: of the recipe it was built by, in YAML. thresholds: frozen
    ones."""
    if thresholds:
        stated = postprocess_json(plugins.load("tasks", task)(), labels, Signature({}, {}), thresholds=thresholds)
        (folder / "postprocess.json").write_bytes(canonical_json(stated))
    if gates or data:
        parts = [f"gates:\n{gates}" if gates else "", f"data:\n{data}" if data else ""]
        (folder / "recipe.resolved.yaml").write_text(f"name: kit\n{''.join(parts)}", encoding="utf-8")
    if status != "passed":
        (folder / NOT_SHIPPED).write_text("no\n")
    manifest = {
        "format": FORMAT, "name": "kit", "edgeft": "0.1.0", "device": "local-cpu", "task": task, "candidate": "onnx/float",
        "runtime": "onnxruntime", "threads": 1, "model": "model.onnx", "artifact_digest": "0" * 64, "labels": list(labels),
        "inputs": inputs, "outputs": {"logits": {"name": "logits", "dtype": "float32", "shape": list(out)}},
        "status": status,
        "files": {name: {"sha256": digest_file(path), "bytes": path.stat().st_size} for name, path in walk_files(folder)},
    }  # fmt: skip
    (folder / MANIFEST).write_bytes(canonical_json(manifest, indent=1))
    return folder


def add_groups(
    folder: Path, salt: bytes, groups: Mapping[str, Sequence[str]], column: str | None, source: str = "csv",
    by: str = "fractions",
) -> Path:  # fmt: skip
    """What a build says of who was in which split, and the manifest with it. groups: split -> names."""
    rows = [f"{split},{name_hash(salt, name)},1\n" for split, names in groups.items() for name in names]
    (folder / GROUPS).write_text(f"split,group,rows\n{''.join(rows)}", encoding="utf-8")
    about = {"source": {"source": source, "options": {}}, "group": column, "division": {"by": by}}
    (folder / "provenance.json").write_bytes(canonical_json(about))
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    for name in (GROUPS, "provenance.json"):
        manifest["files"][name] = {"sha256": digest_file(folder / name), "bytes": (folder / name).stat().st_size}
    (folder / MANIFEST).write_bytes(canonical_json(manifest, indent=1))
    return folder


def write_table(path: Path, rows: Sequence[tuple[str, ...]], header: Sequence[str] = ("text", "label")) -> Path:
    """A csv or jsonl of texts and labels."""
    if path.suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows), encoding="utf-8"
        )
        return path
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def worse(weights: Any, share: float, seed: int = 0) -> Any:
    """The table with this share of the tokens speaking for the next label."""
    broken = np.random.default_rng(seed).random(len(weights)) < share
    turned = weights.copy()
    turned[broken] = np.roll(weights[broken], 1, axis=1)
    return turned


def disturbed(record: dict[str, Any]) -> bool:
    """Whether other work on this machine made the times INVALID, which is then the right thing to say of them."""
    return any(row["check"] == "latency" and "is INVALID" in row["why"] for row in record["verdicts"])


def copy_bundle(source: Path, place: Path) -> Path:
    shutil.copytree(source, place)
    return place
