"""INTEGRATION.md and samples/: how to call the artefact, written from its own signature and its golden cases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Signature, entry_file
from edgeft.ship.packages import EXTENSIONS, LANGUAGES, NAMES, NOT_TRIED, PACKAGES, TOKENIZERS, TRIED, Package

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")
FILES = {
    "python": ("sample.py", "golden_test.py"),
    "cpp": ("npy.hpp", "sample.cpp", "golden_test.cpp"),
    "kotlin": ("Npy.kt", "Sample.kt", "GoldenTest.kt"),
    "swift": ("Npy.swift", "Sample.swift", "GoldenTest.swift"),
}
"""What a language's samples have for every runtime; `model.*` is the runtime's own."""
MODEL = {"python": "model.py", "cpp": "model.hpp", "kotlin": "Model.kt", "swift": "Model.swift"}
PREPROCESS = {"text": "the text", "file": "the bytes of a JPEG or PNG file"}
"""Inputs that hold what the user gave: preprocessing is in the artefact, with operators of onnxruntime-extensions."""


@dataclass(frozen=True)
class Integration:
    """What the page and the samples say. facts: opset and ir_version of an ONNX file. needed: distribution -> version.
    index: golden/index.json."""

    name: str
    device: str
    runtime: str
    threads: int
    facts: Mapping[str, Any]
    signature: Signature
    needed: Mapping[str, str]
    index: Path


def write_integration(folder: Path, about: Integration) -> None:
    """Write INTEGRATION.md and samples/LANGUAGE/ for the languages that the runtime has."""
    values = _values(folder, about)
    engine = _engine()
    for language in values["languages"]:
        place = folder / "samples" / language
        place.mkdir(parents=True)
        for name in FILES[language]:
            _render(engine, f"{language}/{name}.j2", place / name, values)
        _render(engine, f"{language}/{about.runtime}.j2", place / MODEL[language], values)
    if "python" in values["languages"]:
        _render(engine, f"python/{values['kind']}.j2", folder / "samples/python/preprocess.py", values)
    _render(engine, "INTEGRATION.md.j2", folder / "INTEGRATION.md", values)


def _values(folder: Path, about: Integration) -> dict[str, Any]:
    """Everything the templates name."""
    preprocess = json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))
    post = json.loads((folder / "postprocess.json").read_text(encoding="utf-8"))
    index = json.loads(about.index.read_text(encoding="utf-8"))
    inside = next((name for name in about.signature.inputs if name in PREPROCESS), None)
    offered = LANGUAGES.get(about.runtime, ())
    main = next(iter(about.needed)) if about.needed else about.runtime
    return {
        "about": about,
        "model": entry_file(folder).name,
        "preprocess": preprocess,
        "post": post,
        "labels": post["labels"],
        "output": about.signature.outputs[post["output"]].name if post["output"] in about.signature.outputs else "",
        "index": index,
        "inputs": [{"canonical": name, **row} for name, row in index["inputs"].items()],
        "outputs": [{"canonical": name, **row} for name, row in index["outputs"].items()],
        "inside": inside,
        "inside_text": PREPROCESS.get(inside or "", ""),
        "kind": {"text": "string", "file": "file"}[inside] if inside else _kind(preprocess),
        "tokens": "vocabulary" in preprocess,
        "extensions": inside is not None,
        "languages": [name for name in offered if name == "python" or not (inside or "vocabulary" in preprocess)],
        "names": NAMES,
        "tried": {name: TRIED.get((about.runtime, name), NOT_TRIED) for name in offered},
        "main": main,
        "version": about.needed.get(main, ""),
        "packages": _filled(PACKAGES.get(about.runtime, ()), about.needed.get(main, "")),
        "others": _others(about.needed),
    }


def _kind(preprocess: Mapping[str, Any]) -> str:
    """Which of the Python samples makes feeds."""
    kind = str(preprocess["kind"])
    return "slice" if kind == "image" and "medical" in preprocess else kind


def _others(needed: Mapping[str, str]) -> list[Package]:
    """Packages that preprocessing needs beside the runtime."""
    if "onnxruntime-extensions" in needed:
        return _filled(EXTENSIONS, needed["onnxruntime-extensions"])
    return _filled(TOKENIZERS, needed["tokenizers"]) if "tokenizers" in needed else []


def _filled(packages: tuple[Package, ...], version: str) -> list[Package]:
    public = version.partition("+")[0]
    return [Package(item.platform, item.name.replace("{version}", public), item.source) for item in packages]


def _render(engine: Environment, template: str, place: Path, values: Mapping[str, Any]) -> None:
    place.write_text(engine.get_template(template).render(values), encoding="utf-8")


def _engine() -> Environment:
    """Delimiters that none of the languages has."""
    import jinja2

    # Source code is written, not HTML; what comes from outside goes through `lit` or `md`.
    engine = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
        trim_blocks=True, lstrip_blocks=True, autoescape=False,  # noqa: S701
        variable_start_string="@{", variable_end_string="}@", block_start_string="@%", block_end_string="%@",
        comment_start_string="@#", comment_end_string="#@",
    )  # fmt: skip
    engine.filters |= {"lit": literal, "kt": kotlin_literal, "md": markdown}
    return engine


def literal(value: str) -> str:
    """A string literal of Python, C++ and Swift; control characters, which these write differently, are left out."""
    return json.dumps("".join(letter for letter in str(value) if letter.isprintable()), ensure_ascii=False)


def kotlin_literal(value: str) -> str:
    """The same where `$` begins a template."""
    return literal(value).replace("$", "\\$")


def markdown(value: Any) -> str:
    """Text inside a table's backticks: one line, without what ends either."""
    return " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
