"""The reference on targets: by this machine's worker and under another processor; and what is not equal is refused."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.device.profile import load_device
from edgeft.errors import StepError
from edgeft.medical import order, reference
from edgeft.pipeline.golden.steps import _wave_slice
from edgeft.targets import preprocessing
from edgeft.targets.preprocessing import LEVELS, compare, refuse_difference, run_reference

STATED = {
    "image": {"height": 24, "width": 20, "source": None, "shortest": None, "channels": 1},
    "medical": {"window": [-100.0, 300.0], "orientation": "plane", "spacing": [0.0, 1.1, 0.9], "invert": True},
}
SLICES = [_wave_slice(turn, (-100, 300)) for turn in range(8)]


def ours() -> Any:
    return np.stack([reference.pixels(raw, STATED, order) for raw in SLICES])


def row(theirs: Any, **more: Any) -> Any:
    options = {
        "against": "there",
        "how": "measured",
        "origin": "x set",
        "tolerance": LEVELS,
        "unit": "grey levels of 255",
    }
    return compare(ours(), theirs, [f"case{n}" for n in range(8)], white=255, **{**options, **more})


def test_built_in_slices_reach_every_direction_and_both_ends_of_the_window() -> None:
    pixels = ours()
    assert pixels.min() == 0 and pixels.max() == 255
    affines = [reference.unpack(raw)[1] for raw in SLICES]
    assert len({tuple(np.sign(affine[:2, 1:3]).ravel()) for affine in affines}) == 4
    assert {reference.unpack(raw)[2] for raw in SLICES} == {True, False}


def test_the_worker_runs_the_file_that_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy is what counts: one that turns the image is seen, though this process has the right one imported."""
    device = load_device("local-cpu")
    assert np.array_equal(run_reference(device, SLICES, STATED), ours())
    own, order_file = preprocessing.reference_files()
    turned = own.read_text().replace("    return np.repeat(grey", "    grey = grey[::-1]\n    return np.repeat(grey")
    (tmp_path / "reference.py").write_text(turned)
    monkeypatch.setattr(preprocessing, "reference_files", lambda: (tmp_path / "reference.py", order_file))
    assert np.array_equal(run_reference(device, SLICES, STATED), ours()[:, ::-1])


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("qemu-x86_64-static") is None or sys.platform != "linux",
    reason="needs qemu-user-static on x86-64 Linux: apt install qemu-user-static",
)
def test_another_processor_is_within_a_level() -> None:
    theirs = run_reference(load_device("haswell-emulated"), SLICES, STATED)
    assert row(theirs).passed and theirs.max() == 255


def test_a_level_passes_and_two_do_not() -> None:
    one, two = ours().astype(int), ours().astype(int)
    one[3, 5, 5] += 1 if one[3, 5, 5] < 255 else -1
    two[3, 5, 5] += 2 if two[3, 5, 5] < 254 else -2
    assert row(one).passed and row(one).pair is None
    refuse_difference(row(one))
    failed = row(two)
    assert not failed.passed and failed.pair.case == "case3" and failed.difference == 2
    with pytest.raises(StepError, match="preprocessing differs: there is up to 2 grey levels of 255") as caught:
        refuse_difference(failed)
    assert "report.html shows" in caught.value.hint


def test_what_is_no_number_or_has_another_shape_never_passes() -> None:
    broken = ours().astype(float)
    broken[2, 0, 0] = np.nan
    assert not row(broken).passed and row(broken).pair.case == "case2"
    with pytest.raises(StepError, match=r"gives \(24, 10, 1\)"):
        row(ours()[:, :, :10])


def test_the_pictures_are_in_the_report_and_escaped() -> None:
    from edgeft.report.preprocessing import preprocessing_blocks

    found = row(255 - ours(), against="<mine>.py:f")
    blocks = preprocessing_blocks([found])
    drawn = str(next(block for block in blocks if block.kind == "figures").plots[0].picture)
    assert all(data in drawn for data in (found.pair.ours, found.pair.theirs, found.pair.difference))
    assert "<mine>" not in drawn and "&lt;mine&gt;" in drawn
    assert preprocessing_blocks([]) == []
