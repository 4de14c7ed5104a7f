"""One build of a hostile recipe: nothing of it runs, nothing of the user's machine leaks, no report carries markup."""

from __future__ import annotations

import csv
import json
import pickle
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.conftest import Workbench
from tests.report.test_browser import browser, visit
from tests.report.test_html import assert_harmless

__all__ = ["browser"]
pytestmark = pytest.mark.ml
LABELS = {
    "jinja2": "<script>document.body.dataset.ran=1</script>",
    "networkx": '"><img src=x onerror="document.body.dataset.ran=2">',
    "rich": "=cmd|' /C calc'!A0",
}
FILE = "<img src=x onerror=document.body.dataset.ran=3>.csv"
RECIPE = f"""\
name: hostile
description: "</style></svg><script>document.body.dataset.ran=4</script> | [x](javascript:alert(1))"
env: [FOLDER, WORD]
model: {{path: ./model, task: text-classification}}
data:
  source: csv
  path: "${{FOLDER}}/{FILE}"
  text: text
  label: label
  group: group
  unit: row
  fractions: {{train: 0.45, validation: 0.1, calibration: 0.05, search: 0.15, gate: 0.25}}
serve: {{batch: 1, length: 32}}
steps:
  - finetune: {{method: full, epochs: 1, batch_size: 16, learning_rate: 0.003}}
measure: {{protocol: none}}
targets:
  - {{device: local-cpu, export: [onnx], candidates: [int8-dynamic], optimise: size}}
gates:
  - {{metric: accuracy, no_worse_than: source, margin: 0.9}}
"""
SECRETS = {
    "HF_TOKEN": "hf_MARKtoken",
    "AWS_SECRET_ACCESS_KEY": "MARKaws",
    "USER": "MARKuser",
    "LOGNAME": "MARKuser",
    "WORD": "MARKword",
    "SSH_AUTH_SOCK": "/run/MARKagent",
}


class Trap:
    """A pickle that leaves a file when it is opened."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.place), "w")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, text_csv: Path, tiny_bert: Path) -> Iterator[Workbench]:
    home = tmp_path_factory.mktemp("MARKhome")
    folder = home / "project"
    (folder / "MARKfolder").mkdir(parents=True)
    shutil.copytree(tiny_bert, folder / "model")
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.pkl", "added_tokens.joblib"):
        (folder / "model" / name).write_bytes(pickle.dumps(Trap(home / "ran")))
    with (
        text_csv.open(encoding="utf-8") as source,
        (folder / "MARKfolder" / FILE).open("w", encoding="utf-8") as target,
    ):
        writer = csv.DictWriter(target, ["text", "label", "group"])
        writer.writeheader()
        for row in csv.DictReader(source):
            text = f"{row['text'][:80]} <script>document.body.dataset.ran=5</script>"
            writer.writerow({**row, "text": text, "label": LABELS[row["label"]]})
    (folder / "recipe.yaml").write_text(RECIPE)
    bench = Workbench(folder, folder.parent / "store")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        patch.setenv("HOME", str(home))
        patch.setenv("FOLDER", str(folder / "MARKfolder"))
        run = bench.run("build", "recipe.yaml", timeout=600)
    assert run.returncode in (0, 1, 5), run.stderr
    yield bench


def test_no_pickle_was_opened(built: Workbench) -> None:
    ran = built.folder.parent / "ran"
    assert not ran.exists()
    pickle.loads((built.folder / "model/training_args.bin").read_bytes()).close()
    assert ran.exists(), "the trap does not work: the test proves nothing"
    ran.unlink()


def test_no_secret_of_the_machine_is_in_the_outcome_or_the_store(built: Workbench) -> None:
    """memo.sqlite is this machine's memory of where files lie, and travels nowhere."""
    places = [path for root in (built.folder / "out", built.store) for path in root.rglob("*") if path.is_file()]
    assert len(places) > 30
    found = {
        str(path): re.findall(rb"[^\n]{0,40}MARK[^\n]{0,20}", path.read_bytes())
        for path in places
        if not path.name.startswith("memo.sqlite")
    }
    assert {path: hits for path, hits in found.items() if hits} == {}


def test_no_report_carries_markup(built: Workbench) -> None:
    pages = sorted((built.folder / "out").rglob("*.html"))
    assert pages
    for page in pages:
        assert_harmless(page.read_text(encoding="utf-8"))
    shown = (built.folder / "out/hostile/report.html").read_text(encoding="utf-8")
    for number in (1, 2, 4):
        assert f"dataset.ran={number}" in shown, "what is hostile has to be in the page for this to prove anything"
    for card in (built.folder / "out").rglob("*.md"):
        text = re.sub(r"```.*?```", "", card.read_text(encoding="utf-8"), flags=re.S)
        text = re.sub(r"(?<!`)`[^`\n]+`(?!`)", "", text)  # code within a line is shown as it is (CommonMark 6.1)
        assert not re.search(r"(?<!\\)<(script|img|style|svg)", text), card
        assert not re.search(r"(?<!\\)\]\(javascript:", text), card


def test_no_table_starts_a_formula(built: Workbench) -> None:
    """A spreadsheet runs a cell that begins with = + - @, also after white space; numbers may begin with a minus."""
    for path in (built.folder / "out").rglob("*.csv"):
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.reader(stream):
                for cell in row:
                    number = re.fullmatch(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?", cell.strip())
                    assert number or cell.strip()[:1] not in ("=", "+", "-", "@"), (path, cell)


def test_a_browser_runs_nothing(built: Workbench, browser: str, tmp_path: Path) -> None:
    page = built.folder / "out/hostile/report.html"
    done = visit(browser, page, tmp_path / "profile", "--dump-dom", "--virtual-time-budget=3000")
    assert "</html>" in done.stdout
    assert "data-ran=" not in done.stdout
    trapped = tmp_path / "trapped.html"
    trapped.write_text(f"<html><body>{LABELS['jinja2']}</body></html>")
    done = visit(browser, trapped, tmp_path / "profile", "--dump-dom", "--virtual-time-budget=3000")
    assert 'data-ran="1"' in done.stdout, "a page with the script in it shows that it would be seen"


def test_the_record_keeps_what_was_said(built: Workbench) -> None:
    """Escaping is the renderers' work: the data itself is not changed."""
    record = json.loads((built.folder / "out/hostile/record.json").read_text())
    assert set(record["data"]["labels"]) == set(LABELS.values())
