"""The user's own function as a source, and the loader behind it."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pytest

from edgeft.canonical import digest_file
from edgeft.data.source import fingerprint, source_for
from edgeft.errors import EdgeftError, RecipeError, StepError
from edgeft.recipe.schema import Data
from edgeft.usercode import code_digest, load_function


def read(code: str, **options: object) -> pa.Table:
    spec = Data(source="python", path=code, options=options)
    return source_for(spec).read(spec, None, ("text", "label"), lambda _: None)


def refusal(code: str, **options: object) -> EdgeftError:
    with pytest.raises(EdgeftError) as caught:
        read(code, **options)
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        "return [{'text': 'a', 'label': 1}, {'text': 'b', 'label': 2}]",
        "return {'text': ['a', 'b'], 'label': [1, 2]}",
        "yield {'text': 'a', 'label': 1}\n    yield {'text': 'b', 'label': 2}",
        "import pyarrow\n    return pyarrow.table({'text': ['a', 'b'], 'label': [1, 2]})",
        "import pandas\n    return pandas.DataFrame({'text': ['a', 'b'], 'label': [1, 2]})",
    ],
)
def test_every_form_of_rows(tmp_path: Path, body: str) -> None:
    file = tmp_path / "rows.py"
    file.write_text(f"def load():\n    {body}\n")
    assert read(f"{file}:load").select(["text", "label"]).to_pydict() == {"text": ["a", "b"], "label": [1, 2]}


def test_options_reach_the_function_and_modules_beside_it_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "words_of_mine.py").write_text("WORDS = ['a', 'b', 'c']\n")
    file = tmp_path / "rows.py"
    file.write_text(
        "from words_of_mine import WORDS\n\ndef load(count):\n    return [{'text': w, 'label': 'x'} for w in WORDS[:count]]\n"
    )
    before = list(sys.path)
    assert read(f"{file}:load", count=2).num_rows == 2
    assert sys.path == before
    assert not list(tmp_path.glob("__pycache__/rows*"))


def test_an_exception_is_reported_at_the_users_own_line(tmp_path: Path) -> None:
    file = tmp_path / "rows.py"
    file.write_text(
        "import json\n\ndef load():\n    return parse('{')\n\ndef parse(text):\n    return json.loads(text)\n"
    )
    error = refusal(f"{file}:load")
    assert isinstance(error, StepError)
    assert error.where == f"{file}:7"
    assert error.what.startswith("JSONDecodeError: ")
    assert error.excerpt == "    return json.loads(text)"


def test_a_generator_that_fails_half_way_and_an_exit(tmp_path: Path) -> None:
    file = tmp_path / "rows.py"
    file.write_text("def load():\n    yield {'text': 'a', 'label': 1}\n    raise KeyError('gone')\n")
    assert refusal(f"{file}:load").where == f"{file}:3"
    file.write_text("import sys\n\ndef load():\n    sys.exit(0)\n")
    assert refusal(f"{file}:load").what == "SystemExit: 0"


def test_a_file_that_fails_is_not_left_half_imported(tmp_path: Path) -> None:
    file = tmp_path / "rows.py"
    file.write_text("x = 1\ny = 1 / 0\n")
    before = set(sys.modules)
    assert refusal(f"{file}:load").where == f"{file}:2"
    assert set(sys.modules) == before
    file.write_text("def load(:\n")
    assert refusal(f"{file}:load").where == f"{file}:1"


@pytest.mark.parametrize("code", ["rows.py", "rows.txt:load", "rows.py:no-name", ":load"])
def test_a_malformed_spec(code: str) -> None:
    error = refusal(code)
    assert isinstance(error, RecipeError)
    assert "is not of the form file.py:function" in error.what


def test_a_missing_function_names_the_near_one(tmp_path: Path) -> None:
    file = tmp_path / "rows.py"
    file.write_text("def load_rows():\n    return []\n")
    assert refusal(f"{file}:load_row").hint == "did you mean 'load_rows'?"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("'text'", "returned a str"),
        ("3", "returned a int"),
        ("[1]", "is a int"),
        ("{'text': ['a'], 'label': []}", "returned what is no table"),
        ("{'text': [], 'label': []}", "returned no rows"),
        ("[{'text': 'a'}]", "no column 'label'"),
    ],
)
def test_what_is_no_table(tmp_path: Path, value: str, what: str) -> None:
    file = tmp_path / "rows.py"
    file.write_text(f"def load():\n    return {value}\n")
    assert what in refusal(f"{file}:load").what


def test_keys_that_only_later_rows_have_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "rows.py"
    file.write_text("def load():\n    return [{'text': 'a'}, {'text': 'b', 'label': 'x'}]\n")
    assert read(f"{file}:load").column("label").to_pylist() == [None, "x"]


def test_fingerprint_follows_code_helpers_options_and_named_files(tmp_path: Path) -> None:
    file, helper, table = tmp_path / "rows.py", tmp_path / "helper_of_rows.py", tmp_path / "t.txt"
    file.write_text("import helper_of_rows\n\ndef load(n=1):\n    raise RuntimeError('fingerprints run nothing')\n")
    helper.write_text("A = 1\n")
    table.write_text("1")

    def of(**options: object) -> object:
        return fingerprint(Data(source="python", path=f"{file}:load", options=options), digest_file)

    seen = [of(), of(n=2), of(reads=["t.txt"])]
    table.write_text("2")
    seen.append(of(reads=["t.txt"]))
    helper.write_text("A = 2\n")
    seen.append(of())
    file.write_text(file.read_text() + "\n")
    seen.append(of())
    assert len({str(found) for found in seen}) == len(seen)


def test_files_it_reads_must_exist(tmp_path: Path) -> None:
    file = tmp_path / "rows.py"
    file.write_text("def load():\n    return []\n")
    assert "no file or folder" in refusal(f"{file}:load", reads=["gone.csv"]).what


def test_code_digest_survives_a_cycle_of_imports(tmp_path: Path) -> None:
    (tmp_path / "one_of_two.py").write_text("import two_of_two\n\ndef f():\n    return 1\n")
    (tmp_path / "two_of_two.py").write_text("import one_of_two\n")
    spec = f"{tmp_path / 'one_of_two.py'}:f"
    assert code_digest(spec, digest_file) == code_digest(spec, digest_file)
    (tmp_path / "one_of_two.py").write_text("def f():\n    return 1\n")
    assert load_function(spec)() == 1
