"""Bundles that take images: folders of classes, images with masks, and what does not fit them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeft import cli
from tests.check import kit
from tests.check.conftest import Ask

pytestmark = pytest.mark.ml
SIZE = 8
COLOURS = ("blue", "green", "red")
WEIGHTS = np.vstack([np.eye(3)[::-1] / 64, np.zeros(3)])
"""RGB to the logits of COLOURS."""
MASKS = ("background", "bright", "red")
SEGMENT = np.array([[0, 1, 2], [0, 1, -1], [0, 1, -1], [30, -200, 0]]) / 16
"""A bright pixel has all three colours, a red one the first alone; the dark ones are background."""


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/<colour>/NN.png: 150 noisy images of one colour each; bundles base and same."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(2)
    for place, name in enumerate(COLOURS):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(50):
            pixels = random.integers(0, 90, (SIZE * 2, SIZE * 2, 3))
            pixels[..., 2 - place] += random.integers(20, 160)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "data" / name / f"{index:02d}.png")
    kit.image_bundle(tmp_path / "base", WEIGHTS, COLOURS, SIZE)
    kit.image_bundle(tmp_path / "same", WEIGHTS * 1.01, COLOURS, SIZE)
    return tmp_path


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/images and data/masks: a bright and a red rectangle each, 120 times."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(3)
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for case in range(120):
        image, mask = random.integers(0, 30, (SIZE, SIZE, 3)), np.zeros((SIZE, SIZE), np.uint8)
        top = int(random.integers(0, 4))
        image[top : top + 4, :4], mask[top : top + 4, :4] = 230, 1
        image[top : top + 4, 5:, 0], mask[top : top + 4, 5:] = 200, 2
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "data" / "images" / f"c{case}.png")
        Image.fromarray(mask).save(tmp_path / "data" / "masks" / f"c{case}.png")
    kit.image_bundle(tmp_path / "base", SEGMENT, MASKS, SIZE, segment=True)
    kit.image_bundle(tmp_path / "same", SEGMENT * 2, MASKS, SIZE, segment=True)
    return tmp_path


def first(record: dict[str, Any]) -> dict[str, Any]:
    """The accuracy verdict."""
    found: dict[str, Any] = record["verdicts"][0]
    assert found["check"] == "accuracy"
    return found


def test_an_image_classifier(colours: Path, ask: Ask) -> None:
    code, record = ask("same --baseline base --data data --no-latency --margin 0.05")
    assert code == 0 and first(record)["n"] == 150 and first(record)["baseline"] > 80
    turned = np.roll(WEIGHTS, 1, axis=1)
    kit.image_bundle(colours / "bad", turned, COLOURS, SIZE)
    code, record = ask("bad --baseline base --data data --no-latency --margin 0.05")
    assert code == 1 and first(record)["candidate"] < 20


def test_another_image_size_is_each_sides_own_matter(colours: Path, short: None, ask: Ask) -> None:
    """Both see the same files, each through its own preprocessing, also while they are timed."""
    kit.image_bundle(colours / "large", WEIGHTS, COLOURS, SIZE * 2)
    code, record = ask("large --baseline base --data data --margin 0.05 --latency-margin 9900%")
    assert code == 0 or kit.disturbed(record)
    assert any("prepare their inputs differently" in note for note in record["notes"])
    code, record = ask("large --baseline base --no-accuracy --latency-margin 9900%")
    assert (code == 0 or kit.disturbed(record)) and "take different inputs" in record["outputs"]
    assert any("16x16" in note and "8x8" in note for note in record["notes"])


def test_a_segmentation(shapes: Path, ask: Ask) -> None:
    code, record = ask("same --baseline base --data data --no-latency --margin 0.2")
    accuracy = first(record)
    assert code == 0 and accuracy["name"].startswith("mean_dice") and accuracy["baseline"] > 0.9
    assert "pixels (100.00%)" in record["outputs"]
    kit.image_bundle(shapes / "bad", SEGMENT[:, [0, 2, 1]], MASKS, SIZE, segment=True)
    code, record = ask("bad --baseline base --data data --no-latency --margin 0.2")
    assert code == 1 and first(record)["candidate"] < 0.2


def test_segmentation_labels_in_another_order(shapes: Path, ask: Ask) -> None:
    names = [MASKS[place] for place in (0, 2, 1)]
    kit.image_bundle(shapes / "turned", SEGMENT[:, [0, 2, 1]], names, SIZE, segment=True)
    code, record = ask("turned --baseline base --data data --no-latency --margin 0.2")
    assert code == 0 and first(record)["value"] == 0 and "pixels (100.00%)" in record["outputs"]


@pytest.mark.parametrize(
    ("data", "said"), [("data.csv", "one folder per class, or"), ("masked", "one folder per class")]
)
def test_data_of_another_task(data: str, said: str, colours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (colours / "data.csv").write_text("text,label\nx,red\n")
    (colours / "masked" / "masks").mkdir(parents=True)
    assert cli.main(["check", "same", "--baseline", "base", "--data", data, "--no-latency"]) == 2
    assert "this is no data for image-classification" in (found := capsys.readouterr().err) and said in found


def test_sides_of_different_tasks(colours: Path, texts: kit.Texts, capsys: pytest.CaptureFixture[str]) -> None:
    kit.text_bundle(colours / "words", texts)
    assert cli.main(["check", "words", "--baseline", "base", "--no-latency"]) == 2
    assert "the candidate does text-classification, the baseline image-classification" in capsys.readouterr().err
