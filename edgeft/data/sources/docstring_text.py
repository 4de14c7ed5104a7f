"""Docstrings as text to classify: files parsed by `ast`, prose kept, names of libraries masked."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

MASK = "LIB"
"""Stands wherever a library was named: one neutral token, so that the text and not the name gives the label away."""

ALIASES: dict[str, tuple[str, ...]] = {
    "torch": ("pytorch", "aten", "torchscript", "libtorch"),
    "sklearn": ("scikit-learn", "scikit learn", "scikit_learn", "scikits"),
    "pandas": ("pd",),
    "numpy": ("np", "numarray", "numeric python"),
    "networkx": ("nx",),
    "pyarrow": ("arrow", "pa"),
    "transformers": ("hugging face", "huggingface"),
    "datasets": ("hugging face", "huggingface"),
    "huggingface_hub": ("hugging face", "huggingface", "hub"),
    "jinja2": ("jinja",),
    "tensorflow": ("tf", "keras"),
    "matplotlib": ("plt", "mpl"),
}
WITHIN_WORDS = 5
"""Names of at least this many letters are masked inside longer words too (`NumpyArray`, `sympify` is not one)."""

_SECTION = re.compile(
    r"^\s*([A-Z][\w ]{2,30}:\s*$|[-=~^]{3,}\s*$|>>>|\.\. \w+::|:(param|type|returns?|rtype|raises)\b|@\w)"
)
_ARGUMENT = re.compile(r"^\s*[\w*, ]+\(.*\)\s*(,.*)?:\s*$|^\s*\w+ \(`")
_NOTE = re.compile(r"\s*\[[\w]{1,12}\]_|\(?\b(?:GH|gh-)[ #]?\d+\)?")
_EMPHASIS = re.compile(r"(?<![\w*])\*(\w[\w ]*)\*(?![\w*])")
_ROLE = re.compile(r":[a-z]+(?::[a-z]+)?:`~?\.?([^`<]*?)(?:\s*<[^`]*>)?`")
_MARKUP = re.compile(r"\[`|`\]|``|`|\*\*|\||</?\w+[^>]*>")
_SPACE = re.compile(r"\s+")
_WORDS = re.compile(r"[A-Za-z]{2,}")


def docstrings(source: bytes) -> Iterator[tuple[str, str]]:
    """(qualified name, cleaned docstring) of the module, its classes and its functions; nested functions are left out.

    Raises SyntaxError, ValueError or RecursionError for a file that this Python cannot parse.
    """
    waiting: list[tuple[str, ast.AST]] = [("", ast.parse(source))]
    while waiting:
        name, node = waiting.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield name, text
        if isinstance(node, (ast.Module, ast.ClassDef)):
            inner = [
                child for child in node.body if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            ]
            waiting.extend((f"{name}.{child.name}" if name else child.name, child) for child in reversed(inner))


def first_prose(text: str, min_chars: int, max_chars: int) -> str | None:
    """The opening paragraphs up to about max_chars, cut between words; None when that is shorter than min_chars.

    Stops at the first section (`Parameters`, `Args:`, `>>>`, directives, lists of arguments); markup is taken out.
    """
    kept: list[str] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        below = lines[number + 1] if number + 1 < len(lines) else ""
        if _SECTION.match(line) or _ARGUMENT.match(line) or re.match(r"^\s*[-=~]{3,}\s*$", below):
            break
        kept.append(line)
        if line.rstrip().endswith("::"):
            break
    prose = _ROLE.sub(lambda found: found.group(1), "\n".join(kept))
    prose = _EMPHASIS.sub(lambda found: found.group(1), _NOTE.sub("", _MARKUP.sub("", prose)))
    prose = _SPACE.sub(" ", prose).strip().removesuffix("::")
    if len(prose) > max_chars:
        prose = prose[: max_chars + 1].rsplit(" ", 1)[0].rstrip(" ,;:(")[:max_chars]
    if len(prose) < min_chars or len(_WORDS.findall(prose)) < 6:
        return None
    return prose


def mask_pattern(packages: Sequence[str]) -> re.Pattern[str]:
    """Matches the packages' names and usual aliases, alone, in dotted names (`np.linalg.norm`) and within words."""
    names = {name.lower() for package in packages for name in (package, *ALIASES.get(package, ()))}
    names |= {name.replace("_", mark) for name in names if "_" in name for mark in ("-", " ")}
    long = sorted((re.escape(name) for name in names if _inside(name)), key=lambda text: (-len(text), text))
    short = sorted((re.escape(name) for name in names if not _inside(name)), key=lambda text: (-len(text), text))
    parts = [rf"\w*(?:{'|'.join(long)})\w*"] if long else []
    parts += [rf"(?<!\w)(?:{'|'.join(short)})(?!\w)"] if short else []
    return re.compile(rf"(?:{'|'.join(parts)})(?:\.[A-Za-z_]\w*)*(?:[\w.-]*(?<=\w)\.py\b)?", re.IGNORECASE)


def _inside(name: str) -> bool:
    """Names that are ordinary English words are masked as whole words only."""
    return len(name) >= WITHIN_WORDS and name not in {"transformers", "datasets", "accelerate", "arrow"}


def mask(text: str, pattern: re.Pattern[str]) -> str:
    """Text with every library name replaced by MASK; neighbouring masks become one."""
    masked = pattern.sub(MASK, text)
    return re.sub(rf"\b{MASK}(?:[\s./-]+{MASK}\b)+", MASK, masked)
