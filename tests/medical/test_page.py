"""docs/medical.md, section Reading: its example runs as written, and what it promises of limits and facts is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.medical.facts import OFTEN_BURNED
from edgeft.medical.limits import GiB, Limits
from tests.medical.material import save, write_series
from tests.medical.test_masks import segmentation

PAGE = (Path(__file__).parents[2] / "docs" / "medical.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pydicom

    monkeypatch.chdir(tmp_path)
    files = write_series(Path("scans/case01"), [0.0, 2, 4])
    sources = []
    for file in files:
        source = pydicom.dcmread(file)
        source.PatientName = source.PatientBirthDate = source.PatientSex = source.AccessionNumber = ""
        source.StudyID = source.StudyDate = source.StudyTime = source.ReferringPhysicianName = ""
        source.FrameOfReferenceUID, source.PositionReferenceIndicator = "1.2.3", ""
        sources.append(source)
    drawn = np.zeros((3, 4, 6), np.uint8)
    drawn[1, 1:3, 2:5], drawn[2, 0, 0] = 1, 2
    save(segmentation(drawn, sources, ["liver", "tumour"]), Path("scans/case01-seg.dcm"))
    found: dict[str, Any] = {}
    block = re.search(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert block is not None
    exec(block.group(1), found)
    assert found["image"].values.shape == (3, 4, 6)
    np.testing.assert_array_equal(found["mask"], drawn)


def test_the_numbers_are_those_of_the_code() -> None:
    limits = Limits()
    assert f"limited to {limits.memory // GiB} GiB" in PAGE
    assert f"each file to {limits.seconds:.0f} seconds" in PAGE
    listed = re.search(r"the modality is\s+(.*?) and the attribute", PAGE, flags=re.DOTALL)
    assert listed is not None
    assert sorted(re.findall(r"[A-Z]{2,}", listed.group(1))) == sorted(OFTEN_BURNED)
