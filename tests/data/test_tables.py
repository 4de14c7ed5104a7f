"""CSV, JSON lines and Parquet: what is read, and what each malformed file is answered with."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from edgeft.canonical import digest_file
from edgeft.data.source import Meter, fingerprint, source_for
from edgeft.errors import EdgeftError, RecipeError, StepError
from edgeft.recipe.schema import Data

from .kit import write_csv


def read(path: Path, source: str = "csv", columns: tuple[str, ...] = ("text", "label"), **options: object) -> pa.Table:
    spec = Data(source=source, path=str(path), options=options)
    return source_for(spec).read(spec, None, columns, lambda _: None)


def refusal(path: Path, source: str = "csv", **options: object) -> EdgeftError:
    with pytest.raises(EdgeftError) as caught:
        read(path, source, **options)
    return caught.value


def test_csv_keeps_every_value_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('\ufefftext,x,label\r\n"a, ""b""\nc",1,01\r\nNA,2,null\r\n\r\nä😀,3,1e3\r\n'.encode())
    table = read(path)
    assert table.to_pydict() == {"text": ['a, "b"\nc', "NA", "ä😀"], "label": ["01", "null", "1e3"]}


def test_csv_with_delimiter_and_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes("text\tlabel\nÄrger\tja\n".encode("utf-16"))
    assert read(path, delimiter="\t", encoding="utf-16").to_pylist() == [{"text": "Ärger", "label": "ja"}]


def test_folder_of_files_is_read_in_order(tmp_path: Path) -> None:
    write_csv(tmp_path / "2.csv", [("c", "x")])
    write_csv(tmp_path / "1.csv", [("a", "x"), ("b", "y")])
    assert read(tmp_path).column("text").to_pylist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        (b"text,label\na,1\nb,2,3\n", 3, "3 values, the header has 2 columns"),
        (b'text,label\n"a\nb",1\nc\n', 4, "1 values, the header has 2 columns"),
        (b'text,label\na,1\n"abc,1\nd,2\n', 3, "unexpected end of data"),
        (b"text,label\na,1\nb\xff,2\n", 3, "byte 0xff at position 2 is not utf-8"),
        (b"text,label\na,1\nb\x00,2\n", 3, "a NUL byte"),
        (b"text,text\na,1\n", 1, "two columns are called 'text'"),
        (b"text,label\n", 1, "only a header, no rows"),
        (b"\n\n", 1, "the first line is blank"),
    ],
)
def test_malformed_csv_is_named_by_file_and_line(tmp_path: Path, content: bytes, line: int, what: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    error = refusal(path)
    assert isinstance(error, StepError)
    assert error.where == f"{path}:{line}"
    assert error.what == what


def test_empty_csv(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.touch()
    assert refusal(path).what == "the file is empty"


def test_utf16_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes("text,label\na,1\n".encode("utf-16"))
    assert "data.options.encoding: utf-16" in refusal(path).hint


def test_unknown_encoding_is_a_recipe_error(tmp_path: Path) -> None:
    error = refusal(write_csv(tmp_path / "a.csv", [("a", "b")]), encoding="utf-9")
    assert (error.where, error.what) == ("data.options.encoding", "no encoding is called 'utf-9'")


@pytest.mark.parametrize("source", ["csv", "jsonl", "parquet"])
def test_missing_column_names_the_near_one(tmp_path: Path, source: str) -> None:
    path = tmp_path / f"a.{source}"
    if source == "csv":
        write_csv(path, [("a", "b")], ("Text", "label"))
    elif source == "jsonl":
        path.write_text('{"Text": "a", "label": "b"}\n')
    else:
        parquet.write_table(pa.table({"Text": ["a"], "label": ["b"]}), path)
    error = refusal(path, source)
    assert isinstance(error, RecipeError)
    assert error.what == "no column 'text'"
    assert error.hint.startswith("did you mean 'Text'? columns: Text, label")


def test_jsonl_reads_what_is_asked_and_null_for_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"text": "a", "label": 1, "more": [1]}\n\n{"label": 2}\n', encoding="utf-8")
    assert read(path, "jsonl").to_pydict() == {"text": ["a", None], "label": [1, 2]}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"text": "a"', "not JSON: Expecting ',' delimiter"),
        ('["a"]', "a list, an object is expected"),
        ('{"text": NaN}', "NaN is no JSON number"),
        ('{"text": "a", "text": "b"}', "the key 'text' stands twice"),
        ('{"text": {"a": 1}}', "column 'text' holds a dict, text or a number is expected"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_malformed_jsonl_is_named_by_line(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine", "label": "x"}\n' + line + "\n")
    error = refusal(path, "jsonl")
    assert error.where.startswith(f"{path}:2")
    assert error.what == what


def test_jsonl_of_mixed_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": 3}\n')
    assert refusal(path, "jsonl").what == "column 'label' mixes kinds: int, str"


def test_jsonl_that_is_not_utf8_and_one_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "\xe4"}\n')
    assert refusal(path, "jsonl").what == "byte 11 of the line is not UTF-8"
    path.write_bytes(b"\n\n")
    assert refusal(path, "jsonl").what == "the file holds no rows"


def test_parquet_that_is_none_and_one_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"not parquet at all")
    assert "is it a Parquet file" in refusal(path, "parquet").hint
    parquet.write_table(pa.table({"text": ["a"] * 1000, "label": ["b"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-20])
    assert isinstance(refusal(path, "parquet"), StepError)


def test_meter_stops_at_its_limits() -> None:
    meter = Meter("x.csv", max_rows=10, max_bytes=100)
    meter.add(10, 100)
    with pytest.raises(StepError, match="more than 10 rows"):
        meter.add(1)
    with pytest.raises(StepError, match="GB once read"):
        Meter("x.csv", max_bytes=100).add(1, 101)


def test_unknown_option_and_wrong_value(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [("a", "b")])
    error = refusal(path, delimeter=";")
    assert (error.where, error.what) == ("data.options.delimeter", "source 'csv' has no option 'delimeter'")
    assert error.hint.startswith("did you mean 'delimiter'?")
    assert refusal(path, delimiter=";;").where == "data.options.delimiter"


def test_missing_file_names_the_near_one(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [("a", "b")])
    error = refusal(tmp_path / "trian.csv")
    assert error.where == "data.path"
    assert error.hint.startswith("did you mean 'train.csv'?")


def test_fingerprint_follows_content_and_options_but_not_place(tmp_path: Path) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    write_csv(one, [("a", "b")])
    write_csv(two, [("a", "b")])

    def of(path: Path, **options: str) -> str:
        found = fingerprint(Data(source="csv", path=str(path), options=options), digest_file)
        assert str(tmp_path) not in json.dumps(found)
        return json.dumps(found)

    assert of(one) == of(two)
    assert of(one) != of(one, delimiter=";")
    write_csv(two, [("a", "c")])
    assert of(one) != of(two)
