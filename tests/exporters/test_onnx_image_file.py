"""A decoder of image files inside the graph: Pillow's pixels, taken off for quantising, and files that it refuses."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from edgeft_exporters.onnx import image_file, image_parity, resize_nodes
from edgeft_exporters.onnx.exporter import OnnxExporter
from edgeft_exporters.onnx.front import detach, front_session, put_back
from edgeft_exporters.onnx.image_parity import prove_pixels
from onnx import TensorProto, helper

from edgeft.artifact import Artifact
from edgeft.device.profile import Device, load_device
from edgeft.exporter import Unsupported, Variant
from edgeft.runtimes import ort
from edgeft.stage import Split
from edgeft.tasks.image_files import golden_files, write_jpeg, write_png
from edgeft.tasks.image_spec import ImageSpec
from edgeft.tasks.images import decode, fit
from tests.exporters.test_images import LABELS, SERVE, make
from tests.tasks.test_images import photograph

pytest.importorskip("onnxruntime_extensions")
pytestmark = pytest.mark.ml

FULL_COLOUR = 1
"""libjpeg and libjpeg-turbo round the inverse transform and the colours alike but for a last unit."""
SPECS: dict[str, dict[str, Any]] = {
    "stretched": {},
    "the middle cut out": {"shortest": 40},
    "grey": {"channels": 1, "order": "L", "mean": (0.5,), "std": (0.5,)},
    "enlarged": {"height": 90, "width": 101},
}


def spec_of(**changes: Any) -> ImageSpec:
    values = {"embed": "bytes", "height": 32, "width": 24, "mean": (0.5,) * 3, "std": (0.5,) * 3, **changes}
    return ImageSpec.model_validate(values)


def bare(spec: ImageSpec) -> onnx.ModelProto:
    """A graph that gives its pixels back, behind the decoder."""
    shape = ["batch", spec.height, spec.width, spec.channels]
    given, made = (helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in ("pixels", "logits"))
    graph = helper.make_graph([helper.make_node("Identity", ["pixels"], ["logits"], "same")], "g", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    image_file.attach_decoder(model, spec)
    onnx.checker.check_model(model)
    return model


def decoded(model: onnx.ModelProto, raw: bytes, behind: int = 0) -> Any:
    session, _ = front_session(model, image_file.PREFIX)
    return session.run(None, {"file": np.frombuffer(raw + b"\0" * behind, np.uint8)[None]})[0][0].astype(int)


def plain(raw: bytes, spec: ImageSpec) -> Any:
    image = fit(decode(raw, spec.channels, "x"), spec)
    return np.asarray(image, int).reshape(spec.height, spec.width, spec.channels)


def picture(height: int = 61, width: int = 47, seed: int = 0) -> Any:
    from PIL import Image

    return Image.fromarray(photograph(height, width, seed))


def encode(image: Any, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=form, **options)
    return stream.getvalue()


def table(files: dict[str, bytes]) -> pa.Table:
    return pa.table({"image": list(files), "bytes": list(files.values())})


@pytest.mark.parametrize("kind", SPECS)
def test_every_form_of_png_is_exact_and_every_jpeg_near(kind: str) -> None:
    """Also turned, one pixel wide, with alpha, and with zeros behind the file."""
    spec = spec_of(**SPECS[kind])
    model = bare(spec)
    files = {**golden_files(picture()), "large.png": write_png(picture(300, 410))}
    for height, width in ((20, 30), (30, 20), (400, 25), (25, 400), (64, 40), (65, 40)):
        files[f"{height} rows, {width} columns.png"] = write_png(picture(height, width))
    for name, raw in files.items():
        limit = FULL_COLOUR if name.endswith(".jpg") else 0
        assert np.abs(decoded(model, raw, behind=9) - plain(raw, spec)).max() <= limit, name


def test_photographs_as_cameras_write_them_are_within_the_tolerance() -> None:
    """The bound is used: colours of half resolution differ by more than rounding, and less than is allowed."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photos = {str(at): write_jpeg(Image.fromarray(image)) for at, image in enumerate(load_sample_images().images)}
    found = prove_pixels(bare(spec_of(height=224, width=224)), table(photos), spec_of(height=224, width=224))
    assert FULL_COLOUR < found["jpeg_most"] < image_parity.JPEG_MOST / 2
    assert 0.1 < found["jpeg_mean"] < image_parity.JPEG_MEAN / 2


