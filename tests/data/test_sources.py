"""Hugging Face datasets, image folders and docstrings, each from real files."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from edgeft.canonical import digest_file
from edgeft.data.source import fingerprint, source_for
from edgeft.data.sources.docstring_text import docstrings, first_prose, mask, mask_pattern
from edgeft.errors import EdgeftError, RecipeError, StepError
from edgeft.recipe.schema import Data

from .kit import ImageTask, build

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def read(columns: tuple[str, ...], warnings: list[str] | None = None, **data: Any) -> pa.Table:
    spec = Data(**data)
    heard = warnings if warnings is not None else []
    return source_for(spec).read(spec, None, columns, heard.append)


def refusal(columns: tuple[str, ...] = ("text", "label"), **data: Any) -> EdgeftError:
    with pytest.raises(EdgeftError) as caught:
        read(columns, **data)
    return caught.value


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DatasetDict on disk: 90 train and 30 test rows, class labels as integers."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"]), "extra": Value("int32")})

    def part(start: int, n: int) -> Any:
        numbers = range(start, start + n)
        return Dataset.from_dict(
            {"text": [f"text {i}" for i in numbers], "label": [i % 2 for i in numbers], "extra": list(numbers)},
            features,
        )

    folder = tmp_path_factory.mktemp("hf") / "saved"
    DatasetDict({"train": part(0, 90), "test": part(90, 30)}).save_to_disk(str(folder))
    return folder


def test_huggingface_folder_with_its_own_splits(saved: Path, tmp_path: Path) -> None:
    table = read(("text", "label", "split"), source="huggingface", path=str(saved))
    assert table.column("split").to_pylist() == ["test"] * 30 + ["train"] * 90
    assert set(table.column("label").to_pylist()) == {"no", "yes"}
    facts = build(tmp_path / "out", source="huggingface", path=str(saved), split="split")
    assert facts["splits"]["gate"]["n"] == 30
    assert facts["labels"] == ["no", "yes"]


def test_huggingface_one_split(saved: Path) -> None:
    one = {"source": "huggingface", "path": str(saved)}
    assert read(("text", "label"), **one, options={"split": "test"}).num_rows == 30
    error = refusal(**one, options={"split": "dev"})
    assert (error.where, error.hint) == ("data.options.split", "it has: test, train")
    assert refusal(("text", "labels"), **one).hint.startswith("did you mean 'label'?")


def test_huggingface_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    error = refusal(source="huggingface", path=str(tmp_path / "x"))
    assert isinstance(error, StepError)
    assert "save_to_disk" in error.hint


def test_huggingface_fingerprint_of_folder_and_hub_id(saved: Path) -> None:
    local = fingerprint(Data(source="huggingface", path=str(saved)), digest_file)
    assert str(saved.parent) not in json.dumps(local)
    hub = fingerprint(Data(source="huggingface", path="org/name", revision=COMMIT), digest_file)
    assert hub["content"] == {"all": {"id": "org/name", "revision": COMMIT}}


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:8]])
def test_hub_dataset_needs_a_commit(revision: str | None) -> None:
    with pytest.raises(RecipeError, match="40 digits of a commit"):
        fingerprint(Data(source="huggingface", path="org/name", revision=revision), digest_file)


def test_hub_dataset_that_is_absent_offline(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom edgeft.recipe.schema import Data\nfrom edgeft.data.source import source_for\n"
        "from edgeft.errors import EdgeftError\n"
        f"spec = Data(source='huggingface', path='org/name', revision='{COMMIT}')\n"
        "try:\n    source_for(spec).read(spec, None, ('text', 'label'), print)\nexcept EdgeftError as error:\n    print(error.render())"
    )
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "hub dataset 'org/name' at 01234567 is not on this machine, and the build is offline" in done.stdout
    assert "edgeft fetch" in done.stdout


def test_hub_id_of_no_form(tmp_path: Path) -> None:
    assert (
        refusal(source="huggingface", path="no/such/thing").what
        == "no folder 'no/such/thing', and it is no hub id either"
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    from PIL import Image

    root = tmp_path / "images"
    for label, shade in (("dark", 20), ("light", 220)):
        (root / label / "more").mkdir(parents=True)
        for place in range(60):
            folder = root / label / "more" if place % 2 else root / label
            Image.new("L", (8, 8), shade + place % 10).save(folder / f"{place:02}.png")
    return root


def test_image_folder(images: Path, tmp_path: Path) -> None:
    table = read(("image", "label"), source="image-folder", path=str(images))
    assert table.num_rows == 120
    assert table.column("image").to_pylist()[:2] == ["dark/00.png", "dark/02.png"]
    facts = build(tmp_path / "out", source="image-folder", path=str(images), task=ImageTask())
    assert facts["labels"] == ["dark", "light"]
    assert refusal(source="image-folder", path=str(images)).what == "no column 'text'"


def test_unreadable_images_are_counted_and_left_out(images: Path) -> None:
    from PIL import Image

    whole = images / "dark" / "a.jpg"
    Image.effect_noise((64, 64), 50).save(whole)
    (images / "dark" / "cut.jpg").write_bytes(whole.read_bytes()[:-600])
    png = images / "dark" / "00.png"
    (images / "dark" / "cut.png").write_bytes(png.read_bytes()[:-20])
    (images / "light" / "text.png").write_text("not an image")
    (images / "beside.png").write_bytes(png.read_bytes())
    warnings: list[str] = []
    table = read(("image", "label"), warnings, source="image-folder", path=str(images))
    assert table.num_rows == 121
    assert warnings == [
        "1 images lie beside the class folders and are left out: beside.png",
        "3 of 124 images cannot be read and are left out: dark/cut.jpg, dark/cut.png, light/text.png",
    ]


def test_a_decompression_bomb_is_named(images: Path) -> None:
    """A valid PNG header that promises 30,000 x 30,000 pixels in a few bytes."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    content = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    bomb = images / "light" / "bomb.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    error = refusal(("image", "label"), source="image-folder", path=str(images))
    assert (error.where, error.hint[:32]) == (str(bomb), "it may be a decompression bomb; ")
    assert "50 megapixels" in error.what


