"""Columns by which gates divide the cases travel from every kind of file into the splits, and change nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from edgeft.data.build import build_dataset, read_split
from edgeft.data.rows import MISSING
from edgeft.data.table import by_column, column_array
from edgeft.errors import EdgeftError, RecipeError
from edgeft.recipe.schema import Data

from .kit import ImageTask, TextTask, sentences, write_csv

SITES = ("north", "south", "", "west")


def build(out: Path, task: Any = TextTask, by: tuple[str, ...] = ("site",), **data: Any) -> dict[str, Any]:
    out.mkdir(parents=True)
    return dict(
        build_dataset(
            Data(**data), 7, task(), out, model_labels=None, trains=True, by=by,
            warn=lambda _: None, progress=lambda *_: None,
        )
    )  # fmt: skip


def rows_of(n: int) -> list[tuple[str, str, str]]:
    return [(text, label, SITES[i % 4]) for i, (text, label) in enumerate(sentences(n))]


def write(folder: Path, source: str) -> str:
    """400 rows with a site each, a quarter of them without, in a file of this kind."""
    names, rows = ("text", "label", "site"), rows_of(400)
    if source == "csv":
        return str(write_csv(folder / "rows.csv", rows, names))
    columns = {name: [row[at] or None for row in rows] for at, name in enumerate(names)}
    if source == "jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
        (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    elif source == "parquet":
        parquet.write_table(pa.table(columns), folder / "rows.parquet")
    elif source == "huggingface":
        from datasets import Dataset

        Dataset.from_dict(columns).save_to_disk(str(folder / "rows.huggingface"))
    else:
        (folder / "rows.py").write_text(f"def load():\n    return {columns!r}\n", encoding="utf-8")
        return str(folder / "rows.py:load")
    return str(folder / f"rows.{source}")


@pytest.mark.parametrize("source", ["csv", "jsonl", "parquet", "huggingface", "python"])
def test_every_row_keeps_its_own_value(tmp_path: Path, source: str) -> None:
    facts = build(tmp_path / "out", source=source, path=write(tmp_path, source))
    site_of = {text: site or MISSING for text, _, site in rows_of(400)}
    for name, about in facts["splits"].items():
        rows = read_split(tmp_path / "out" / f"{name}.parquet")
        sites = column_array(rows, by_column("site")).tolist()
        assert sites == [site_of[text] for text in rows.column("text").to_pylist()]
        assert {value: part["n"] for value, part in about["by"]["site"].items()} == {
            value: sites.count(value) for value in sorted(set(sites))
        }
    gate = facts["splits"]["gate"]["by"]["site"]
    assert set(gate) == {"north", "south", "west", MISSING}
    assert sum(gate["north"]["classes"].values()) == gate["north"]["n"] == gate["north"]["units"]


def test_the_split_and_its_digest_are_the_same_with_and_without(tmp_path: Path) -> None:
    """Looking at the same gate set in parts is another opening of the same set, and nothing is trained again."""
    path = write(tmp_path, "csv")
    plain, divided = (
        build(tmp_path / name, by=by, source="csv", path=path) for name, by in (("a", ()), ("b", ("site",)))
    )
    for name, about in plain["splits"].items():
        assert about == {key: value for key, value in divided["splits"][name].items() if key not in ("by", "columns")}


def test_images_take_it_from_their_table_of_cases(tmp_path: Path) -> None:
    from PIL import Image

    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    lines = ["image,site"]
    for number in range(60):
        Image.new("RGB", (8, 6), (number, 10, 10)).save(tmp_path / "images" / f"{number}.png")
        mask = Image.new("L", (8, 6), 0)
        mask.putpixel((3, 3), 1)
        mask.save(tmp_path / "masks" / f"{number}.png")
        lines.append(f"{number},{SITES[number % 4]}")
    (tmp_path / "cases.csv").write_text("\n".join(lines), encoding="utf-8")
    build(tmp_path / "out", ImageTask, source="image-masks", path=str(tmp_path), labels=("rest", "part"))
    rows = read_split(tmp_path / "out/gate.parquet")
    numbers = [int(Path(name).stem) for name in rows.column("id").to_pylist()]
    assert column_array(rows, by_column("site")).tolist() == [SITES[number % 4] or MISSING for number in numbers]


@pytest.mark.parametrize("source", ["csv", "jsonl", "parquet", "huggingface", "python"])
def test_a_column_that_is_not_there_is_told(tmp_path: Path, source: str) -> None:
    with pytest.raises(RecipeError, match="no column 'sight'") as caught:
        build(tmp_path / "out", by=("sight",), source=source, path=write(tmp_path, source))
    assert "site" in caught.value.hint and "gates[].by" in caught.value.hint


def test_measurements_are_no_subgroups(tmp_path: Path) -> None:
    rows = [(text, label, i / 7) for i, (text, label) in enumerate(sentences(40), 1)]
    table = {name: [row[at] for row in rows] for at, name in enumerate(("text", "label", "age"))}
    parquet.write_table(pa.table(table), tmp_path / "rows.parquet")
    with pytest.raises(RecipeError, match="column 'age' holds double values"):
        build(tmp_path / "out", by=("age",), source="parquet", path=str(tmp_path / "rows.parquet"))


def class_folder(root: Path, each: int = 30) -> Path:
    """root/<class>/NNN.png of random pixels; the same file names in both classes."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(3)
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for number in range(each):
            Image.fromarray(draw.integers(0, 255, (8, 8, 3), np.uint8)).save(root / label / f"{number:03d}.png")
    return root


