"""The dataset step: the folder it writes, the splits it accepts and completes, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from edgeft.canonical import digest_tree
from edgeft.data.build import read_split
from edgeft.errors import EdgeftError, RecipeError, StepError, StoreError

from .kit import ImageTask, build, sentences, write_csv

SPLITS = ("train", "validation", "calibration", "search", "gate")


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, Any]:
    return {"source": "csv", "path": str(write_csv(tmp_path / "rows.csv", sentences(300)))}


def refusal(out: Path, **data: Any) -> EdgeftError:
    with pytest.raises(EdgeftError) as caught:
        build(out, **data)
    return caught.value


def test_folder_and_facts(tmp_path: Path, plain: dict[str, Any]) -> None:
    facts = build(tmp_path / "out", **plain)
    assert json.loads((tmp_path / "out" / "dataset.json").read_text()) == facts
    assert facts["labels"] == ["blue", "green", "red"]
    assert facts["unit"] == "row"
    assert str(tmp_path) not in (tmp_path / "out" / "dataset.json").read_text()
    ids: set[str] = set()
    for name in SPLITS:
        table = read_split(tmp_path / "out" / f"{name}.parquet")
        assert [(field.name, str(field.type)) for field in table.schema] == [
            ("id", "string"), ("text", "string"), ("label", "int64"), ("group", "string"), ("unit", "string"),
        ]  # fmt: skip
        assert table.num_rows == facts["splits"][name]["n"] == sum(facts["splits"][name]["classes"].values())
        for row in table.to_pylist():
            assert row["text"].endswith(facts["labels"][row["label"]])
            assert row["id"] not in ids
            ids.add(row["id"])
    assert len(ids) == 300


def test_a_split_of_one_class_decides_nothing(tmp_path: Path) -> None:
    rows = [
        (text, "red" if SPLITS[index % 5] == "gate" else label, SPLITS[index % 5])
        for index, (text, label) in enumerate(sentences(300))
    ]
    path = write_csv(tmp_path / "rows.csv", rows, ("text", "label", "split"))
    error = refusal(tmp_path / "out", source="csv", path=str(path), split="split")
    assert "every row in gate has the label 'red'" in error.what


def test_a_label_that_calibration_or_validation_lacks_is_a_warning(tmp_path: Path) -> None:
    """Ranges measured without a class may clip it; only train must have all of them."""
    rows = [(text, label, SPLITS[index % 5]) for index, (text, label) in enumerate(sentences(300))]
    lacking = {"calibration": "green", "validation": "blue"}
    rows = [row for row in rows if lacking.get(row[2]) != row[1]]
    path = write_csv(tmp_path / "rows.csv", rows, ("text", "label", "split"))
    warnings: list[str] = []
    facts = build(tmp_path / "out", warnings, source="csv", path=str(path), split="split")
    expected = ["no row in validation has the label 'blue'", "no row in calibration has the label 'green'"]
    assert sorted(warnings) == sorted(facts["warnings"]) == sorted(expected)


def test_same_bytes_in_another_process_and_for_another_row_order(tmp_path: Path, plain: dict[str, Any]) -> None:
    facts = build(tmp_path / "one", **plain)
    code = (
        "import json, sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[3])\nfrom tests.data.kit import build\n"
        "build(Path(sys.argv[2]), **json.loads(sys.argv[1]))"
    )
    root = str(Path(__file__).parents[2])
    for place, seed in enumerate(("1", "2")):
        out = tmp_path / f"other{place}"
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, json.dumps(plain), str(out), root], env=environment, check=True)
        assert digest_tree(out) == digest_tree(tmp_path / "one")
    shuffled = write_csv(tmp_path / "shuffled.csv", sorted(sentences(300), key=lambda row: row[0][::-1]))
    again = build(tmp_path / "shuffled", source="csv", path=str(shuffled))
    for name in SPLITS:
        assert again["splits"][name]["digest"] == facts["splits"][name]["digest"]
        texts = [
            read_split(tmp_path / out / f"{name}.parquet").column("text").to_pylist() for out in ("one", "shuffled")
        ]
        assert texts[0] == texts[1]


def test_digest_follows_text_label_and_group(tmp_path: Path) -> None:
    rows = [(text, label, f"g{place // 2}") for place, (text, label) in enumerate(sentences(200))]

    def digests(rows: list[tuple[str, str, str]]) -> set[str]:
        path = write_csv(tmp_path / "rows.csv", rows, ("text", "label", "group"))
        facts = build(tmp_path / "out", source="csv", path=str(path), group="group")
        return {split["digest"] for split in facts["splits"].values()}

    first = digests(rows)
    assert len(first) == 5
    assert len(first - digests([(rows[0][0] + "!", *rows[0][1:]), *rows[1:]])) >= 1
    assert len(first - digests([(rows[0][0], "blue", rows[0][2]), *rows[1:]])) >= 1


def test_groups_are_whole_and_counted_as_units(tmp_path: Path) -> None:
    rows = [(text, label, place // 4, place // 8) for place, (text, label) in enumerate(sentences(400))]
    path = write_csv(tmp_path / "rows.csv", rows, ("text", "label", "page", "book"))
    facts = build(tmp_path / "out", source="csv", path=str(path), group="book", unit="page")
    assert facts["unit"] == "page"
    homes: dict[str, str] = {}
    for name in SPLITS:
        table = read_split(tmp_path / "out" / f"{name}.parquet")
        assert facts["splits"][name]["groups"] == len(set(table.column("group").to_pylist()))
        assert facts["splits"][name]["units"] == len(set(table.column("unit").to_pylist()))
        assert all(homes.setdefault(group, name) == name for group in table.column("group").to_pylist())
    assert build(tmp_path / "rows", source="csv", path=str(path), group="book", unit="row")["unit"] == "row"
    assert build(tmp_path / "default", source="csv", path=str(path), group="book")["unit"] == "book"


def test_equal_texts_stay_in_one_split(tmp_path: Path) -> None:
    rows = [row for text, label in sentences(100) for row in ((text, label), (text.upper() + "  ", label))]
    facts = build(tmp_path / "out", source="csv", path=str(write_csv(tmp_path / "a.csv", rows)))
    assert facts["checks"] == {"conflicting_labels": 0, "repeated_texts": 100, "texts_in_two_splits": 0}


def test_conflicting_labels_are_counted(tmp_path: Path) -> None:
    rows = [*sentences(200), ("sentence number 0 about red", "blue")]
    warnings: list[str] = []
    facts = build(tmp_path / "out", warnings, source="csv", path=str(write_csv(tmp_path / "a.csv", rows)))
    assert facts["checks"]["conflicting_labels"] == 1
    assert any(
        "1 texts have more than one label (for instance row 1 'red', row 201 'blue')" in text for text in warnings
    )
    assert facts["warnings"] == warnings


def test_limit_takes_whole_groups(tmp_path: Path) -> None:
    rows = [(text, label, place // 4) for place, (text, label) in enumerate(sentences(400))]
    path = write_csv(tmp_path / "rows.csv", rows, ("text", "label", "book"))
    facts = build(tmp_path / "out", source="csv", path=str(path), group="book", limit=201)
    assert sum(split["n"] for split in facts["splits"].values()) == 200
    other = build(tmp_path / "seed", source="csv", path=str(path), group="book", limit=201, seed=8)
    assert other["splits"]["gate"]["digest"] != facts["splits"]["gate"]["digest"]


def test_without_training_its_share_goes_to_the_others(tmp_path: Path, plain: dict[str, Any]) -> None:
    warnings: list[str] = []
    facts = build(tmp_path / "out", warnings, **plain, trains=False)
    assert set(facts["splits"]) == {"calibration", "search", "gate"}
    shares = facts["division"]["shares"]
    assert shares["gate"] / shares["calibration"] == pytest.approx(6, rel=1e-6)
    assert sum(split["n"] for split in facts["splits"].values()) == 300
    assert any("states an order of labels; assumed: blue, green, red" in text for text in warnings)


def column(tmp_path: Path, counts: dict[str, int], **options: Any) -> tuple[dict[str, Any], list[str]]:
    rows = sentences(sum(counts.values()))
    names = [name for name, n in counts.items() for _ in range(n)]
    path = write_csv(
        tmp_path / "a.csv", [(*row, name) for row, name in zip(rows, names, strict=True)], ("text", "label", "part")
    )
    warnings: list[str] = []
    return build(tmp_path / "out", warnings, source="csv", path=str(path), split="part", **options), warnings


def test_split_column_with_usual_names(tmp_path: Path) -> None:
    counts = {"Train": 90, "dev": 30, "calibration": 15, "search": 30, "TEST": 60}
    facts, warnings = column(tmp_path, counts)
    sizes = {name: split["n"] for name, split in facts["splits"].items()}
    assert sizes == {"train": 90, "validation": 30, "calibration": 15, "search": 30, "gate": 60}
    assert warnings == []


def test_missing_splits_are_carved_out_of_train_and_said(tmp_path: Path) -> None:
    facts, warnings = column(tmp_path, {"train": 220, "test": 60})
    sizes = {name: split["n"] for name, split in facts["splits"].items()}
    assert sizes["gate"] == 60
    assert sizes["train"] == pytest.approx(220 * 0.7 / 0.88, abs=10)
    assert sum(sizes.values()) == 280
    assert len(warnings) == 1
    assert warnings[0].startswith("not stated and therefore taken out of train (220 rows): calibration ")


def test_without_training_validation_is_not_carved(tmp_path: Path) -> None:
    facts, _ = column(tmp_path, {"val": 150, "test": 60}, trains=False, labels=["red", "green", "blue"])
    assert set(facts["splits"]) == {"validation", "calibration", "search", "gate"}


def test_split_column_refusals(tmp_path: Path) -> None:
    with pytest.raises(StepError) as caught:
        column(tmp_path, {"train": 50, "holdout": 7, "test": 30})
    assert caught.value.what == (
        "split 'holdout' in rows 51, 52, 53, 54, 55, ... is none of train, validation, calibration, search, gate"
    )
    with pytest.raises(RecipeError, match="no row is in the gate split"):
        column(tmp_path, {"train": 50, "val": 20})
    with pytest.raises(RecipeError, match="steps train, but no row is in the train split"):
        column(tmp_path, {"val": 50, "test": 20})
    with pytest.raises(RecipeError, match="there is no train or validation to take it from"):
        column(tmp_path, {"test": 50}, trains=False, labels=["red", "green", "blue"])


def by_paths(tmp_path: Path, **parts: list[tuple[Any, ...]]) -> dict[str, Any]:
    header = ("text", "label", "g")[: len(next(iter(parts.values()))[0])]
    paths = {name: str(write_csv(tmp_path / f"{name}.csv", rows, header)) for name, rows in parts.items()}
    return {"source": "csv", "paths": paths}


def test_one_path_per_split(tmp_path: Path) -> None:
    rows = sentences(240)
    data = by_paths(tmp_path, train=rows[:150], validation=rows[150:180], search=rows[180:210], gate=rows[210:])
    warnings: list[str] = []
    facts = build(tmp_path / "out", warnings, **data)
    assert facts["division"] == {"by": "paths"}
    assert facts["splits"]["gate"]["n"] == 30
    assert "calibration" in warnings[0]
    assert read_split(tmp_path / "out" / "gate.parquet").column("id").to_pylist()[0].startswith("gate:")


def test_a_gate_text_seen_elsewhere_is_refused_with_its_rows(tmp_path: Path) -> None:
    rows = sentences(240)
    leaked = [(rows[3][0].upper(), rows[3][1]), *rows[210:]]
    data = by_paths(tmp_path, train=rows[:150], validation=rows[150:180], search=rows[180:210], gate=leaked)
    error = refusal(tmp_path / "out", **data)
    assert error.what.startswith("1 of the gate set's texts also stand in another split: ")
    assert "row train:4" in error.what
    assert "gate row gate:1" in error.what
    assert "edgeft then keeps equal texts in one split" in error.hint


def test_other_shared_texts_only_warn(tmp_path: Path) -> None:
    rows = sentences(240)
    data = by_paths(
        tmp_path,
        train=rows[:150],
        validation=rows[149:180],
        calibration=rows[180:190],
        search=rows[190:210],
        gate=rows[210:],
    )
    warnings: list[str] = []
    facts = build(tmp_path / "out", warnings, **data)
    assert facts["checks"]["texts_in_two_splits"] == 1
    assert warnings == [
        "1 texts stand in more than one split (for instance train row train:150, validation row validation:1)"
    ]


def test_a_group_in_two_stated_splits_is_refused(tmp_path: Path) -> None:
    rows = [(text, label, f"g{place // 10}") for place, (text, label) in enumerate(sentences(240))]
    data = by_paths(tmp_path, train=rows[:155], validation=rows[155:180], search=rows[180:210], gate=rows[210:])
    error = refusal(tmp_path / "out", **data, group="g")
    assert error.what == "1 group in more than one split: 'g15' in train, validation"


def test_limit_over_stated_splits_is_proportional(tmp_path: Path) -> None:
    facts, _ = column(tmp_path, {"train": 200, "val": 50, "calib": 25, "search": 50, "test": 75}, limit=80)
    assert {name: split["n"] for name, split in facts["splits"].items()} == {
        "train": 40, "validation": 10, "calibration": 5, "search": 10, "gate": 15,
    }  # fmt: skip


def test_label_orders(tmp_path: Path, plain: dict[str, Any]) -> None:
    assert build(tmp_path / "a", **plain, labels=["red", "blue", "green"])["labels"] == ["red", "blue", "green"]
    assert build(tmp_path / "b", **plain, model_labels=["green", "red", "blue"])["labels"] == ["green", "red", "blue"]
    numbers = write_csv(tmp_path / "n.csv", [(f"text {n}", n % 11) for n in range(330)])
    assert build(tmp_path / "c", source="csv", path=str(numbers))["labels"] == [str(n) for n in range(11)]


def test_labels_given_as_positions_are_translated(tmp_path: Path) -> None:
    numbers = write_csv(tmp_path / "n.csv", [(f"text {n} is {'no' if n % 2 else 'yes'}", n % 2) for n in range(200)])
    warnings: list[str] = []
    facts = build(tmp_path / "out", warnings, source="csv", path=str(numbers), model_labels=["yes", "no"], trains=False)
    assert warnings == ["labels 0..1 of the data are read as positions in the model's labels (yes, no)"]
    for row in read_split(tmp_path / "out" / "gate.parquet").to_pylist():
        assert row["text"].endswith(facts["labels"][row["label"]])


@pytest.mark.parametrize(
    ("options", "what", "hint"),
    [
        ({"model_labels": ["red", "greens", "blue"]}, "label 'green' (100 rows) is not known to the model", "mean 'greens'?"),
        ({"labels": ["red", "green"]}, "label 'blue' (100 rows) is not known to data.labels", "labels: red, green"),
        ({"labels": ["red", "green", "blue", "red"]}, "'red' stands twice", ""),
        (
            {"labels": ["red", "green", "blue"], "model_labels": ["blue", "green", "red"], "trains": False},
            "the order differs from the model's own: blue, green, red", "leave data.labels out",
        ),
        ({"labels": ["red", "green", "blue", "grey"]}, "no row in train has the label 'grey'", "leave it out"),
    ],
)  # fmt: skip
def test_label_refusals(tmp_path: Path, plain: dict[str, Any], options: dict[str, Any], what: str, hint: str) -> None:
    error = refusal(tmp_path / "out", **plain, **options)
    assert error.what == what
    assert hint in error.hint


def test_a_column_that_is_no_label(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [(f"text {n}", f"id {n}") for n in range(200)])
    assert "200 different values in 200 rows" in refusal(tmp_path / "out", source="csv", path=str(path)).what
    path = write_csv(tmp_path / "a.csv", [(f"text {n}", "same") for n in range(200)])
    assert refusal(tmp_path / "out", source="csv", path=str(path)).what == "only one label: 'same'"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (("", "red"), "column 'text' is empty or missing in 1 row: row 121"),
        ((" \t", "red"), "column 'text' is empty or missing in 1 row: row 121"),
        (("text", " "), "column 'label' is empty or missing in 1 row: row 121"),
        (("é" * 500_001, "red"), "column 'text' is longer than 1 MB in 1 row: row 121"),
    ],
)
def test_broken_cells_are_named_by_row(tmp_path: Path, row: tuple[str, str], what: str) -> None:
    path = write_csv(tmp_path / "a.csv", [*sentences(120), row])
    error = refusal(tmp_path / "out", source="csv", path=str(path))
    assert (error.what, error.where) == (what, str(path))


def test_only_the_first_broken_rows_are_listed(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [*sentences(60), *[("", "red")] * 9])
    assert refusal(tmp_path / "out", source="csv", path=str(path)).what.endswith(
        "in 9 rows: rows 61, 62, 63, 64, 65, ..."
    )


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"text": [1, 2], "label": ["a", "b"]}, "column 'text' holds int64 values, text is expected"),
        ({"text": ["a", "b"], "label": [0.5, 1.0]}, "column 'label' holds double values that are no names: row 1"),
        ({"text": ["a", "b"], "label": [float("nan"), 1.0]}, "column 'label' is empty or missing in 1 row: row 1"),
        ({"text": ["a", None], "label": ["a", "b"]}, "column 'text' is empty or missing in 1 row: row 2"),
    ],
)
def test_typed_columns(tmp_path: Path, columns: dict[str, Any], what: str) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert refusal(tmp_path / "out", source="parquet", path=str(tmp_path / "a.parquet")).what == what


def test_lone_surrogates_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a \\ud800", "label": "x"}\n')
    error = refusal(tmp_path / "out", source="jsonl", path=str(path))
    assert (error.where, error.what) == (f"{path}:1", "column 'text' holds half of a surrogate pair (\\ud800...)")


def test_parquet_text_that_is_not_utf8(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"\xff\xfe"], pa.binary())
    table = pa.table({"text": raw.view(pa.string()), "label": ["a", "b"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert refusal(tmp_path / "out", source="parquet", path=str(tmp_path / "a.parquet")).what.startswith(
        "damaged values"
    )


def test_too_few_rows_says_what_is_needed(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", sentences(4))
    error = refusal(tmp_path / "out", source="csv", path=str(path))
    assert error.what.startswith("too few rows: 4 rows leave ")
    assert error.hint == "at least 5 groups and about 50 rows are needed; see data.fractions"


def test_one_group_that_holds_most_rows_is_explained(tmp_path: Path) -> None:
    rows = [(text, label, "big" if place < 80 else f"g{place}") for place, (text, label) in enumerate(sentences(100))]
    path = write_csv(tmp_path / "a.csv", rows, ("text", "label", "g"))
    error = refusal(tmp_path / "out", source="csv", path=str(path), group="g")
    assert error.what == "80 of 100 rows must stay together, so the rows cannot be divided"
    assert error.hint == "they are all of group 'big': choose a finer data.group"
    rows = [
        ("thanks" if place % 2 else text, label, f"g{place // 2}") for place, (text, label) in enumerate(sentences(100))
    ]
    error = refusal(tmp_path / "out", source="csv", path=str(write_csv(path, rows, ("text", "label", "g"))), group="g")
    assert error.hint.startswith("50 groups share texts; the most frequent, 50 times: 'thanks'")


def test_training_without_a_train_fraction(tmp_path: Path, plain: dict[str, Any]) -> None:
    fractions = {"train": 0, "validation": 0.2, "calibration": 0.2, "search": 0.2, "gate": 0.4}
    error = refusal(tmp_path / "out", **plain, fractions=fractions)
    assert error.where == "data.fractions.train"


def test_a_zero_fraction_leaves_the_split_out(tmp_path: Path, plain: dict[str, Any]) -> None:
    fractions = {"train": 0.6, "validation": 0.2, "calibration": 0, "search": 0.1, "gate": 0.1}
    assert set(build(tmp_path / "out", **plain, fractions=fractions)["splits"]) == {
        "train",
        "validation",
        "search",
        "gate",
    }


def test_a_task_whose_column_the_source_lacks(tmp_path: Path, plain: dict[str, Any]) -> None:
    error = refusal(tmp_path / "out", **plain, task=ImageTask())
    assert error.what == "no column 'image'"


def test_read_split_of_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "gate.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(StoreError, match="the split cannot be read"):
        read_split(tmp_path / "gate.parquet")
