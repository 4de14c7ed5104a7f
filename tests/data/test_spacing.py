"""The column `spacing`: read strictly, kept in the splits, part of what a split is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeft.data.labels import mask_labels
from edgeft.data.rows import Rows, to_rows
from edgeft.data.source import source_for
from edgeft.data.spacing import count_stated, read_spacing
from edgeft.data.table import read_split, write_split
from edgeft.errors import EdgeftError
from tests.data.test_image_masks import LABELS, cases, spec_of

__all__ = ["cases"]


def read(root: Path, **more: Any) -> Rows:
    spec = spec_of(root, **more)
    rows = to_rows(source_for(spec).read(spec, None, ("image", "label"), print), spec, "image", str(root))
    return replace(rows, labels=mask_labels(rows, spec, None)[1])


@pytest.mark.parametrize(("text", "found"), [("0.7 0.8", (0.7, 0.8)), (" 3  0.7 0.8", (3.0, 0.7, 0.8))])
def test_two_numbers_or_three(text: str, found: tuple[float, ...]) -> None:
    assert read_spacing(text) == found


@pytest.mark.parametrize("text", ["", "0.7", "1 1 1 1", "0.7 0", "-1 1", "nan 1", "inf 1", "0.7, 0.7", "1e9 1", "a b"])
def test_what_is_no_spacing(text: str) -> None:
    with pytest.raises(ValueError, match="spacing"):
        read_spacing(text)


def test_one_for_all_images_or_one_each(cases: Path) -> None:
    assert read(cases).spacing is None and count_stated(None) == 0
    assert read(cases, options={"spacing": [0.7, 0.8]}).spacing == ["0.7 0.8"] * 3
    (cases / "cases.csv").write_text("image,spacing\na,0.5 0.5\nb,0.25 0.25\nc,3 1 1\n")
    rows = read(cases)
    assert rows.spacing == ["0.5 0.5", "0.25 0.25", "3 1 1"]
    assert count_stated(rows.spacing) == 2, "not every case has the thickness of its slice"


def test_whether_a_source_says_it_is_known_before_reading(cases: Path) -> None:
    def says(**more: Any) -> bool | None:
        spec = spec_of(cases, **more)
        return source_for(spec).says_spacing(spec)

    assert says() is False and says(options={"spacing": [1, 1]}) is True
    (cases / "cases.csv").write_text("image,spacing\na,1 1\n")
    assert says() is True
    (cases / "cases.csv").write_bytes(b"\xff\xfe broken")
    assert says() is False


@pytest.mark.parametrize(
    ("table", "options", "says"),
    [
        ("image,spacing\na,1 1\nb,\nc,1 1\n", {}, "images/b.jpg: the case has no spacing, others have one"),
        ("image,spacing\na,1 1\nb,0 1\nc,1 1\n", {}, "images/b.jpg: a spacing of '0 1' mm: each must be above 0"),
        ("image,spacing\na,1 1\nb,1 1\nc,1 1\n", {"spacing": [1, 1]}, "the spacing is stated twice"),
        (None, {"spacing": [1, 0]}, "each must be above 0"),
    ],
)
def test_wrong_ones_are_named(cases: Path, table: str | None, options: dict[str, Any], says: str) -> None:
    if table:
        (cases / "cases.csv").write_text(table)
    with pytest.raises(EdgeftError) as caught:
        read(cases, options=options)
    assert says in caught.value.what


def test_a_split_keeps_it_and_is_another_one_with_it(cases: Path, tmp_path: Path) -> None:
    plain = write_split(read(cases), LABELS, tmp_path / "plain.parquet")
    spaced = write_split(read(cases, options={"spacing": [0.7, 0.8]}), LABELS, tmp_path / "spaced.parquet")
    wider = write_split(read(cases, options={"spacing": [0.7, 0.9]}), LABELS, tmp_path / "wider.parquet")
    assert len({plain["digest"], spaced["digest"], wider["digest"]}) == 3
    assert read_split(tmp_path / "spaced.parquet").column("spacing").to_pylist() == ["0.7 0.8"] * 3
    assert "spacing" not in read_split(tmp_path / "plain.parquet").column_names
