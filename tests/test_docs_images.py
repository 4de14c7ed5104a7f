"""docs/images.md is true: its commands and its recipe run as written, and its table names preprocess.json's keys."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.image_nets import UNET, write_digits, write_shapes
from tests.test_docs import ROOT, commands

PAGE = ROOT / "docs/images.md"


def test_every_key_of_the_preprocessing_is_named() -> None:
    from edgeft.tasks.image_spec import ImageSpec

    table = "\n".join(re.findall(r"^\| (`.*?) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", table)) == set(ImageSpec.model_fields)


def test_the_numbers_of_units_are_those_of_the_gates() -> None:
    from edgeft.evaluate.betting import units_without_loss

    found = re.search(r"0\.1 on Dice needs (\d+) .*?, 0\.05 needs (\d+), 0\.02 needs (\d+)", PAGE.read_text("utf-8"))
    assert found is not None
    assert [int(text) for text in found.groups()] == [units_without_loss(margin, 0.05) for margin in (0.1, 0.05, 0.02)]


@pytest.mark.slow
@pytest.mark.ml
def test_the_page_runs_as_written(tmp_path: Path) -> None:
    train_on_digits(tmp_path)
    write_digits(tmp_path / "photos", each=150, skip=26)
    (tmp_path / "picture.png").write_bytes(sorted((tmp_path / "photos/1").iterdir())[0].read_bytes())
    write_shapes(tmp_path / "scans", cases=240)
    (tmp_path / "net.py").write_text(UNET)
    for block in re.findall(r"```yaml\n(name: .*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL):
        (tmp_path / f"{block.split()[1]}.yaml").write_text(block)
    env = {**os.environ, "EDGEFT_STORE": str(tmp_path / "store")}
    for line in commands(PAGE):
        words = shlex.split(line)
        assert words[0] == "edgeft"
        run = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=500
        )
        assert run.returncode == 0, f"{line}\n{run.stdout}\n{run.stderr}"
        if words[1] == "run":
            assert "%" in run.stdout
    for name, size in (("photos", [32, 32]), ("scans", [24, 24])):
        bundle = tmp_path / "out" / name / "targets/local-cpu"
        stated = json.loads((bundle / "preprocess.json").read_text())["image"]
        assert (stated["embed"], [stated["height"], stated["width"]]) == ("pixels", size)
    from PIL import Image

    with Image.open(tmp_path / "case000-mask.png") as mask:
        assert (mask.size, mask.mode) == ((24, 24), "L")
        assert max(value for value, count in enumerate(mask.histogram()) if count) <= 2


def train_on_digits(folder: Path) -> None:
    """folder/my-model: the shipped small ViT on 26 images each of three digits, other ones than the page's photos."""
    import numpy as np
    import torch
    from PIL import Image
    from transformers import ViTConfig, ViTForImageClassification

    write_digits(folder / "seen", each=26)
    files = sorted((folder / "seen").rglob("*.png"))
    shown = [np.asarray(Image.open(file).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)) for file in files]
    images = torch.tensor(np.stack(shown)).permute(0, 3, 1, 2).float() / 127.5 - 1
    labels = torch.tensor([int(file.parent.name) for file in files])
    shipped = ROOT / "recipes/vision/digits-vit"
    torch.manual_seed(0)
    names = {place: str(place) for place in range(3)}
    config = ViTConfig.from_pretrained(shipped, id2label=names, label2id={name: at for at, name in names.items()})
    model = ViTForImageClassification(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(150):
        loss = model(pixel_values=images, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder / "my-model")
    (folder / "my-model/preprocessor_config.json").write_bytes((shipped / "preprocessor_config.json").read_bytes())
