"""Files made to harm: refused by name, within the limits on memory and time, and the next file is read as ever."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, RLELossless

from edgeft.errors import RecipeError, StepError
from edgeft.medical.limits import Limits
from edgeft.medical.read import Reader, Reading
from tests.medical.material import TEST_FILES, deflated, element, image, prefix, save

DEFLATED, EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
MEMORY = 256 << 20
SMALL = Limits(memory=MEMORY, seconds=60)
GOOD = TEST_FILES / "CT_small.dcm"


@pytest.fixture(scope="module")
def small() -> Iterator[Reader]:
    with Reader(SMALL, Reading(), key=bytes(32)) as made:
        yield made


def deflate_bomb(folder: Path) -> Path:
    """0.2 MB that unpack to 200 MB."""
    body = element(0x0028, 0x0010, b"US", b"\0\1") + element(0x7FE0, 0x0010, b"OW", bytes(200 << 20))
    return _write(folder / "deflate.dcm", prefix(DEFLATED) + deflated(body))


def rle_bomb(folder: Path) -> Path:
    """8 MB of runs that unpack to 512 MB, where the header states 4 MB."""
    data = image(np.zeros((2, 2), np.uint8), Rows=2100, Columns=2100)
    data.file_meta.TransferSyntaxUID = RLELossless
    runs = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\x00" * ((8 << 20) // 2 - 64)
    data.PixelData = encapsulate([runs])
    data["PixelData"].is_undefined_length = True
    return save(data, folder / "rle.dcm")


def rle_flood(folder: Path) -> Path:
    """The same for an image of 4 pixels: far more compressed bytes than pixels."""
    data = image(np.zeros((2, 2), np.uint8))
    data.file_meta.TransferSyntaxUID = RLELossless
    data.PixelData = encapsulate([bytes(1 << 20)])
    data["PixelData"].is_undefined_length = True
    return save(data, folder / "flood.dcm")


def codestream_bomb(folder: Path) -> Path:
    """A JPEG 2000 codestream of 60,000 x 60,000 in an image of 4 x 6."""
    data = image(np.zeros((4, 6), np.uint16))
    data.file_meta.TransferSyntaxUID = JPEG2000Lossless
    size = struct.pack(">HHH8L", 0xFF51, 47, 0, 60000, 60000, 0, 0, 60000, 60000, 0, 0)
    data.PixelData = encapsulate([b"\xff\x4f" + size + bytes(100)])
    data["PixelData"].is_undefined_length = True
    return save(data, folder / "codestream.dcm")


def nested(folder: Path) -> Path:
    """A thousand sequences within sequences, 20 bytes each."""
    level = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + ITEM
    return _write(folder / "nested.dcm", prefix(EXPLICIT) + level * 1000)


def nested_unknown(folder: Path) -> Path:
    """The same in an element of unknown kind, whose inside is implicit (PS3.5 6.2.2)."""
    first = struct.pack("<HH2sHL", 0x0009, 0x1140, b"UN", 0, 0xFFFFFFFF) + ITEM
    level = struct.pack("<HHL", 0x0009, 0x1140, 0xFFFFFFFF) + ITEM
    return _write(folder / "unknown.dcm", prefix(EXPLICIT) + first + level * 1000)


def nested_implicit(folder: Path) -> Path:
    """The same with stated lengths, implicit: a parser meets them only when it looks inside."""
    body = b""
    for _ in range(500):
        item = struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body
        body = struct.pack("<HHL", 0x0008, 0x1140, len(item)) + item
    return _write(folder / "implicit.dcm", prefix(IMPLICIT) + body)


def huge(folder: Path) -> Path:
    """65,535 x 65,535 pixels in a few bytes."""
    return save(image(np.zeros((2, 2), np.uint16), Rows=65535, Columns=65535), folder / "huge.dcm")


def many_frames(folder: Path) -> Path:
    """Two billion frames."""
    return save(image(np.zeros((2, 2), np.uint16), NumberOfFrames=2_000_000_000), folder / "frames.dcm")


def gzip_bomb(folder: Path) -> Path:
    """A header of 15,000^3 voxels, and zeros."""
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), folder / "a.nii")
    raw = bytearray((folder / "a.nii").read_bytes())
    raw[40:48] = np.array((3, 15000, 15000, 15000), "<i2").tobytes()
    return _write(folder / "bomb.nii.gz", gzip.compress(bytes(raw) + bytes(4 << 20)))


def lut_bomb(folder: Path) -> Path:
    """A modality LUT that states 65,536 entries and has four bytes."""
    data = image(np.zeros((2, 2), np.uint16))
    data.ModalityLUTSequence = [type(data)()]
    data.ModalityLUTSequence[0].LUTDescriptor = [0, 0, 16]
    data.ModalityLUTSequence[0]["LUTDescriptor"].VR = "US"
    data.ModalityLUTSequence[0].LUTData = b"\0\0\0\0"
    data.ModalityLUTSequence[0]["LUTData"].VR = "OW"
    return save(data, folder / "lut.dcm")


HOSTILE = {
    deflate_bomb: "unpacks to more than 64 MiB",
    rle_bomb: "is RLE .* cannot be decoded",
    rle_flood: "far more than they decode to",
    codestream_bomb: "compressed pixels of 60,000 x 60,000 in frame 1 and states 4 x 6",
    nested: "nested more than 16 levels deep",
    nested_unknown: "nested more than 16 levels deep",
    nested_implicit: "nested more than 16 levels deep",
    huge: "65,535 x 65,535 pixels; the limit is",
    many_frames: "2,000,000,000 frames",
    gzip_bomb: "GiB once decoded; the limit is",
    lut_bomb: "modality LUT of 4 entries and states 65536",
}


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_refused_by_name_and_the_next_file_is_read(tmp_path: Path, small: Reader, make: object) -> None:
    path = make(tmp_path)  # type: ignore[operator]
    with pytest.raises(StepError, match=HOSTILE[make]) as caught:  # type: ignore[index]
        small.read(path)
    assert caught.value.where == str(path)
    assert small.read(GOOD).values.shape == (1, 128, 128)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's address space")
def test_no_hostile_file_takes_more_memory_than_its_limit(tmp_path: Path) -> None:
    """The largest child there was, read by the system; the RLE bomb alone would take 512 MB more without a limit."""
    files = [make(tmp_path) for make in HOSTILE]
    program = (
        "import json, resource, sys; from pathlib import Path\n"
        "from edgeft.errors import StepError; from edgeft.medical.limits import Limits\n"
        "from edgeft.medical.read import Reader, Reading\n"
        "def run(files, memory):\n"
        "    with Reader(Limits(memory=memory), Reading(), key=bytes(32)) as reader:\n"
        "        for file in files:\n"
        "            try: reader.read(Path(file))\n"
        "            except StepError: pass\n"
        "    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024\n"
        "files, memory = json.loads(sys.argv[1])\n"
        "print(run(files, memory))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps([[str(GOOD), *map(str, files)], MEMORY])],
        capture_output=True, text=True, timeout=300, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert int(done.stdout) < MEMORY + (150 << 20), "what Python and pydicom take themselves is below 150 MB"


def test_too_many_elements(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.dcm", prefix(EXPLICIT) + element(0x0009, 0x0010, b"LO", b"") * 3000)
    with (
        Reader(Limits(elements=1000), key=bytes(32)) as reader,
        pytest.raises(StepError, match="more than 1,000 data elements"),
    ):
        reader.read(path)


def test_a_file_that_is_too_large_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    with path.open("wb") as stream:
        stream.truncate(3 << 30)
    with Reader(key=bytes(32)) as reader, pytest.raises(StepError, match=r"is 3\.2 GB; the limit is 2\.1 GB"):
        reader.read(path)


def test_a_file_that_takes_too_long_is_stopped_and_the_next_is_read(tmp_path: Path) -> None:
    pixels = np.zeros((40, 512, 512), np.int16)
    slow = save(image(pixels, ImagePositionPatient=None), tmp_path / "slow.dcm")
    with Reader(Limits(seconds=0.001), key=bytes(32)) as reader:
        with pytest.raises(StepError, match=r"was not read within 0\.001 seconds: stopped") as caught:
            reader.read(slow)
        assert caught.value.where == str(slow)
        reader.child.limits = Limits()
        assert reader.read(GOOD).values.shape == (1, 128, 128)
        assert reader.child.starts == 2


def test_a_process_that_dies_is_started_again(small: Reader) -> None:
    small.read(GOOD)
    assert small.child._process is not None
    small.child._process.kill()
    with pytest.raises(StepError, match=r"ended early \(signal 9\)"):
        small.read(GOOD)
    assert small.read(GOOD).values.shape == (1, 128, 128)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_no_file(tmp_path: Path, small: Reader) -> None:
    os.mkfifo(tmp_path / "a.dcm")
    with pytest.raises(RecipeError, match="neither a file nor a folder"):
        small.read(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_implicit.dcm", "image_dfl.dcm"]
)
def test_damaged_bytes_give_an_image_or_a_refusal(tmp_path: Path, small: Reader, name: str) -> None:
    """Forty damaged copies of each: never a traceback, a hang, or an answer that is neither."""
    whole = (TEST_FILES / name).read_bytes()
    draw = np.random.default_rng(11)
    refused = 0
    for number in range(40):
        raw = bytearray(whole)
        for place in draw.integers(128, len(raw), 1 + number % 20):
            raw[place] = draw.integers(256)
        if number % 4 == 0:
            raw = raw[: draw.integers(140, len(raw))]
        path = _write(tmp_path / "a.dcm", bytes(raw))
        try:
            assert np.isfinite(small.read(path).values).all()
        except StepError as error:
            refused += 1
            assert error.what and "Traceback" not in error.what and error.where == str(path)
    assert refused >= 10, "a quarter of them are cut short"


def test_damaged_nifti(tmp_path: Path, small: Reader) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((5, 6, 7), np.float32), np.eye(4)), tmp_path / "good.nii")
    whole = (tmp_path / "good.nii").read_bytes()
    draw = np.random.default_rng(12)
    for _ in range(80):
        raw = bytearray(whole)
        for place in draw.integers(0, 352, 3):
            raw[place] = draw.integers(256)
        path = _write(tmp_path / "a.nii", bytes(raw))
        try:
            assert np.isfinite(small.read(path).values).all()
        except StepError as error:
            assert error.where == str(path)


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
