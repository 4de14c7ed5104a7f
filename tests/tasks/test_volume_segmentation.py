"""Volumes as windows: what is cut, drawn, scored, kept and answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from edgeft.data.pack import FOLDER
from edgeft.data.volumes import volume_bytes
from edgeft.errors import RecipeError, StepError
from edgeft.task import WindowedTask, case_rows, declared_inputs
from edgeft.tasks.segmentation import Segmentation
from edgeft.tasks.volume_segmentation import VolumeSegmentation
from edgeft.tasks.volume_spec import make_volume_spec, read_volume_spec

LABELS = ("rest", "grey", "white")
SERVE = {"depth": 4, "height": 4, "width": 6, "embed_preprocessing": "pixels"}
TASK = VolumeSegmentation()


def split(folder: Path, images: list[Any], masks: list[Any]) -> pa.Table:
    """Rows of a split with its two packs."""
    columns: dict[str, list[Any]] = {"id": [f"v{place}" for place in range(len(images))]}
    for prefix, suffix, arrays in (("", ".images", images), ("mask_", ".masks", masks)):
        parts = [volume_bytes(array) for array in arrays]
        (folder / f"part{suffix}").write_bytes(b"".join(parts))
        sizes = [len(part) for part in parts]
        columns |= {f"{prefix}at": [sum(sizes[:place]) for place in range(len(sizes))], f"{prefix}size": sizes}
    return pa.table(columns).replace_schema_metadata({FOLDER: str(folder / "part.images").encode()})


@pytest.fixture
def rows(tmp_path: Path) -> pa.Table:
    """Two volumes, the second smaller than the window in one direction; grey here and there, one voxel of white."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 255, shape, dtype=np.uint8) for shape in ((9, 8, 12), (5, 3, 6))]
    masks = [np.zeros(image.shape, np.uint8) for image in images]
    masks[0][2:4, 3:5, 3:9], masks[0][8, 7, 11], masks[1][2:4] = 1, 2, 1
    return split(tmp_path, images, masks)


@pytest.fixture
def prepared(tmp_path: Path, rows: pa.Table) -> Path:
    from pyarrow import parquet

    parquet.write_table(rows, tmp_path / "part.parquet")
    out = tmp_path / "prepared"
    out.mkdir()
    TASK.prepare(tmp_path, {"search": tmp_path / "part.parquet"}, LABELS, SERVE, out)
    return out


def test_it_is_a_windowed_task_and_images_are_not(rows: pa.Table, prepared: Path) -> None:
    assert isinstance(TASK, WindowedTask) and not isinstance(Segmentation(), WindowedTask)
    assert case_rows(Segmentation(), rows, prepared) is rows


def test_preprocessing_states_the_window_and_the_largest_volume(prepared: Path) -> None:
    stated = json.loads((prepared / "preprocess.json").read_text())
    assert stated["kind"] == "volume" and stated["volume"]["largest"] == [9, 8, 12]
    assert declared_inputs(prepared)[0].shape == ("batch", 4, 4, 6, 1)
    assert (TASK.plan(prepared, 3).patch, TASK.plan(prepared, 3).batch) == ((4, 4, 6), 3)


def test_windows_are_cut_from_where_their_rows_say(rows: pa.Table, prepared: Path) -> None:
    windows = TASK.windows(rows, prepared)
    feeds, masks = TASK.feeds(windows, prepared)["pixels"], TASK.masks(windows, prepared)
    assert feeds.shape == (windows.num_rows, 4, 4, 6, 1) and feeds.dtype == np.uint8
    wholes = {
        name: next(iter(case.values()))[..., 0]
        for name, case in zip(("v0", "v1"), TASK.whole(rows, prepared), strict=True)
    }
    inside = 0
    for place, row in enumerate(windows.to_pylist()):
        z, y, x = row["plane"], row["row"], row["column"]
        if row["id"] == "v0":
            assert (feeds[place, ..., 0] == wholes["v0"][z : z + 4, y : y + 4, x : x + 6]).all()
            inside += 1
        else:  # three rows in a window of four: none in front, one behind, which is not scored
            assert y == 0 and not feeds[place, :, 3].any() and (masks[place, :, 3] == -100).all()
            assert (feeds[place, :, :3, :, 0] == wholes["v1"][z : z + 4, :, x : x + 6]).all()
    assert inside >= 3
    assert any((mask == 1).any() for mask in masks)


def test_windows_are_the_same_every_time_and_each_once(rows: pa.Table, prepared: Path) -> None:
    windows = TASK.windows(rows, prepared)
    assert windows.equals(TASK.windows(rows, prepared)) and TASK.windows(windows, prepared) is windows
    places = [tuple(row.values()) for row in windows.select(["id", "plane", "row", "column"]).to_pylist()]
    assert len(set(places)) == len(places)