def test_image_folders_have_a_table_of_cases(tmp_path: Path) -> None:
    root = class_folder(tmp_path / "photos")
    lines = [f"{label}/{n:03d}.png,{SITES[n % 2]},p{n // 2}" for label in ("cat", "dog") for n in range(30)]
    (root / "cases.csv").write_text("\n".join(["image,site,owner", *lines]) + "\n")
    facts = build(tmp_path / "out", task=ImageTask, source="image-folder", path=str(root), group="owner")
    assert facts["unit"] == "owner"
    for name in facts["splits"]:
        for row in read_split(tmp_path / "out" / f"{name}.parquet").to_pylist():
            number = int(Path(row["id"]).stem)
            assert (row[by_column("site")], row["group"]) == (SITES[number % 2], f"p{number // 2}")


def test_a_name_of_two_images_is_not_guessed(tmp_path: Path) -> None:
    root = class_folder(tmp_path / "photos")
    (root / "cases.csv").write_text("image,site\n" + "".join(f"{n:03d}.png,north\n" for n in range(30)))
    with pytest.raises(EdgeftError, match=r"'000\.png' is the name of 2 images") as caught:
        build(tmp_path / "out", task=ImageTask, source="image-folder", path=str(root))
    assert "cat/000.png" in caught.value.hint


def test_without_a_table_the_column_is_refused(tmp_path: Path) -> None:
    root = class_folder(tmp_path / "photos")
    with pytest.raises(RecipeError, match="no column 'site'"):
        build(tmp_path / "out", task=ImageTask, source="image-folder", path=str(root))


@pytest.mark.parametrize("compare", [True, False])
def test_equal_pixels_in_files_that_differ(tmp_path: Path, compare: bool) -> None:
    """The twin is another file of the same picture: found when asked for."""
    from PIL import Image

    root = class_folder(tmp_path / "photos")
    with Image.open(root / "cat/003.png") as image:
        image.save(root / "cat/twin.png", compress_level=0)
    assert (root / "cat/twin.png").read_bytes() != (root / "cat/003.png").read_bytes()
    options = {"compare_pixels": compare}
    facts = build(tmp_path / "out", task=ImageTask, by=(), source="image-folder", path=str(root), options=options)
    assert facts["checks"].get("repeated_images") == (1 if compare else None)
