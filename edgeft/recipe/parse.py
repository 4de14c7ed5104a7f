"""YAML text to a tree of nodes, built by hand from the parser's events so that every limit holds while reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from edgeft.errors import RecipeError
from edgeft.recipe.problems import Problem
from edgeft.recipe.scalars import UNPRINTABLE, BadScalar, check_text, resolve
from edgeft.recipe.tree import Mark, Node, RecipePath, Source
from edgeft.recipe.yaml_words import explain_syntax

MAX_BYTES = 1 << 20
MAX_NODES = 20_000
MAX_DEPTH = 40


def read_yaml(path: Path, label: str) -> Node:
    """Tree of a recipe file, whose root is a mapping. RecipeError names line and column."""
    try:
        if not path.is_file():
            raise RecipeError("this is not a regular file", where=label)
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"the file cannot be read: {error.strerror}", where=label) from error
    if len(data) > MAX_BYTES:
        raise RecipeError(f"the file is larger than {MAX_BYTES >> 20} MiB", where=label, hint="is this a recipe?")
    text = _decode(data, label)
    root = parse_yaml(text, Source(label, path.parent, tuple(text.splitlines()) or ("",)))
    if root.value is None:
        raise RecipeError("the recipe is empty", where=label, hint="`edgeft init` writes one from your data")
    if not isinstance(root.value, dict):
        hint = "a recipe begins with keys, for instance `name: my-model`; mind the space after the colon"
        raise Problem(root.mark, (), f"a recipe is a mapping of keys, this is {_kind(root)}", hint).error()
    return root


def parse_yaml(text: str, source: Source) -> Node:
    """Tree of one YAML document; an empty one is a node with value None."""
    found = UNPRINTABLE.search(text)
    if found:
        mark = _mark_at(text, found.start(), source)
        raise Problem(mark, (), f"unprintable character U+{ord(found.group()):04X}", "save the file as UTF-8").error()
    builder = _Builder(source)
    for event in _events(text, source):
        builder.feed(event)
    return builder.root or Node(None, Mark(source))


def _decode(data: bytes, label: str) -> str:
    try:
        return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise RecipeError(what, where=f"{label}:{line}", hint="save the file as UTF-8") from error


def _mark_at(text: str, offset: int, source: Source) -> Mark:
    before = text[:offset].splitlines(keepends=True) or [""]
    ended = before[-1] != before[-1].rstrip("\r\n\x85\u2028\u2029")
    return Mark(source, len(before) + ended, 1 if ended else len(before[-1]) + 1)


def _events(text: str, source: Source) -> Iterator[Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except (RecipeError, GeneratorExit):
        raise
    except YAMLError as error:
        raise explain_syntax(error, source).error() from error
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        # The parser meets some malformed escapes, tags and directives with a bare Python error.
        raise RecipeError("this is not valid YAML", where=source.label) from error


def _kind(node: Node) -> str:
    return "a list" if isinstance(node.value, list) else "a single value"


@dataclass
class _Frame:
    """A list or mapping that is still open."""

    mark: Mark
    anchor: str | None
    first: int
    items: list[Node] | None = None
    entries: dict[str, Node] = field(default_factory=dict)
    key: tuple[str, Mark] | None = None

    def node(self) -> Node:
        return Node(self.entries if self.items is None else self.items, self.mark)


class _Builder:
    """Takes events one by one. Nodes are counted as aliases expand them, so a bomb stops at MAX_NODES."""

    def __init__(self, source: Source) -> None:
        self.source, self.count = source, 0
        self.root: Node | None = None
        self.stack: list[_Frame] = []
        self.anchors: dict[str, tuple[Node, int]] = {}
        self.documents = 0

    def feed(self, event: Any) -> None:
        kind = type(event).__name__.removesuffix("Event")
        mark = Mark(self.source, event.start_mark.line + 1, event.start_mark.column + 1)
        if kind == "DocumentStart":
            self.documents += 1
            if self.documents > 1:
                self._refuse(mark, "a second document begins here", "one recipe a file: remove this `---`")
        elif kind in ("SequenceStart", "MappingStart"):
            self._open(event, mark, sequence=kind == "SequenceStart")
        elif kind in ("SequenceEnd", "MappingEnd"):
            frame = self.stack.pop()
            self._add(self._remember(frame.anchor, frame.node(), frame.first))
        elif kind == "Scalar":
            self._scalar(event, mark)
        elif kind == "Alias":
            self._alias(event.anchor, mark)

    def _open(self, event: Any, mark: Mark, *, sequence: bool) -> None:
        self._check_tag(event, mark)
        if self.stack and self.stack[-1].items is None and self.stack[-1].key is None:
            self._refuse(mark, "a key must be text, not a list or mapping")
        if len(self.stack) >= MAX_DEPTH:
            self._refuse(mark, f"nested more than {MAX_DEPTH} levels deep")
        self._counted(1, mark)
        self.stack.append(_Frame(mark, event.anchor, self.count, [] if sequence else None))

    def _scalar(self, event: Any, mark: Mark) -> None:
        self._check_tag(event, mark)
        self._counted(1, mark)
        quoted = event.style is not None
        try:
            value = check_text(event.value) if quoted else resolve(event.value)
        except BadScalar as error:
            self._refuse(mark, str(error))
        self._add(self._remember(event.anchor, Node(value, mark, quoted=quoted), self.count))

    def _alias(self, anchor: str, mark: Mark) -> None:
        if anchor not in self.anchors:
            self._refuse(mark, f"*{anchor} refers to nothing above it", f"mark a value with &{anchor} first")
        node, size = self.anchors[anchor]
        self._counted(size, mark)
        self._add(replace(node, mark=mark))

    def _remember(self, anchor: str | None, node: Node, first: int) -> Node:
        if anchor is not None:
            self.anchors[anchor] = (node, self.count - first + 1)
        return node

    def _add(self, node: Node) -> None:
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        if frame.items is not None:
            frame.items.append(node)
        elif frame.key is None:
            frame.key = (self._key(frame, node), node.mark)
        else:
            name, mark = frame.key
            frame.entries[name] = replace(node, key=mark)
            frame.key = None

    def _key(self, frame: _Frame, node: Node) -> str:
        if node.value == "<<" and not node.quoted:
            self._refuse(node.mark, "merge keys (<<) are not part of YAML 1.2", "`extends:` takes over another recipe")
        if not isinstance(node.value, str):
            shown = "nothing" if node.value is None else str(node.value)
            self._refuse(node.mark, f"a key must be text, this is {shown}", "put it in quotes" if node.value else "")
        if node.value in frame.entries:
            first = frame.entries[node.value].key
            what = f"'{node.value}' is given twice, first in line {first.line if first else '?'}"
            self._refuse(node.mark, what, "keep one of the two")
        return node.value

    def _check_tag(self, event: Any, mark: Mark) -> None:
        if event.tag is not None:
            self._refuse(mark, "tags such as !!name are not allowed in a recipe", "write the plain value")

    def _counted(self, more: int, mark: Mark) -> None:
        self.count += more
        if self.count > MAX_NODES:
            self._refuse(mark, f"more than {MAX_NODES:,} values, aliases (*name) counted each time they are used")

    def _refuse(self, mark: Mark, what: str, hint: str = "") -> NoReturn:
        raise Problem(mark, self._path(), what, hint).error()

    def _path(self) -> RecipePath:
        """Where in the recipe the next value will stand."""
        steps: list[str | int] = []
        for frame in self.stack:
            if frame.items is not None:
                steps.append(len(frame.items))
            elif frame.key is not None:
                steps.append(frame.key[0])
        return tuple(steps)
