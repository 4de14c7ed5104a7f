"""Hostile and odd YAML: limits hold, places are right, nothing but RecipeError comes out."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeft.errors import RecipeError
from edgeft.recipe.load import load_recipe
from edgeft.recipe.parse import MAX_BYTES, MAX_DEPTH, MAX_NODES, parse_yaml, read_yaml
from edgeft.recipe.tree import Source, plain
from tests.recipe.conftest import Write
from tests.recipe.mistakes import GOOD

BOMB_SECONDS = 5.0
"""A bomb must be stopped while reading; fully expanded, the ones below would take hours or all memory."""


def parse(text: str) -> object:
    return plain(parse_yaml(text, Source("x.yaml", Path(), tuple(text.splitlines()))))


def message(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("+12", 12),
        ("-3.5e-2", -0.035),
        (".5", 0.5),
        ("1e-05", 1e-05),
        ("~", None),
        ("Null", None),
        ("TRUE", True),
        ("tRuE", "tRuE"),
        ("1:30", "1:30"),
        ("'12'", "12"),
        ('"\\u00e9"', "é"),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    assert parse(f"a: {text}") == {"a": value}
    assert type(parse(f"[{text}]")[0]) is type(value)  # type: ignore[index]


def test_bomb_of_aliases_is_stopped_at_its_place() -> None:
    layers = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12))
    began = time.perf_counter()
    assert "x.yaml:5:" in message(f"a0: &a0 [x, x, x]\n{layers}")
    assert time.perf_counter() - began < BOMB_SECONDS


def test_alias_that_contains_itself() -> None:
    assert message("a: &x [*x]") == "x.yaml:1:8 a[0]: *x refers to nothing above it"


def test_alias_repeats_a_value() -> None:
    assert parse("a: &x {k: 1}\nb: *x") == {"a": {"k": 1}, "b": {"k": 1}}


@pytest.mark.parametrize("opener", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_stopped(opener: str) -> None:
    began = time.perf_counter()
    text = message(opener * 5000)
    assert f"nested more than {MAX_DEPTH} levels deep" in text or "a key must be text" in text
    assert time.perf_counter() - began < BOMB_SECONDS


def test_many_values_are_stopped() -> None:
    assert f"more than {MAX_NODES:,} values" in message("\n".join(f"k{i}: 1" for i in range(MAX_NODES)))


def test_large_file_is_refused_unread(project: Path) -> None:
    (project / "big.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(RecipeError, match="larger than 1 MiB"):
        load_recipe("big.yaml")


def test_device_file_is_refused() -> None:
    with pytest.raises(RecipeError, match="not a regular file"):
        read_yaml(Path("/dev/null"), "null")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "demo.yaml: the recipe is empty"),
        (b"# only a comment\n", "demo.yaml: the recipe is empty"),
        (b"- a\n- b\n", "demo.yaml:1:1: a recipe is a mapping of keys, this is a list"),
        (b"name\n", "demo.yaml:1:1: a recipe is a mapping of keys, this is a single value"),
        (b"name: caf\xe9\n", "demo.yaml:1: byte 0xe9 is not UTF-8"),
        (b"name: a\ntask: \x00\n", "demo.yaml:2:7: unprintable character U+0000"),
        (b"a: 1\n\x0c", "demo.yaml:2:1: unprintable character U+000C"),
        (b'name: "\\0"\n', "demo.yaml:1:7 name: the text holds the unprintable character U+0000"),
        (b'name: "\\ud800"\n', "demo.yaml:1:7 name: the text holds the unprintable character U+D800"),
        (b"name: 1e999\n", "demo.yaml:1:7 name: 1e999 is too large a number"),
        (b"name: " + b"9" * 5000, f"demo.yaml:1:7 name: {'9' * 40} is too large a number"),
        (b"[a]: 1\n", "demo.yaml:1:1: a key must be text, not a list or mapping"),
        (b"~: 1\n", "demo.yaml:1:1: a key must be text, this is nothing"),
        (b"%YAML 9.1\n---\na: 1\n", "demo.yaml:1:1: this is not valid YAML: "),
    ],
)
def test_bytes_that_are_no_recipe(project: Path, data: bytes, expected: str) -> None:
    (project / "demo.yaml").write_bytes(data)
    with pytest.raises(RecipeError) as caught:
        load_recipe("demo.yaml")
    assert str(caught.value).startswith(expected)


def test_byte_order_mark_and_windows_lines(project: Path) -> None:
    (project / "demo.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    loaded = load_recipe("demo.yaml")
    assert loaded.where(("serve", "length")) == "demo.yaml:4:27 serve.length"


@pytest.mark.parametrize("ref", ["nowhere.yaml", "model", "text/quickstart", "edgeft:text/nothing", "a\0b", "x" * 5000])
def test_reference_that_is_no_recipe(write: Write, ref: str) -> None:
    write()
    with pytest.raises(RecipeError) as caught:
        load_recipe(ref)
    assert caught.value.hint or "folder" in caught.value.what


def test_missing_file_names_a_near_one(write: Write) -> None:
    write()
    with pytest.raises(RecipeError) as caught:
        load_recipe("dmeo.yaml")
    assert caught.value.render() == "error: dmeo.yaml: no such file\nhint: did you mean 'demo.yaml'?"


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LINES = st.sampled_from(
    [
        *GOOD.splitlines(),
        "  - prune: {ratio: 1.4}",
        "a: &x [1]",
        "b: *x",
        "\t",
        "? ",
        "---",
        "...",
        "!!x y",
        "'",
        '"\\x"',
    ]
)


@FUZZ
@given(data=st.binary(max_size=200))
def test_any_bytes_give_an_error_or_a_recipe(project: Path, data: bytes) -> None:
    (project / "fuzz.yaml").write_bytes(data)
    with pytest.raises(RecipeError) as caught:
        load_recipe("fuzz.yaml")
    assert caught.value.render()


@FUZZ
@given(lines=st.lists(LINES, max_size=16), noise=st.text(max_size=12), place=st.integers(0, 400))
def test_any_mixture_of_lines_gives_an_error_or_a_recipe(
    project: Path, lines: list[str], noise: str, place: int
) -> None:
    text = "\n".join(lines)
    text = text[:place] + noise + text[place:]
    (project / "fuzz.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert load_recipe("fuzz.yaml", environ={}).recipe.name
    except RecipeError as error:
        assert error.where.startswith("fuzz.yaml")


@FUZZ
@given(
    noise=st.text(alphabet=":{}[],'\"&*!|>%@#-? \n\tabc0.$", min_size=1, max_size=6), place=st.integers(0, len(GOOD))
)
def test_a_good_recipe_with_noise_gives_an_error_or_a_recipe(project: Path, noise: str, place: int) -> None:
    (project / "fuzz.yaml").write_text(GOOD[:place] + noise + GOOD[place:], encoding="utf-8")
    try:
        assert load_recipe("fuzz.yaml", environ={}).recipe.targets
    except RecipeError as error:
        assert error.where.startswith("fuzz.yaml")
