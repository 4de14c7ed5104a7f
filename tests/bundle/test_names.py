"""Names of people, files and places of the building machine, and how they are kept out."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.artifact import Artifact
from edgeft.canonical import digest_json
from edgeft.recipe.load import load_recipe
from edgeft.ship.evidence import plain_cell
from edgeft.ship.provenance import groups_csv, name_hash, split_salt, without_names
from edgeft.ship.scrub import places_of, scrub

RECIPE = """\
name: tiny
env: [TOKEN, SHORT]
description: made with ${{TOKEN}}
model: {{path: {folder}/model, task: text-classification}}
data: {{source: csv, path: {folder}/data/rows.csv}}
targets:
  - {{device: local-cpu, export: [onnx]}}
gates:
  - {{metric: accuracy, at_least: 0.5}}
"""


def test_paths_and_secrets_are_replaced_longest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hf_verysecret")
    monkeypatch.setenv("SHORT", "a")
    for name in ("model", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "data/rows.csv").write_text("text,label\na,b\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(folder=tmp_path))
    loaded = load_recipe(tmp_path / "recipe.yaml")
    places = places_of(loaded, tmp_path / "store")
    text = scrub(loaded.resolved_yaml, places)
    assert str(tmp_path) in loaded.resolved_yaml and str(tmp_path) not in text
    assert "path: ./model" in text and "path: ./rows.csv" in text
    assert "hf_verysecret" in loaded.recipe.description
    assert scrub(loaded.recipe.description, places) == "made with ${TOKEN}"
    found = scrub({"a": [f"{tmp_path}/data/rows.csv: row 3", 4, None], str(tmp_path / "store"): True}, places)
    assert found == {"a": ["./rows.csv: row 3", 4, None], "STORE": True}


def test_file_names_are_counted_not_listed() -> None:
    files = [["anna-1.png", "aa"], ["bert-2.png", "bb"]]
    content = {"source": "image-folder", "options": {"depth": 1}, "content": {"all": files, "gate": "cc"}}
    found = without_names(content)
    assert found["content"] == {"all": {"files": 2, "sha256": digest_json(files)}, "gate": "cc"}
    assert "anna" not in str(found) and found["options"] == {"depth": 1}
    other = without_names({"all": [["anna-1.png", "aa"], ["bert-3.png", "bb"]]})
    assert other["all"]["sha256"] != found["content"]["all"]["sha256"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", " =1+1", "\t=1+1"])
def test_a_label_is_no_formula_in_a_spreadsheet(text: str) -> None:
    assert plain_cell(text) == f"'{text}"
    assert plain_cell(f"a{text}") == f"a{text}" and plain_cell("") == ""


def write_split(folder: Path, groups: list[str], text: str = "a") -> Artifact:
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir()
    parquet.write_table(pa.table({"group": groups, "text": [text] * len(groups)}), folder / "gate.parquet")
    return Artifact("dataset", folder, "0" * 64, {"splits": {"gate": {}}})


def test_the_salt_follows_from_the_rows_and_hides_the_names(tmp_path: Path) -> None:
    one, same = write_split(tmp_path / "one", ["p1", "p2", "p1"]), write_split(tmp_path / "same", ["p1", "p2", "p1"])
    other = write_split(tmp_path / "other", ["p1", "p2", "p1"], text="b")
    assert split_salt(one) == split_salt(same) != split_salt(other)
    lines = groups_csv(one, split_salt(one)).splitlines()
    assert lines[0] == "split,group,rows" and lines[1:] == sorted(lines[1:])
    assert f"gate,{name_hash(split_salt(one), 'p1')},2" in lines and "p1" not in "".join(lines)
    assert name_hash(split_salt(one), "p1") != name_hash(split_salt(other), "p1")
