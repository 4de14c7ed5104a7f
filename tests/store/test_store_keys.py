"""Keys depend on content alone, and a change is explained exactly when the key differs."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edgeft.store import explain_change, step_key

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text(max_size=6)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
MATERIALS = st.dictionaries(st.text(max_size=4), VALUES, max_size=4)


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(list(value))}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(MATERIALS)
def test_the_order_of_keys_does_not_matter(material: dict[str, Any]) -> None:
    assert step_key(material) == step_key(reordered(material))
    assert explain_change(material, reordered(material)) == "unchanged"


@given(MATERIALS, MATERIALS)
def test_unchanged_is_said_exactly_when_the_keys_are_equal(before: dict[str, Any], now: dict[str, Any]) -> None:
    assert (explain_change(before, now) == "unchanged") == (step_key(before) == step_key(now))


@given(MATERIALS, MATERIALS)
def test_an_explanation_is_one_printable_line(before: dict[str, Any], now: dict[str, Any]) -> None:
    text = explain_change(before, now)
    assert "\n" not in text
    assert text.count(" -> ") + text.count(" added (") + text.count(" removed (") >= (text != "unchanged")


def test_the_key_is_the_documented_one() -> None:
    # SHA-256 of {"a":1}, by any other tool.
    assert step_key({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


def test_explanations_read_as_documented() -> None:
    before = {"config": {"rank": 16, "alpha": 32}, "tools": {"peft": "0.21.1"}, "inputs": {"data": "a" * 64}}
    assert explain_change(None, before) == "new"
    now = {"config": {"rank": 8, "alpha": 32}, "tools": {"peft": "0.21.2"}, "inputs": {"data": "a" * 64}}
    assert explain_change(before, now) == "changed: config.rank 16 -> 8, tools.peft 0.21.1 -> 0.21.2"
    other = {**before, "inputs": {"data": "b" * 64}}
    assert explain_change(before, other) == "changed: inputs.data aaaaaaaa… -> bbbbbbbb…"


def test_added_and_removed_parts_and_lists_are_named() -> None:
    assert explain_change({"a": 1}, {"b": 2}) == "changed: a removed (was 1), b added (2)"
    assert explain_change({"layers": [1, 2]}, {"layers": [1, 3]}) == "changed: layers[1] 2 -> 3"
    assert explain_change({"x": 1}, {"x": 1.0}) == "changed: x 1 -> 1.0"
    assert explain_change({"x": 1}, {"x": True}) == "changed: x 1 -> true"


def test_at_most_three_parts_are_named() -> None:
    before, now = dict.fromkeys("abcde", 0), dict.fromkeys("abcde", 1)
    assert explain_change(before, now) == "changed: a 0 -> 1, b 0 -> 1, c 0 -> 1 and 2 more"


def test_control_characters_of_a_recipe_do_not_reach_the_terminal() -> None:
    assert "\x1b" not in explain_change({"text": "a"}, {"text": "\x1b[2Jb"})