def test_image_file_size_limit_and_links_out_of_the_root(images: Path, tmp_path: Path) -> None:
    error = refusal(("image", "label"), source="image-folder", path=str(images), options={"max_file_mb": 0.00001})
    assert error.what == "larger than 1e-05 MB"
    outside = tmp_path / "secret.png"
    outside.write_bytes((images / "dark" / "00.png").read_bytes())
    link = images / "dark" / "link.png"
    link.symlink_to(outside)
    error = refusal(("image", "label"), source="image-folder", path=str(images))
    assert (error.where, error.what) == (str(link), "a link that leads out of the image folder")
    link.unlink()
    (images / "escape").symlink_to(tmp_path)
    assert refusal(("image", "label"), source="image-folder", path=str(images)).where == str(images / "escape")


SMALL = {"packages": ["jinja2", "rich"], "per_package": 150}


def test_docstrings_of_small_packages() -> None:
    table = read(("text", "label", "module", "name"), source="docstrings", options=SMALL)
    rows = table.to_pylist()
    assert {row["label"] for row in rows} == {"jinja2", "rich"}
    assert table.num_rows > 150
    for row in rows:
        assert 60 <= len(row["text"]) <= 320
        assert row["module"].split(".")[0] == row["label"]
        assert "jinja" not in row["text"].lower()
        assert " rich " not in f" {row['text'].lower()} "
    texts = [" ".join(row["text"].split()).casefold() for row in rows]
    assert len(set(texts)) == len(texts)
    assert table == read(("text", "label"), source="docstrings", options=SMALL)


def test_docstrings_import_nothing_and_fingerprint_is_cheap() -> None:
    code = (
        "import sys\nfrom edgeft.recipe.schema import Data\nfrom edgeft.data.source import fingerprint, source_for\n"
        "spec = Data(source='docstrings', options={'packages': ['jinja2', 'networkx'], 'per_package': 20})\n"
        "found = fingerprint(spec, None)\n"
        "heavy = {'pyarrow', 'numpy', 'torch', 'transformers', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert found['content']['packages']['jinja2']\n"
        "source_for(spec).read(spec, None, ('text', 'label'), print)\n"
        "assert not {'jinja2', 'networkx'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_docstrings_refusals() -> None:
    error = refusal(source="docstrings", options={"packages": ["rich", "no_such_package"]})
    assert (error.where, error.what) == ("data.options.packages", "no package 'no_such_package' is installed")
    assert "top-level package" in refusal(source="docstrings", options={"packages": ["rich", "os.path"]}).what
    assert "min_chars is above" in refusal(source="docstrings", options={"min_chars": 90, "max_chars": 80}).what
    assert refusal(("words",), source="docstrings", options=SMALL).what == "no column 'words'"


def test_docstrings_in_order_with_qualified_names() -> None:
    source = b'"""M."""\nclass A:\n    """A."""\n    def f(self):\n        """F."""\n        def g():\n            """G."""\n\ndef h():\n    """H."""\n'
    assert list(docstrings(source)) == [("", "M."), ("A", "A."), ("A.f", "F."), ("h", "H.")]


def test_first_prose_stops_at_sections_and_cuts_between_words() -> None:
    text = "Fit the :class:`~a.Model` to ``X`` as told by the *user* [1]_.\n\nIt may warn (GH#12).\n\nParameters\n----------\nx : int\n"
    assert first_prose(text, 20, 200) == "Fit the a.Model to X as told by the user. It may warn ."
    assert first_prose("One two three four five six seven eight", 5, 20) is None
    assert first_prose("One two three four five six seven eight", 5, 30) == "One two three four five six"
    assert (
        first_prose("Turns this into that, and back again::\n\n    code(1)\n", 5, 80)
        == "Turns this into that, and back again"
    )
    assert first_prose("Too short.", 20, 80) is None


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Like np.linalg.norm, but NumPy's own", "Like LIB, but LIB's own"),
        ("See scikit-learn or sklearn.svm.SVC", "See LIB or LIB"),
        ("PyTorch tensors; torchscript; a torch", "LIB tensors; LIB; a LIB"),
        ("Feature transformers of Transformers", "Feature LIB of LIB"),
        ("a transformer input, npx and tnp", "a transformer input, npx and tnp"),
        ("numpy/numpy arrays", "LIB arrays"),
    ],
)
def test_library_names_are_masked(text: str, masked: str) -> None:
    assert mask(text, mask_pattern(["numpy", "sklearn", "torch", "transformers"])) == masked