@pytest.mark.parametrize("wrong", ["order", "turn", "filter"])
def test_another_decoding_is_caught(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of()
    if wrong == "turn":
        monkeypatch.setattr(image_file, "TURNS", ((0, 0, 0),) * 10)
    elif wrong == "filter":
        monkeypatch.setattr(resize_nodes, "ONE", float(1 << 12))
    model = bare(spec)
    if wrong == "order":
        steps = next(item for item in model.graph.initializer if item.name == "file/steps")
        assert b"\xff" * 8 in steps.raw_data
        for name, column in (("steps", 1), ("starts", 0), ("ends", 1 << 40)):
            item = next(item for item in model.graph.initializer if item.name == f"file/{name}")
            values = onnx.numpy_helper.to_array(item).copy()
            values[:, 2] = column
            item.CopyFrom(onnx.numpy_helper.from_array(values, item.name))
    with pytest.raises(Unsupported, match="gives other pixels of 'a"):
        prove_pixels(model, table({"a.png": write_png(picture())}), spec)


REFUSED = {
    "a JPEG cut off": (encode(picture(), "JPEG")[:700], "a whole JPEG or PNG"),
    "a PNG cut off": (write_png(picture())[:700], "a whole JPEG or PNG"),
    "another format": (encode(picture(), "BMP"), "a whole JPEG or PNG"),
    "no image": (b"not an image at all, and longer than a header", "a whole JPEG or PNG"),
    "a few bytes": (b"\xff\xd8\xff", "a whole JPEG or PNG"),
    "a grey JPEG": (encode(picture().convert("L"), "JPEG"), "a JPEG in colour or a PNG"),
    "a CMYK JPEG": (encode(picture().convert("CMYK"), "JPEG"), "a JPEG in colour or a PNG"),
    "16 bits": (write_png(picture().convert("I;16")), "have 8 bits a channel"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_operator_must_not_be_given_is_refused_in_words(kind: str, tmp_path: Path) -> None:
    raw, words = REFUSED[kind]
    (tmp_path / "model.onnx").write_bytes(bare(spec_of()).SerializeToString())
    session = ort.load(str(tmp_path / "model.onnx"), {})
    with pytest.raises(ValueError, match=f"^the file must (be )?{words}"):
        session.run({"file": np.frombuffer(raw, np.uint8)[None]})
    good = write_png(picture())
    assert session.run({"file": np.frombuffer(good, np.uint8)[None]})["logits"].shape == (1, 32, 24, 3)


def test_damage_inside_a_png_is_an_error() -> None:
    raw = bytearray(write_png(picture()))
    raw[200] ^= 255
    with pytest.raises(Exception, match="Error during png creation"):
        decoded(bare(spec_of()), bytes(raw))


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Artifact, Any]:
    """The tiny convolution net with the decoder in front, and its context."""
    model, context = make(tmp_path, "conv", {"embed_preprocessing": "bytes"})
    files = {f"{seed}.png": write_png(picture(20 + seed, 30, seed)) for seed in range(4)}
    split = tmp_path / "calibration.parquet"
    pq.write_table(table(files), split)
    context.splits["calibration"] = Split("calibration", split, len(files), "0" * 64)  # type: ignore[index]
    out = tmp_path / "float"
    out.mkdir()
    exporter = OnnxExporter()
    facts = exporter.export(model, exporter.settings(load_device("local-cpu"), SERVE), out, context)
    assert "16 KB" in facts["notes"][0] and facts["image_files"] == 4 * 3 + len(golden_files(picture()))
    return Artifact("onnx", out, "0" * 64, facts), context


def test_int8_is_that_of_the_pixels_graph_bit_for_bit(exported: tuple[Artifact, Any], tmp_path: Path) -> None:
    artifact, context = exported
    exporter = OnnxExporter()
    model = onnx.load(str(artifact.path / "model.onnx"))
    before = model.SerializeToString(deterministic=True)
    front = detach(model)
    assert front is not None and [item.name for item in model.graph.input] == ["pixels"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch", "calibrated in batches"
    (tmp_path / "pixels").mkdir()
    onnx.save(model, str(tmp_path / "pixels/model.onnx"))
    put_back(model, front)
    assert model.SerializeToString(deterministic=True) == before

    feeds = context.task.feeds(pq.read_table(context.splits["calibration"].path), context.prepared)
    variant: Variant = next(item for item in exporter.ladder(Device(name="here")) if item.name == "int8-static")
    made = {}
    for kind, given in (("file", artifact), ("pixels", Artifact("onnx", tmp_path / "pixels", "1" * 64))):
        out = tmp_path / f"{kind}-int8"
        out.mkdir()
        exporter.compress(given, variant, feeds, out, context)
        session = ort.load(str(out / "model.onnx"), {})
        assert [item["name"] for item in session.signature()["inputs"]] == [kind]
        rows = range(len(feeds[kind]))
        made[kind] = np.concatenate([session.run({kind: feeds[kind][row : row + 1]})["logits"] for row in rows])
    assert np.array_equal(made["file"], made["pixels"]) and made["file"].shape == (4, len(LABELS))


def test_other_inputs_and_other_filters_are_refused() -> None:
    model = bare(spec_of())
    detach(model)
    model.graph.input.append(helper.make_tensor_value_info("age", TensorProto.FLOAT, [1]))
    with pytest.raises(Unsupported, match="'age' comes from no image file"):
        image_file.attach_decoder(model, spec_of())
    with pytest.raises(ValueError, match="resizes bilinear, this model's processor says bicubic"):
        spec_of(filter="bicubic")