def test_drawn_windows_depend_on_their_key_alone_and_find_rare_classes(rows: pa.Table, prepared: Path) -> None:
    first = rows.slice(0, 1)
    drawn = [TASK.draw_windows(first, prepared, [(7, step, 0)]) for step in range(60)]
    again = TASK.draw_windows(rows.take([1, 0]), prepared, [(7, 5, 1), (7, 5, 0)])
    assert (
        again.slice(1, 1).select(["plane", "row", "column"]).to_pylist()
        == drawn[5].select(["plane", "row", "column"]).to_pylist()
    )
    shares = [(TASK.masks(row, prepared) == 2).any() for row in drawn]
    # White is one voxel of 864; a third of the draws begin with it, and by chance alone hardly any window has it.
    assert 0.2 < float(np.mean(shares)) < 0.6
    assert len({tuple(row.to_pylist()[0].values()) for row in drawn}) > 20


def test_scores_of_whole_volumes_ignore_what_lies_behind_them(rows: pa.Table) -> None:
    from edgeft.data.volumes import volume_masks

    classes = np.full((2, 9, 8, 12), 2, np.uint8)
    for answer, (_, truth) in zip(classes, volume_masks(rows), strict=True):
        answer[tuple(slice(extent) for extent in truth.shape)] = truth
    score = TASK.score({"classes": classes}, rows, LABELS)
    assert score.metrics["mean_dice"] == 1.0 and score.confusion.sum() == 9 * 8 * 12 + 5 * 3 * 6
    classes[1, 2] = 0  # half of its grey
    lost = TASK.score({"classes": classes}, rows, LABELS)
    assert lost.cases["dice_grey"][0] == 1.0 and lost.cases["dice_grey"][1] == pytest.approx(2 / 3)


def test_scores_of_windows_leave_out_what_lies_beyond(rows: pa.Table, prepared: Path) -> None:
    windows = TASK.windows(rows, prepared)
    masks = TASK.masks(windows, prepared)
    logits = np.stack([(masks == label).astype(np.float32) for label in range(3)], 1)
    score = TASK.score({"logits": logits}, windows, LABELS)
    assert score.metrics["mean_dice"] == 1.0 and score.confusion.sum() == (masks != -100).sum()
    with pytest.raises(StepError, match="NaN"):
        TASK.score({"logits": np.full_like(logits, np.nan)}, windows, LABELS)


def test_plain_values_are_what_the_artefact_computes(rows: pa.Table, prepared: Path) -> None:
    feeds = TASK.feeds(rows, prepared)
    values = TASK.plain(feeds, prepared)["pixel_values"]
    assert values.shape == (len(feeds["pixels"]), 1, 4, 4, 6) and values.dtype == np.float32
    assert np.allclose(values[:, 0], (feeds["pixels"][..., 0] / 255 - 0.5) / 0.5, atol=1e-6)


def test_a_damaged_preprocessing_is_refused(prepared: Path) -> None:
    path = prepared / "preprocess.json"
    stated = json.loads(path.read_text())
    for change in ({"overlap": 1.5}, {"depth": 0}, {"unknown": 1}, {"std": 0}):
        path.write_text(json.dumps({**stated, "volume": {**stated["volume"], **change}}))
        with pytest.raises(StepError, match="damaged"):
            read_volume_spec(prepared)


def test_serve_that_is_no_window_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="depth") as caught:
        make_volume_spec(tmp_path, {**SERVE, "depth": None}, (4, 4, 4))
    assert caught.value.where == "serve"


def test_an_answer_says_the_shares_of_the_labels() -> None:
    mask = np.zeros((1, 2, 2, 2), np.uint8)
    mask[0, 0] = 1
    found = TASK.answer({"classes": mask}, LABELS, {"grey": 0.9})[0]  # as `edgeft run` calls every task
    assert found["shares"] == {"rest": 0.5, "grey": 0.5, "white": 0.0} and found["mask"].shape == (2, 2, 2)


def test_a_latency_says_that_it_is_of_one_window(prepared: Path) -> None:
    from edgeft.pipeline.steps.windowed import window_words, windows_per_case

    assert windows_per_case(TASK, prepared) == 3 * 3 * 3  # 9 planes by steps of 3, 8 rows by 3, 12 columns by 4
    assert window_words(TASK, prepared) == "ONE window of 4 x 4 x 6, of which the largest volume, 9 x 8 x 12, has 27"
    assert (window_words(Segmentation(), prepared), windows_per_case(Segmentation(), prepared)) == ("", 1)
