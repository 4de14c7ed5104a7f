"""Cases as pictures: which are shown, what is in them, and that a page can carry them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeft.record import MASK_COLOURS, ExampleRow
from edgeft.report import render_html
from edgeft.tasks.image_spec import PREPROCESS, ImageSpec
from edgeft.tasks.mask_pictures import LARGEST, draw_examples, rank_cases
from tests.report import sample

SIZE = (240, 96)
SPEC = ImageSpec(embed="pixels", order="L", height=SIZE[0], width=SIZE[1], channels=1, mean=(0.0,), std=(1.0,))


def rows_of(images: np.ndarray, masks: np.ndarray, folder: Path) -> Any:
    """A split's rows, with their packs."""
    import pyarrow as pa

    from edgeft.data.pack import FOLDER

    columns: dict[str, list[Any]] = {"id": [f"case-{n}" for n in range(len(masks))]}
    for suffix, prefix, arrays in ((".images", "", images), (".masks", "mask_", masks)):
        columns |= {f"{prefix}at": [], f"{prefix}size": []}
        with (folder / f"x{suffix}").open("wb") as stream:
            for array in arrays:
                raw = io.BytesIO()
                Image.fromarray(array).save(raw, format="PNG")
                columns[f"{prefix}at"].append(stream.tell())
                columns[f"{prefix}size"].append(stream.write(raw.getvalue()))
    return pa.table(columns).replace_schema_metadata({FOLDER: str(folder / "x.images").encode()})


def drawn(folder: Path, n: int = 5) -> tuple[list[ExampleRow], np.ndarray]:
    """(examples, masks): answers are all background, so the Dice given decides alone."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (n, *SIZE)).astype(np.uint8)
    masks = np.zeros((n, *SIZE), np.uint8)
    for place in range(n):
        masks[place, : 40 * (place + 1)] = 2
    dice = np.array([0.5, 0.9, 0.1, 0.7, 0.3])[:n]
    return draw_examples(np.zeros_like(masks), dice, rows_of(images, masks, folder), SPEC), masks


def opened(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.5, 0.9, 0.1, 0.7, 0.3], {"worst": 2, "median": 0, "best": 1}),
        ([0.5, 0.4], {"worst": 1, "best": 0}),
        ([0.5], {"worst": 0}),
        ([], {}),
        ([1.0, 1.0, 1.0], {"worst": 0, "median": 1, "best": 2}),
    ],
)
def test_worst_median_and_best_are_three_cases(values: list[float], wanted: dict[str, int]) -> None:
    assert rank_cases(np.array(values)) == wanted


def test_the_pictures_are_small_show_the_masks_and_are_the_same_twice(tmp_path: Path) -> None:
    found, masks = drawn(tmp_path)
    assert [(row.rank, row.case, row.value) for row in found] == [
        ("worst", "case-2", 0.1), ("median", "case-0", 0.5), ("best", "case-1", 0.9),
    ]  # fmt: skip
    assert found == drawn(tmp_path)[0]
    for row, place in zip(found, (2, 0, 1), strict=True):
        for data in (row.image, row.truth, row.answer):
            picture = opened(data)
            assert picture.mode == "P" and max(picture.size) == LARGEST and row.size == picture.size[::-1]
        colours = np.asarray(opened(row.truth).convert("RGB")).reshape(-1, 3)
        green = tuple(int(MASK_COLOURS[2][at : at + 2], 16) for at in (1, 3, 5))
        share = float((colours == green).all(axis=1).mean())
        assert share == pytest.approx((masks[place] == 2).mean(), abs=0.01)
        assert not np.asarray(opened(row.answer).convert("RGB")).any(), "nothing but background was answered"
        assert len(set(map(tuple, np.asarray(opened(row.image).convert("RGB")).reshape(-1, 3)))) > 20
    assert sum(len(row.truth) + len(row.answer) for row in found) < 6_000


def test_the_task_ranks_by_its_own_dice(tmp_path: Path) -> None:
    from edgeft.task import DrawnTask
    from edgeft.tasks.segmentation import Segmentation

    content = {
        "kind": "image",
        "version": 1,
        "labels": ["rest", "grey", "white"],
        "image": SPEC.model_dump(mode="json"),
    }
    (tmp_path / PREPROCESS).write_text(json.dumps(content))
    masks = np.zeros((3, *SIZE), np.uint8)
    masks[:, 100:140], masks[:, :40] = 1, 2
    answered = masks.copy()
    answered[0, 100:140] = 0  # all grey missed, white as it should be
    answered[1, :20] = 0  # half of the white missed: better on average
    rows = rows_of(masks, masks, tmp_path)
    task = Segmentation()
    assert isinstance(task, DrawnTask)
    found = task.draw({"classes": answered}, rows, tmp_path)
    assert [(row.rank, row.case) for row in found] == [("worst", "case-0"), ("median", "case-1"), ("best", "case-2")]
    assert [row.value for row in found] == pytest.approx([0.5, (1 + 2 / 3) / 2, 1])


def test_the_page_holds_them_and_fetches_nothing(tmp_path: Path) -> None:
    record = sample.record()
    bare = render_html(record)
    target = record.targets[0].model_copy(update={"examples": drawn(tmp_path)[0]})
    page = render_html(record.model_copy(update={"targets": [target]}))
    assert page.count("data:image/png;base64,") == 12 and "data:image" not in bare
    assert "Worst, median and best case" in page and "Worst, median and best case" not in bare
    assert "worst: case-2" in page and "mean Dice 0.1" in page
    assert "default-src 'none'; img-src data:" in page and "http://" not in page.replace(
        "http://www.w3.org/2000/svg", ""
    )
    hostile = [row.model_copy(update={"case": "<b>", "image": '"><script>'}) for row in target.examples]
    target = target.model_copy(update={"examples": hostile})
    assert "<script" not in render_html(record.model_copy(update={"targets": [target]}))
