"""pydantic's findings as places in the user's file, in words that need no knowledge of types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from edgeft.recipe.problems import Problems, did_you_mean, near
from edgeft.recipe.scalars import BadScalar, resolve
from edgeft.recipe.tree import Mark, Node, RecipePath, find

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MAPPING = "a mapping of keys"
EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": MAPPING,
    "model_type": MAPPING,
    "model_attributes_type": MAPPING,
    "none_required": "empty",
}
BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}
COUNTS = {
    "too_short": ("at least", "min_length", "item"),
    "too_long": ("at most", "max_length", "item"),
    "string_too_short": ("at least", "min_length", "character"),
    "string_too_long": ("at most", "max_length", "character"),
}
PATTERNS = {
    r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$": "letters, digits, '.', '_' and '-', at most 64, first a letter or digit",
    r"^[a-z][a-z0-9-]*$": "small letters, digits and '-', first a letter",
}


def explain(error: ValidationError, model: type[BaseModel], tree: Node, prefix: RecipePath, problems: Problems) -> None:
    """Add one problem for each finding. tree: the whole recipe; prefix: where `model` stands in it."""
    unions: dict[RecipePath, list[ErrorDetails]] = {}
    findings = error.errors(include_url=False)
    unknown = {finding["loc"] for finding in findings if finding["type"] == "extra_forbidden"}
    for finding in findings:
        loc = finding["loc"]
        path, node = find(tree, (*prefix, *loc))
        if finding["type"] == "missing":
            if any(key[:-1] == loc[:-1] and near(str(key[-1]), [str(loc[-1])]) for key in unknown):
                continue  # it is there, misspelt: the unknown key's own finding says so
            _missing(finding, model, tree, prefix, problems)
        elif len(path) < len(prefix) + len(loc) and finding["type"] != "extra_forbidden":
            # Where a value may be of several types, pydantic names the type it tried below the value's own path.
            unions.setdefault(path, []).append(finding)
        elif finding["type"] == "extra_forbidden":
            known = tuple(model_at(model, loc[:-1]).model_fields)
            hint = did_you_mean(str(loc[-1]), known, "known keys")
            problems.add(node.key or node.mark, path[:-1], f"unknown key '{loc[-1]}'", hint)
        elif finding["type"] == "too_short" and len(node.items) >= finding["ctx"]["min_length"]:
            continue  # pydantic counts the items that are valid; what is wrong with the others has its own finding
        else:
            what, hint = _sentence(finding, node)
            speaks = finding["type"] == "value_error" and not what.startswith("give exactly one")
            about = "" if speaks else _about(model, loc)
            problems.add(_place(finding, node), path, what, hint or _origin(finding, node) or about)
    for path, findings in unions.items():
        node = find(tree, path)[1]
        hint = _about(model, path[len(prefix) :])
        problems.add(node.mark, path, _either(findings, node), hint)


def _either(findings: Sequence[ErrorDetails], node: Node) -> str:
    """One sentence for a value that fits none of several types."""
    forms = []
    for finding in findings:
        expected = str(finding.get("ctx", {}).get("expected", "")).replace("'", "")
        forms.append(EXPECTED.get(finding["type"]) or expected)
    if not all(forms):
        return next(_sentence(finding, node)[0] for finding, form in zip(findings, forms, strict=True) if not form)
    return f"must be {' or '.join(dict.fromkeys(forms))}, got {describe(node)}"


def model_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> type[BaseModel]:
    """The model that the location lies in, as far as it is one."""
    for step in loc:
        if isinstance(step, str) and step in model.model_fields:
            model = _section(model.model_fields[step].annotation) or model
    return model


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section(part))), None)


def _missing(finding: ErrorDetails, model: type[BaseModel], tree: Node, prefix: RecipePath, problems: Problems) -> None:
    loc = finding["loc"]
    path, node = find(tree, (*prefix, *loc[:-1]))
    problems.add(node.key or node.mark, path, f"'{loc[-1]}' is missing", _about(model, loc))


def _place(finding: ErrorDetails, node: Node) -> Mark:
    """The value; the key for a rule over a whole section, and where no value stands."""
    whole = finding["type"] in ("value_error", "assertion_error") or node.value is None
    return node.key or node.mark if whole else node.mark


def _sentence(finding: ErrorDetails, node: Node) -> tuple[str, str]:
    """(what, hint) of one finding; the hint may be empty."""
    kind, context = finding["type"], finding.get("ctx", {})
    got = describe(node)
    if kind in EXPECTED and node.value is None and EXPECTED[kind] == MAPPING:
        return "no key stands below it", "indent its keys further, or remove the line to take the defaults"
    if kind in EXPECTED:
        return f"must be {EXPECTED[kind]}, got {got}", _type_hint(kind, node)
    if kind in BOUNDS:
        word, key = BOUNDS[kind]
        return f"must be {word} {context[key]:g}, got {got}", ""
    if kind in COUNTS:
        word, key, noun = COUNTS[kind]
        count = context[key]
        return f"needs {word} {count} {noun}{'' if count == 1 else 's'}", ""
    if kind == "literal_error":
        return _choice(str(context["expected"]), node)
    if kind == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        return f"may hold only {PATTERNS.get(pattern, f'what matches {pattern}')}: got {got}", ""
    if kind in ("value_error", "assertion_error"):
        return str(context.get("error", finding["msg"])), ""
    words = str(finding["msg"]).removeprefix("Input ").replace("should be", "must be")
    return f"{words[:1].lower()}{words[1:]}, got {got}", ""


def _choice(expected: str, node: Node) -> tuple[str, str]:
    """`'latency' or 'size'` as pydantic writes the allowed values."""
    words = expected.replace("'", "")
    known = words.replace(" or ", ", ").split(", ")
    meant = did_you_mean(str(node.value), known, "") if isinstance(node.value, str) else ""
    return f"must be {words}, got {describe(node)}", meant if meant.startswith("did you mean") else ""


def _type_hint(kind: str, node: Node) -> str:
    if node.value is None:
        return "give it a value, or remove the line to take the default"
    if kind == "string_type" and isinstance(node.value, (bool, int, float)):
        return "put it in quotes"
    if isinstance(node.value, str) and kind in ("int_type", "float_type", "bool_type"):
        try:
            is_text = isinstance(resolve(node.value), str)
        except BadScalar:
            is_text = True
        return "" if is_text else "remove the quotes"
    if kind in ("list_type", "tuple_type") and isinstance(node.value, str):
        return f"put it in brackets: [{node.value[:40]}]"
    return ""


def describe(node: Node) -> str:
    """The value as the recipe writes it, short."""
    value = node.value
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= 40 else f"'{value[:37]}...'"
    if isinstance(value, (int, float)):
        return str(value)
    return "a list" if isinstance(value, list) else "a mapping"


def _origin(finding: ErrorDetails, node: Node) -> str:
    """For a section that contradicts itself because part of it is inherited: how to remove that part."""
    if finding["type"] != "value_error":
        return ""
    for name, child in node.entries.items():
        source = child.mark.source
        if source is not node.mark.source and source.lines and child.value is not None:
            return f"'{name}' comes from {source.label}; `{name}: null` removes it"
    return ""


def _about(model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    """An example of the field, else its own description."""
    names = [step for step in loc if isinstance(step, str)]
    if not names:
        return ""
    section = model_at(model, loc[: loc.index(names[-1])])
    field = section.model_fields.get(names[-1])
    if field is not None and field.examples:
        return f"for instance `{names[-1]}: {field.examples[0]}`"
    return f"{names[-1]}: {field.description}" if field is not None and field.description else ""
