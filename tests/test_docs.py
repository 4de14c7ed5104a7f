"""The documentation is true: tutorials run as written, the reference is what the types say, links lead somewhere."""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def commands(page: Path) -> list[str]:
    """The lines of a page's ```sh blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_reference_is_current() -> None:
    from edgeft.recipe.reference import render_reference

    assert (ROOT / "docs/recipe.md").read_text(encoding="utf-8") == render_reference(), (
        "run: edgeft schema --format markdown --output docs/recipe.md"
    )


@pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]), ids=lambda p: p.name
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_commands_exist() -> None:
    from edgeft.cli import COMMANDS

    for command in re.findall(
        r"^\s*edgeft (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    ):
        assert command in COMMANDS
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([\w-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_the_search_page_names_every_candidate() -> None:
    """On a device that has all of it; rungs of encoders and of convolutional networks together."""
    from edgeft import plugins
    from edgeft.device.profile import Device

    flags, providers = ("avx512_bf16", "avx512_fp16"), ("QNNExecutionProvider", "CPUExecutionProvider")
    device = Device(name="all", architecture="x86_64", cpu_flags=flags, providers=providers)
    page = (ROOT / "docs/search.md").read_text(encoding="utf-8")
    rows = [re.findall(r"`([^`]+)`", cell) for line in re.findall(r"^\| `.*$", page, re.M) for cell in line.split("|")]
    stated = {name: (small, more) for _, names, small, more, _ in zip(*[iter(rows)] * 5, strict=True) for name in names}
    assert sorted(stated) == sorted(plugins.names("exporters"))
    for name, (small, more) in stated.items():
        exporter = plugins.load("exporters", name)()
        assert small == [variant.name for variant in exporter.ladder(device)], name
        possible = exporter.possible_rungs(device) if hasattr(exporter, "rungs") else exporter.ladder(device)
        assert {*small, *more} == {variant.name for variant in possible}, name
        assert not set(small) & set(more), name


def test_the_page_for_who_signs_is_two_printed_pages_and_says_where_the_rest_is() -> None:
    page = (ROOT / "docs/evidence.md").read_text(encoding="utf-8")
    assert len(page.split()) <= 1100
    assert "](gates.md)" in page and "](evidence.md)" in (ROOT / "docs/gates.md").read_text(encoding="utf-8")


def test_functions_said_to_be_in_no_gate_are_in_none() -> None:
    """Named on docs/gates.md, and called by nothing of edgeft but their own file and the known answers of selftest."""
    said = (ROOT / "docs/gates.md").read_text(encoding="utf-8").partition("## In the library, in no gate")[2]
    names = set(re.findall(r"`(\w+_?\w+)`", said)) - {"edgeft"}
    assert names >= {"bound_perplexity", "sign_flip", "bootstrap_t", "bound_tail", "holm"}
    for path in (ROOT / "edgeft").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        used = {name for name in names if re.search(rf"\b{name}\(", text) and f"def {name}(" not in text}
        assert not used or path.is_relative_to(ROOT / "edgeft/ship/selftest"), (path, used)


def test_whoever_goes_on_from_a_received_folder_is_told_that_it_runs_code() -> None:
    """The code of a code model travels in it, and nothing in it is signed."""
    from edgeft import cli
    from edgeft.cli import build

    option = cli.command_parser("build", build)._option_string_actions["--from"]
    assert "code model runs from it" in str(option.help)
    assert "may run code that lies in that folder" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "**It can run the sender's code**" in (ROOT / "docs/bundle.md").read_text(encoding="utf-8")


@pytest.mark.ml
def test_own_model_tutorial_runs_as_written(tmp_path: Path, text_csv: Path, tiny_bert: Path) -> None:
    """A fine-tuned folder, a csv, and nothing else: the page's commands one after the other."""
    fine_tune(tmp_path, text_csv, tiny_bert)
    env = {**os.environ, "EDGEFT_STORE": str(tmp_path / "store")}
    name = ""
    for line in commands(ROOT / "docs/own-model.md"):
        words = shlex.split(line.replace("NAME", name))
        assert words[0] == "edgeft"
        run = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
        )
        assert run.returncode == 0, f"{line}\n{run.stdout}\n{run.stderr}"
        if words[1] == "init":
            found = re.search(r"^name: (\S+)", (tmp_path / "recipe.yaml").read_text(), flags=re.MULTILINE)
            assert found is not None
            name = found.group(1)
    assert (tmp_path / "out" / name / "targets/local-cpu/manifest.json").is_file()


@pytest.mark.ml
def test_compression_page_runs_as_written(tmp_path: Path) -> None:
    """The page's commands, its whole recipe, and each of its `steps:` in the quickstart's place."""
    pytest.importorskip("nilearn")
    page, env = ROOT / "docs/compress.md", {**os.environ, "EDGEFT_STORE": str(tmp_path / "store")}
    lines = [shlex.split(line) for line in commands(page)]
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(lines) >= 3 and len(blocks) >= 4
    for number, block in enumerate(blocks):
        name = f"own-{number}.yaml"
        begin = "name: own\nextends: edgeft:text/quickstart\n" if block.startswith("steps:") else ""
        (tmp_path / name).write_text(begin + block, encoding="utf-8")
        lines.append(["edgeft", "plan", name])
    for words in lines:
        assert words[0] == "edgeft"
        run = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
        )
        assert run.returncode == 0, f"{words}\n{run.stdout}\n{run.stderr}"


def fine_tune(folder: Path, text_csv: Path, tiny_bert: Path) -> None:
    """A tiny classifier, trained a little so that its answers mean something, as folder/my-model; rows as folder/test.csv."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with text_csv.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = sorted({row["label"] for row in rows})
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_bert,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: at for at, name in enumerate(names)},
    )
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for start in range(0, len(rows), 32):
        part = rows[start :: len(rows) // 32][:32]
        batch = tokenizer(
            [row["text"] for row in part], padding=True, truncation=True, max_length=32, return_tensors="pt"
        )
        loss = model(**batch, labels=torch.tensor([names.index(row["label"]) for row in part])).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder / "my-model")
    for path in tiny_bert.glob("tokenizer*.json"):
        shutil.copy(path, folder / "my-model")
    shutil.copy(text_csv, folder / "test.csv")
