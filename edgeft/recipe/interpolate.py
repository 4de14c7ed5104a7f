"""`${NAME}` in values, for the names that the recipe declares in `env:` and for no others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgeft.recipe.problems import Problems, did_you_mean
from edgeft.recipe.scalars import BadScalar, check_text, resolve
from edgeft.recipe.tree import Node, RecipePath, put, scalars

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PART = re.compile(r"(?P<escape>\$\$\{)|\$\{(?P<body>[^{}]*)\}|(?P<open>\$\{)")


class _Unusable(Exception):
    """Why a reference cannot be filled in, and what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


def interpolate(tree: Node, environ: Mapping[str, str], problems: Problems) -> Node:
    """The tree with references filled in. A plain scalar is typed after that, a quoted one stays text."""
    declared = _declared(tree, problems)
    for path, node in scalars(tree):
        if path[0] == "env" or not isinstance(node.value, str) or "${" not in node.value:
            continue
        try:
            tree = put(tree, path, _fill(node, declared, environ))
        except _Unusable as error:
            problems.add(node.mark, path, error.what, error.hint)
    return tree


def references(text: str) -> tuple[str, ...]:
    """Names in the `${NAME}`s of a text that `interpolate` accepted."""
    return tuple(part["body"].partition(":-")[0] for part in _PART.finditer(text) if part["body"])


def escape(text: str) -> str:
    """Text that `interpolate` gives back as it is."""
    return text.replace("${", "$${")


def _declared(tree: Node, problems: Problems) -> tuple[str, ...]:
    node = tree.entries.get("env")
    names = []
    for index, item in enumerate(node.items if node else []):
        if isinstance(item.value, str) and NAME.match(item.value):
            names.append(item.value)
        else:
            path: RecipePath = ("env", index)
            problems.add(item.mark, path, "must be the name of an environment variable", "env: [MODEL, DATA]")
    return tuple(names)


def _fill(node: Node, declared: tuple[str, ...], environ: Mapping[str, str]) -> Node:
    text, base = str(node.value), node.base
    done, last = [], 0
    for part in _PART.finditer(text):
        done.append(text[last : part.start()])
        last = part.end()
        if part["escape"]:
            done.append("${")
            continue
        if part["open"]:
            raise _Unusable("'${' without a name and '}'", "write $${ for the two characters themselves")
        value, from_environment = _value(part["body"], declared, environ)
        if from_environment and part.start() == 0:
            base = Path.cwd()
        done.append(value)
    filled = "".join([*done, text[last:]])
    try:
        value_now = check_text(filled) if node.quoted else resolve(check_text(filled))
    except BadScalar as error:
        raise _Unusable(str(error), "check the environment variable") from None
    return replace(node, value=value_now, base=base)


def _value(body: str, declared: tuple[str, ...], environ: Mapping[str, str]) -> tuple[str, bool]:
    """(text, True when it came from the environment) of the inside of `${...}`."""
    name, separator, default = body.partition(":-")
    if not NAME.match(name):
        hint = "${NAME} or ${NAME:-default}; write $${ for the two characters themselves"
        raise _Unusable(f"'{name}' is not the name of an environment variable", hint)
    if name not in declared:
        hint = f"declare it: `env: [{', '.join([*declared, name])}]`, or write $${{{name}}} for that text"
        if declared and did_you_mean(name, declared, "").startswith("did you mean"):
            hint = did_you_mean(name, declared, "declared")
        raise _Unusable(f"${{{name}}} is not declared in `env:`", hint)
    found = environ.get(name, "")
    if found:
        return found, True
    if separator:
        return default, False
    state = "is empty" if name in environ else "is not set"
    raise _Unusable(f"the environment variable {name} {state}", f"{name}=... edgeft build ..., or ${{{name}:-default}}")
