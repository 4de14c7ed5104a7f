"""Volumes in a split's pack: read where they lie, hostile headers refused; blocks of the template as the source says."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from edgeft.data.pack import FOLDER
from edgeft.data.source import Intake, source_for
from edgeft.data.sources.mni_volumes import GAP, blocks
from edgeft.data.volumes import MOST_VOXELS, read_volume, volume_bytes, volume_masks, volumes
from edgeft.errors import EdgeftError, StepError, StoreError
from edgeft.recipe.schema import Data

RNG = np.random.default_rng(0)


def packed(folder: Path, arrays: list[Any], suffix: str = ".images") -> pa.Table:
    """Rows that point into a pack of these volumes."""
    parts = [volume_bytes(array) for array in arrays]
    (folder / "train").with_suffix(suffix).write_bytes(b"".join(parts))
    sizes = [len(part) for part in parts]
    at = [sum(sizes[:place]) for place in range(len(sizes))]
    prefix = "mask_" if suffix == ".masks" else ""
    rows = pa.table({"id": [f"v{place}" for place in range(len(parts))], f"{prefix}at": at, f"{prefix}size": sizes})
    return rows.replace_schema_metadata({FOLDER: str(folder / "train.images").encode()})


def test_volumes_come_back_each_in_its_own_shape(tmp_path: Path) -> None:
    arrays = [RNG.integers(0, 255, shape, dtype=np.uint8) for shape in ((3, 4, 5), (1, 1, 7), (6, 2, 2))]
    for suffix, read in ((".images", volumes), (".masks", volume_masks)):
        found = list(read(packed(tmp_path, arrays, suffix)))
        assert [name for name, _ in found] == ["v0", "v1", "v2"]
        assert all((ours == theirs).all() for (_, ours), theirs in zip(found, arrays, strict=True))


def test_a_volume_is_mapped_and_not_read(tmp_path: Path) -> None:
    found = next(volumes(packed(tmp_path, [np.zeros((4, 4, 4), np.uint8)])))[1]
    assert isinstance(found, np.memmap)


def test_equal_voxels_are_equal_bytes() -> None:
    volume = RNG.integers(0, 255, (3, 4, 5), dtype=np.uint8)
    assert volume_bytes(volume) == volume_bytes(volume.copy(order="F"))
    assert (read_volume(volume_bytes(volume), "x") == volume).all()


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(text: str) -> bytes:
    raw = text.encode()
    return b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"not an array", "not a volume"),
        (npy(np.zeros((2, 2, 2))), "float64"),
        (npy(np.zeros((2, 2), np.uint8)), "uint8 (depth, rows, columns) is expected"),
        (npy(np.zeros((2, 2, 2), np.uint8, order="F")), "is expected"),
        (npy(np.array([[[{}]]], dtype=object)), "object"),
        (npy(np.zeros((2, 2, 2), np.uint8))[:-1], "ends early"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (65536, 65536, 65536), }\n"), f"{MOST_VOXELS:,}"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 2, 2), }\n"), "is expected"),
        (header("__import__('os').system('true')\n"), "not a volume"),
    ],
)
def test_what_is_no_volume_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(StepError) as caught:
        read_volume(raw, "case 7")
    assert said in caught.value.what and caught.value.where == "case 7"


def test_a_pack_that_was_cut_short(tmp_path: Path) -> None:
    rows = packed(tmp_path, [np.zeros((4, 4, 4), np.uint8)])
    pack = tmp_path / "train.images"
    pack.write_bytes(pack.read_bytes()[:-5])
    with pytest.raises(StoreError, match="end early, at v0"):
        list(volumes(rows))


def test_rows_without_a_pack_say_so() -> None:
    with pytest.raises(EdgeftError, match="have no volumes"):
        list(volumes(pa.table({"id": ["a"]})))


def test_slabs_lie_apart_and_blocks_do_not_overlap() -> None:
    spans: dict[str, tuple[int, int]] = {}
    seen = np.zeros((189, 192, 80), bool)
    for block in blocks():
        spans[block.slab] = (block.at[1].start, block.at[1].stop)
        assert not seen[block.at].any() and seen[block.at].shape == tuple(s.stop - s.start for s in block.at)
        seen[block.at] = True
    ordered = sorted(spans.values())
    assert all(after[0] - before[1] == GAP for before, after in itertools.pairwise(ordered))
    assert {block.split for block in blocks()} == {"train", "validation", "calibration", "search", "gate"}


def test_blocks_of_the_template_hold_what_the_slices_hold(tmp_path: Path) -> None:
    pytest.importorskip("nilearn")
    from edgeft.data.sources.mni_slices import read_half

    spec = Data(source="mni-volumes", options={"scanners": ["plain"]}, labels=("rest", "grey", "white"))
    source = source_for(spec)
    assert source.whole and source.decodes
    medical = {"window": [0, 255], "orientation": "RAS", "spacing": None, "invert": True}
    table = source.read_into(spec, None, ("image", "label", "slab"), print, Intake(tmp_path, medical)).to_pylist()
    brain, tissues = read_half()
    assert len(table) == len(list(blocks())) and {row["spacing"] for row in table} == {"1 1 1"}
    for row, block in list(zip(table, blocks(), strict=True))[::17]:
        image, mask = (read_volume(Path(row[name]).read_bytes(), name) for name in ("file", "mask_file"))
        assert (image == brain.transpose(2, 1, 0)[block.at]).all()
        assert (mask == tissues.transpose(2, 1, 0)[block.at]).all()
        assert row["present"] == " ".join(str(value) for value in np.unique(mask))
    for part in ("calibration", "search", "gate", "train"):  # every split shows every tissue
        assert {v for row in table if row["split"] == part for v in row["present"].split()} == {"0", "1", "2"}


def test_another_orientation_turns_image_and_mask_alike(tmp_path: Path) -> None:
    pytest.importorskip("nilearn")
    spec = Data(source="mni-volumes", options={"scanners": ["plain"]}, labels=("rest", "grey", "white"))
    found = []
    for orientation in ("RAS", "SPL"):
        folder = tmp_path / orientation
        folder.mkdir()
        medical = {"window": [0, 255], "orientation": orientation, "spacing": None, "invert": True}
        row = source_for(spec).read_into(spec, None, ("image",), print, Intake(folder, medical)).to_pylist()[40]
        found.append([read_volume(Path(row[name]).read_bytes(), name) for name in ("file", "mask_file")])
    for plain, turned in zip(*found, strict=True):  # columns, rows, slices grow to S, P, L instead of R, A, S
        assert (plain.transpose(2, 1, 0)[::-1, ::-1] == turned).all()
