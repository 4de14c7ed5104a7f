"""Every mistake of the table gets exactly the answer that the table states."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.errors import Exit, RecipeError
from edgeft.recipe.load import load_recipe
from tests.recipe.conftest import Write
from tests.recipe.mistakes import GOOD, MISTAKES

JARGON = ("Input should", "pydantic", "validation error", "type=", "Traceback", "None", "dict", "str ", "NoneType")


def break_recipe(changes: list[tuple[str, str]]) -> str:
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


@pytest.mark.parametrize(
    ("changes", "where", "what", "hint"), [row[1:] for row in MISTAKES], ids=[r[0] for r in MISTAKES]
)
def test_mistake_is_explained(write: Write, changes: list[tuple[str, str]], where: str, what: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text=break_recipe(changes)), environ={})
    assert (caught.value.where, caught.value.what, caught.value.hint) == (where, what, hint)
    assert caught.value.exit_code == Exit.USAGE
    assert not [word for word in JARGON if word in caught.value.render()]


def test_the_table_is_long_enough() -> None:
    assert len({row[0] for row in MISTAKES}) == len(MISTAKES) >= 80


def test_good_recipe_loads(write: Write) -> None:
    assert load_recipe(write()).recipe.name == "demo"


def test_excerpt_points_at_the_value(write: Write) -> None:
    path = write(text=GOOD.replace("margin: 0.02", "margin: -1"))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    line, caret = caught.value.excerpt.splitlines()
    assert line == "  11 |   - {metric: accuracy, no_worse_than: source, margin: -1}"
    assert line[caret.index("^") :].startswith("-1}")


def test_excerpt_of_a_long_line_is_cut_around_the_mistake(write: Write) -> None:
    labels = ", ".join(f"label{number}" for number in range(200))
    path = write(text=GOOD.replace("path: train.csv", f"path: train.csv, labels: [{labels}], limit: 3"))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    line, caret = caught.value.excerpt.splitlines()
    assert len(line) < 120
    assert line[caret.index("^")] == "3"


def test_all_mistakes_are_named_and_many_are_counted(write: Write) -> None:
    keys = ", ".join(f"wrong{number}: 1" for number in range(20))
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text=GOOD.replace("batch: 1", keys)))
    assert caught.value.what == "unknown key 'wrong0'"
    assert "and 19 more:" in caught.value.hint
    assert "unknown key 'wrong8'" in caught.value.hint
    assert caught.value.hint.endswith("and 11 after these")


def test_excerpt_sends_no_escape_to_the_terminal(project: Path) -> None:
    (project / "demo.yaml").write_bytes(b"name: a\x1b[31mb\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe("demo.yaml")
    assert str(caught.value) == "demo.yaml:1:8: unprintable character U+001B"
    assert "\x1b" not in caught.value.render()
