"""`serve.embed_preprocessing`: what goes into the artefact, and on which texts and files it is tried."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft import plugins
from edgeft.exporter import Exporter, Unsupported
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.schema import Serve
from edgeft.task import Task, WindowedTask

if TYPE_CHECKING:
    import pyarrow as pa

STRING, BYTES = "string", "bytes"
INSIDE = {STRING: "a tokenizer", BYTES: "a decoder of image files"}
"""What needs onnxruntime-extensions, which ONNX Runtime alone has."""
EXTENSIONS = "onnxruntime_extensions"
PARITY_CASES = 256
"""A token that differs shows in the logits; 256 texts miss what is wrong with one in a hundred 1 time in 13."""
GOLDEN_TEXTS = (
    "Returns the eigenvalues of a symmetric matrix.",
    "Caf\u00e9 d\u00e9j\u00e0 vu, na\u00efve fa\u00e7ade; \u00c5ngstr\u00f6m \u00dcBER "
    "Erd\u0151s, Bor\u016fvka, \u0130stanbul",
    "e\u0301 n\u0303 a\u030a: accents of their own",
    "\u8fd4\u56de\u77e9\u9635\u7684\u7279\u5f81\u503c\u3002mixed with English",
    "great job \U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f \U0001f1e9\U0001f1ea",
    "  tabs\tand\nnewlines\r\n \u00a0no break\u2003em\u2028line ",
    "a\u0007b\u200bc\ufeffd\u00ade",
    "a--b...c!?@#$%^&*()_+[]{}|;:<>,./~`'\u201cquoted\u201d \u2013 \u2014 \u2026",
    "word " * 2000,
    "a" * 100 + " " + "b" * 101,
)
"""Accents, ideographs, emoji, white space, control characters, punctuation, a text and words that are too long."""


def is_image_task(name: str) -> bool:
    """Whether a task's input is an image."""
    task: type[Task] = plugins.load("tasks", name)
    return "image" in task.columns


def is_windowed_task(name: str) -> bool:
    """Whether a task's network sees a window of a case at a time."""
    return isinstance(plugins.load("tasks", name)(), WindowedTask)


def check_embedding(loaded: LoadedRecipe) -> None:
    """RecipeError where the serve shape and what is embedded do not go together, or a package is missing here."""
    serve = loaded.recipe.serve
    where = ("serve", "embed_preprocessing")
    embed = serve.embed_preprocessing
    if embed in ("pixels", BYTES) and not is_image_task(loaded.recipe.model.task):
        raise loaded.error(where, f"a text has no {embed}", "string, or none")
    if embed not in INSIDE:
        return
    if serve.batch != 1:
        one = "text" if embed == STRING else "file"
        what = f"{INSIDE[embed]} in the graph takes one {one}, serve.batch is {serve.batch}"
        raise loaded.error(where, what, "batch: 1")
    if find_spec(EXTENSIONS) is None:
        raise loaded.error(where, "onnxruntime-extensions is not installed", "pip install 'edgeft[extensions]'")


def refuse_embedding(exporter: Exporter, serve: Serve) -> None:
    """Unsupported where an exporter cannot hold what the recipe wants in the artefact."""
    embed = serve.embed_preprocessing
    if embed in INSIDE and embed not in getattr(exporter, "embeds", ()):
        what = f"{INSIDE[embed]} goes into ONNX artefacts only (serve.embed_preprocessing), not {exporter.name}"
        raise Unsupported(what)


def embedding_tools(serve: Serve) -> tuple[str, ...]:
    """Distributions that make what is embedded: part of the export's key."""
    other = {STRING: ("tokenizers",), BYTES: ("pillow",)}
    return ("onnxruntime-extensions", *other.get(serve.embed_preprocessing or "", ())) if _inside(serve) else ()


def parity_cases(serve: Serve, plain: int, emulated: bool) -> int:
    """Cases of the parity proof. plain: where nothing is embedded."""
    return PARITY_CASES if serve.embed_preprocessing == STRING and not emulated else plain


def parity_rows(rows: pa.Table, serve: Serve, prepared: Path) -> pa.Table:
    """Rows behind the golden ones; images as PNG files, on which decoders agree to the last bit."""
    if serve.embed_preprocessing == STRING:
        return with_golden(rows)
    if serve.embed_preprocessing == BYTES:
        from edgeft.tasks.image_files import exact_rows
        from edgeft.tasks.image_spec import read_spec

        return exact_rows(rows, read_spec(prepared).channels)
    return rows


def _inside(serve: Serve) -> bool:
    return serve.embed_preprocessing in INSIDE


def with_golden(rows: pa.Table) -> pa.Table:
    """Rows' texts behind the golden ones."""
    import pyarrow as pa

    texts: list[Any] = [*GOLDEN_TEXTS, *rows.column("text").to_pylist()]
    return pa.table({"text": texts})
