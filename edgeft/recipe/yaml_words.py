"""The YAML parser's complaints in words that help a person who does not know its grammar."""

from __future__ import annotations

import re
from typing import Any

from edgeft.recipe.problems import Problem
from edgeft.recipe.tree import Mark, Source

QUOTE = "put the text in quotes"
INDENT = "lines of one level begin in the same column; use spaces"

RULES: tuple[tuple[str, str, str], ...] = (
    (r"character '\\t'", "a tab cannot be used here", "indent with spaces"),
    (r"character (?P<c>'.+') that cannot start", "text cannot begin with {c}", QUOTE),
    (r"unexpected end of stream", "the quote that begins here is never closed", "close it"),
    (r"expected <block end>", "this does not fit the lines above it", INDENT),
    (r"could not find expected ':'", "a key without a colon", "write `key: value`"),
    (r"expected ',' or '(?P<c>[\]}])'", "'{c}' or ',' is missing before this", "close the bracket or add the comma"),
    (
        r"sequence entries are not allowed",
        "a list item ('- ') cannot begin here",
        "begin the list on a line of its own",
    ),
    (r"expected the node content|did not find expected node", "a value is missing before this", ""),
    (r"unknown escape character (?P<c>'.+')", "{c} is no escape", "in double quotes, write \\\\ for a backslash"),
    (r"did not find expected <document start>", "this does not belong to the document above", INDENT),
)


def explain_syntax(error: Any, source: Source) -> Problem:
    """The place and the remedy of a ruamel.yaml error."""
    problem = str(getattr(error, "problem", None) or error).splitlines()[0]
    place = getattr(error, "problem_mark", None)
    if "unexpected end of stream" in problem:
        place = getattr(error, "context_mark", None) or place
    mark = Mark(source, place.line + 1, place.column + 1) if place is not None else Mark(source)
    mark = _inside(mark, source)
    if "mapping values are not allowed" in problem:
        return _stray_colon(mark, source)
    for pattern, what, hint in RULES:
        found = re.search(pattern, problem)
        if found:
            if "expected ','" in problem and "${" in _line(mark):
                hint = "inside { } and [ ] put ${...} in quotes; for a number, give the key a line of its own"
            return Problem(mark, (), what.format(**found.groupdict()), hint)
    return Problem(mark, (), f"this is not valid YAML: {problem}")


def _stray_colon(mark: Mark, source: Source) -> Problem:
    """A ':' where no key can be has three usual causes."""
    above = [
        number
        for number in range(1, mark.line)
        if source.lines[number - 1 : number] and source.lines[number - 1].strip()
    ]
    before = source.lines[above[-1] - 1] if above else ""
    joined = re.match(r"\s*(- )?\w+(:)[^\s/:]", before)
    if joined and ": " not in before:
        place = Mark(source, above[-1], joined.start(2) + 1)
        return Problem(place, (), "a space is missing after the ':'", "write `key: value`")
    line = _line(mark)
    if ": " in line[: mark.column - 1]:
        return Problem(mark, (), "a second ': ' in one line", f"{QUOTE} if it belongs to the value")
    return Problem(mark, (), "this line is indented further than the one above allows", INDENT)


def _line(mark: Mark) -> str:
    lines = mark.source.lines
    return lines[mark.line - 1] if mark.line <= len(lines) else ""


def _inside(mark: Mark, source: Source) -> Mark:
    """A place after the last line is shown at the end of that line."""
    if source.lines and mark.line > len(source.lines):
        return Mark(source, len(source.lines), len(source.lines[-1]) + 1)
    return mark
