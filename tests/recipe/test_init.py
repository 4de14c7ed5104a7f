"""`edgeft init` on each kind of data: what is guessed, what is written, and what is said when it cannot be."""

from __future__ import annotations

import csv
import errno
import json
import random
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from edgeft import plugins
from edgeft.cli import main
from edgeft.recipe.load import LoadedRecipe, load_recipe
from edgeft.recipe.look import look_at
from edgeft.recipe.measure_text import propose_length

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "networks",
    "learn",
    "to",
    "sort",
    "arrays",
    "of",
    "sparse",
    "graphs",
]
Row = dict[str, Any]


def rows(count: int = 1200, words: tuple[int, int] = (5, 30), **columns: Callable[[int], Any]) -> list[Row]:
    """Rows with text, label and whatever columns say."""
    draw = random.Random(0)
    found = []
    for number in range(count):
        text = " ".join(draw.choices(WORDS, k=draw.randint(*words)))
        row = {"text": text, "label": draw.choice(["bug", "question", "praise"])}
        found.append(row | {name: make(number) for name, make in columns.items()})
    return found


def write_csv(path: Path, found: list[Row], delimiter: str = ",", encoding: str = "utf-8") -> None:
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(found[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(found)


def init(data: str, *more: str, model: str = "org/encoder") -> int:
    return main(["init", "--data", data, "--model", model, "--device", "local-cpu", *more])


def drafted(data: str, *more: str, model: str = "org/encoder") -> LoadedRecipe:
    assert init(data, *more, model=model) == 0
    return load_recipe("recipe.yaml")


def tune(folder: Path) -> None:
    config = {"architectures": ["BertForSequenceClassification"], "max_position_embeddings": 24}
    (folder / "config.json").write_text(json.dumps(config))


def test_csv(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(project / "rows.csv", rows(doc_id=lambda n: f"d{n // 3}", number=lambda n: n))
    recipe = drafted("rows.csv").recipe
    assert (recipe.name, recipe.data.source, recipe.data.path) == ("rows", "csv", str(project / "rows.csv"))
    assert (recipe.data.text, recipe.data.label, recipe.data.group) == ("text", "label", "doc_id")
    assert [step.name for step in recipe.steps] == ["finetune", "merge"]
    assert recipe.serve.length == 48
    text = (project / "recipe.yaml").read_text()
    assert "# Written by `edgeft init` from rows.csv: 1,200 rows, 3 classes" in text
    assert "group: doc_id   # by its name; rows of one group never stand in two splits" in text
    assert "estimated as 1.4 tokens a word" in text
    assert capsys.readouterr().out == text + "\nwrote recipe.yaml; next: edgeft plan recipe.yaml\n"
    assert not list(project.glob(".recipe*"))


def test_gate_set_grows_until_the_margin_can_be_shown(project: Path) -> None:
    for count, share, margin in [(4000, 0.12, 0.02), (800, 0.2, 0.02), (520, 0.3, 0.02), (400, 0.3, 0.05)]:
        write_csv(project / "rows.csv", rows(count))
        recipe = drafted("rows.csv", "--force").recipe
        assert (recipe.data.fractions.gate, recipe.gates[0].margin) == (share, margin)


def test_too_few_rows_are_said(project: Path) -> None:
    write_csv(project / "rows.csv", rows(60))
    drafted("rows.csv")
    assert "about 18 rows in the gate set: too few for any useful margin" in (project / "recipe.yaml").read_text()


def test_semicolons_latin_1_and_other_names(project: Path) -> None:
    found = [{"Id": n, "Frage": f"{row['text']} é", "Bereich": row["label"]} for n, row in enumerate(rows())]
    write_csv(project / "fragen.csv", found, delimiter=";", encoding="latin-1")
    recipe = drafted("fragen.csv").recipe
    assert (recipe.data.text, recipe.data.label) == ("Frage", "Bereich")
    assert recipe.data.options == {"delimiter": ";", "encoding": "latin-1"}
    assert "the only column with few different values, 3" in (project / "recipe.yaml").read_text()


def test_tab_separated(project: Path) -> None:
    write_csv(project / "rows.tsv", rows(), delimiter="\t")
    assert drafted("rows.tsv").recipe.data.options == {"delimiter": "\t"}


def test_split_column_is_used(project: Path) -> None:
    write_csv(project / "rows.csv", rows(split=lambda n: ["train", "train", "dev", "test"][n % 4]))
    recipe = drafted("rows.csv").recipe
    assert recipe.data.split == "split"
    assert recipe.gates[0].margin == 0.02


def test_jsonl_and_finetuned_folder(project: Path) -> None:
    (project / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    tune(project / "model")
    recipe = drafted("rows.jsonl", model="./model").recipe
    assert (recipe.data.source, recipe.model.path, recipe.steps) == ("jsonl", str(project / "model"), ())
    assert recipe.data.fractions.train == 0
    assert recipe.serve.length == 24


def test_parquet_and_onnx_file(project: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist([row | {"nested": [1]} for row in rows()]), project / "rows.parquet")
    recipe = drafted("rows.parquet", model="net.onnx").recipe
    assert (recipe.data.source, recipe.model.onnx) == ("parquet", str(project / "net.onnx"))
    assert "# tokenizer: FOLDER   # needed" in (project / "recipe.yaml").read_text()


def test_folder_of_files(project: Path) -> None:
    (project / "parts").mkdir()
    for part in ("a.csv", "b.csv"):
        write_csv(project / "parts" / part, rows())
    assert drafted("parts").recipe.data.path == str(project / "parts")
    assert "# 2 files; the first, a.csv, was looked at" in (project / "recipe.yaml").read_text()


@pytest.fixture
def image_task(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A task for images, as another package would bring it."""
    real: Callable[[str], dict[str, Any]] = plugins._table.__wrapped__
    entry = EntryPoint("image-classification", "edgeft.tasks.text_classification:TextClassification", "edgeft.tasks")
    extra = {"image-classification": entry}
    monkeypatch.setattr(plugins, "_table", lambda group: real(group) | (extra if group == "tasks" else {}))


def images(project: Path) -> None:
    for label in ("cat", "dog"):
        (project / "pets" / label).mkdir(parents=True)
        for number in range(200):
            (project / "pets" / label / f"{number}.png").touch()


def test_folder_of_class_folders(project: Path, image_task: None) -> None:
    images(project)
    recipe = drafted("pets").recipe
    assert (recipe.data.source, recipe.model.task) == ("image-folder", "image-classification")
    assert "400 rows, 2 classes" in (project / "recipe.yaml").read_text()


def test_images_without_a_task_for_them(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images(project)
    real: Callable[[str], dict[str, Any]] = plugins._table.__wrapped__
    text_only = {"text-classification": EntryPoint("text-classification", "nowhere:X", "edgeft.tasks")}
    monkeypatch.setattr(plugins, "_table", lambda group: text_only if group == "tasks" else real(group))
    assert init("pets") == 2
    assert "no task 'image-classification' is installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x.csv", "", "x.csv: the file has no rows"),
        ("x.csv", "text,label\n", "x.csv: the file has no rows"),
        ("x.csv", "a\0b\n", "x.csv: the file holds NUL bytes: it is no text file"),
        ("x.csv", "a,b\n1,2\n3,4\n", "x.csv: which column is the text cannot be guessed; columns: a (2 different"),
        ("x.csv", "text,k\n" + "some words here,1\n" * 9, "x.csv: which column is the label cannot be guessed"),
        ("x.jsonl", "[1]\n", "x.jsonl:1: not a JSON object"),
        ("x.jsonl", '{"a": 1}\n{', "x.jsonl:2: not a JSON object"),
        ("x.jsonl", "[" * 100_000, "x.jsonl:1: not a JSON object"),
        ("x.jsonl", "\n", "x.jsonl: the file has no rows"),
        ("x.parquet", "nothing", "x.parquet: not a Parquet file"),
        ("x.docx", "nothing", "x.docx: '.docx' is no data file edgeft reads"),
    ],
)
def test_data_that_cannot_be_used(
    project: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, expected: str
) -> None:
    (project / name).write_text(content)
    assert init(name) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {expected}")
    assert not (project / "recipe.yaml").exists()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--text", "txet"], "rows.csv: no column 'txet'\nhint: did you mean 'text'?"),
        (["--device", "local-cup"], "--device: no device is called 'local-cup'\nhint: did you mean 'local-cpu'?"),
        (["--model", "./modle"], "--model: no folder './modle'\nhint: did you mean 'model'?"),
        (["--model", "nett.onnx"], "--model: no ONNX file 'nett.onnx'\nhint: did you mean 'net.onnx'?"),
        (["--model", "model.pt"], "--model: model.pt is a pickle, which can run code when it is opened"),
        (["--data", "rosw.csv"], "rosw.csv: no such file or folder\nhint: did you mean 'rows.csv'?"),
        (["--output", "no/recipe.yaml"], "no: the folder does not exist"),
        (["--output", "rows.csv"], "rows.csv: the file exists\nhint: name another by --output, or add --force"),
    ],
)
def test_wrong_options(project: Path, capsys: pytest.CaptureFixture[str], more: list[str], expected: str) -> None:
    write_csv(project / "rows.csv", rows(300))
    assert init("rows.csv", *more) == 2
    assert capsys.readouterr().err.startswith(f"error: {expected}")


def test_a_read_only_place(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """There even the removal of a file that was never written is refused."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    write_csv(project / "rows.csv", rows(300))
    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    assert init("rows.csv") == 2
    assert capsys.readouterr().err == "error: recipe.yaml: cannot be written: Read-only file system\n"


def test_columns_can_be_named(project: Path) -> None:
    write_csv(project / "rows.csv", rows(a=lambda n: n % 2, b=lambda n: n % 7))
    recipe = drafted("rows.csv", "--label", "b", "--group", "a").recipe
    assert (recipe.data.label, recipe.data.group) == ("b", "a")


def test_output_elsewhere_keeps_paths_right(project: Path) -> None:
    write_csv(project / "rows.csv", rows())
    (project / "sub").mkdir()
    assert init("rows.csv", "--output", "sub/mine.yaml", model="./model") == 0
    recipe = load_recipe("sub/mine.yaml").recipe
    assert (recipe.data.path, recipe.model.path) == (str(project / "rows.csv"), str(project / "model"))
    assert "path: ../model" in (project / "sub" / "mine.yaml").read_text()


def test_hostile_names_stay_inside_comments_and_quotes(project: Path) -> None:
    found = [{"text": row["text"], "label": f"{row['label']}\nname: evil"} for row in rows()]
    name = "we: ird #${HOME}\n.csv"
    write_csv(project / name, found)
    recipe = drafted(name).recipe
    assert recipe.name == "we-ird-HOME"
    assert recipe.data.path == str(project / name)


def test_look_stops_at_the_sample(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeft.recipe.look.SAMPLE_ROWS", 100)
    write_csv(project / "rows.csv", rows(300))
    look = look_at(Path("rows.csv"))
    assert (look.rows, look.whole, len(look.columns["text"])) == (100, False, 100)


def test_length_is_counted_by_the_tokenizer_when_there_is_one(project: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(project / "model" / "tokenizer.json"))
    texts = ["a " * 10] * 95 + ["a " * 400] * 5
    length = propose_length(texts, project / "model", {})
    assert (length.longest, length.how) == (400, "counted with the model's tokenizer")
    assert propose_length(["a " * 10] * 96 + ["a " * 400] * 4, project / "model", {}).proposed == 16
    assert propose_length(["a " * 400] * 9, project / "model", {"max_position_embeddings": 128}).proposed == 128
    (project / "model" / "tokenizer.json").write_text("{broken")
    assert propose_length(texts, project / "model", {}).how == "estimated as 1.4 tokens a word"


def masks(project: Path, cases: int = 160) -> None:
    """scans/: grey images with masks of the values 0, 1 and 2, two cases of each patient."""
    from PIL import Image

    for folder in ("images", "masks"):
        (project / "scans" / folder).mkdir(parents=True)
    lines = ["image,patient"]
    for number in range(cases):
        Image.new("L", (8, 8)).save(project / "scans" / "images" / f"{number}.png")
        mask = Image.new("L", (8, 8))
        mask.putpixel((1, 1), 1 + number % 2)
        mask.save(project / "scans" / "masks" / f"{number}.png")
        lines.append(f"{number},p{number // 2}")
    (project / "scans" / "cases.csv").write_text("\n".join(lines) + "\n")


def test_folder_of_images_with_masks(project: Path) -> None:
    masks(project)
    recipe = drafted("scans", model="./model").recipe
    assert (recipe.data.source, recipe.model.task, recipe.data.group) == ("image-masks", "segmentation", "patient")
    assert recipe.data.labels == ("background", "class1", "class2")
    assert [getattr(step, "method", "") for step in recipe.steps] == ["full"]
    assert (recipe.gates[0].metric, recipe.gates[0].margin) == ("mean_dice", 0.1)
    text = (project / "recipe.yaml").read_text()
    assert "160 rows" in text and "too few to show" not in text.partition("gates:")[0]
    assert "# by its name; rows of one group never stand in two splits" in text


def test_a_tuned_segmenter_is_compressed_as_it_is(project: Path) -> None:
    masks(project, 1200)
    (project / "scans" / "cases.csv").unlink()
    config = {"architectures": ["SegformerForSemanticSegmentation"]}
    (project / "model" / "config.json").write_text(json.dumps(config))
    recipe = drafted("scans", model="./model").recipe
    assert (recipe.steps, recipe.data.group, recipe.gates[0].margin) == ((), None, 0.02)
    assert "# group: COLUMN   # of cases.csv" in (project / "recipe.yaml").read_text()


@pytest.mark.parametrize("kind", ["none", "text", "colour"])
def test_masks_that_cannot_be_used(project: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    from PIL import Image

    masks(project, 3)
    bad = project / "scans" / "masks" / "0.png"
    if kind == "text":
        bad.write_text("no image")
    elif kind == "colour":
        Image.new("RGB", (8, 8)).save(bad)
    else:
        for file in (project / "scans" / "masks").iterdir():
            file.unlink()
    assert init("scans", model="./model") == 2
    said = {"none": "there is no mask", "text": "cannot be read as a PNG", "colour": "not an 8-bit grey or palette"}
    assert said[kind] in capsys.readouterr().err
