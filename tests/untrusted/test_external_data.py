"""An ONNX file names the files its weights are in; none outside its folder is read, copied or sent to a device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeft.artifact import Artifact
from edgeft.cli import main
from edgeft.device.travel import pack_model
from edgeft.errors import DeviceError, EdgeftError
from edgeft.targets.profile.model import open_model

pytestmark = pytest.mark.ml
WEIGHT = np.arange(4, dtype=np.float32)


def write_model(folder: Path, place: str = "initializer", **about: object) -> Path:
    """x + w where w is kept outside: as an initializer, in a Constant's attribute, in a branch, in a function."""
    w = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in about.items():
        w.external_data.add(key=key, value=str(value))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("x", "logits"))
    add = helper.make_node("Add", ["x", "w"], ["logits"])
    constant = helper.make_node("Constant", [], ["w"])
    attribute = constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    attribute.t.CopyFrom(w)
    functions: list[onnx.FunctionProto] = []
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    if place == "initializer":
        graph = helper.make_graph([add], "g", [x], [y], [w])
    elif place == "attribute":
        graph = helper.make_graph([constant, add], "g", [x], [y])
    elif place == "function":
        functions = [helper.make_function("own", "AddOwn", ["x"], ["logits"], [constant, add], opsets[:1])]
        graph = helper.make_graph([helper.make_node("AddOwn", ["x"], ["logits"], domain="own")], "g", [x], [y])
    else:
        true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
        out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
        branch = helper.make_graph([add], "branch", [], [out], [w])
        choose = helper.make_node("If", ["true"], ["logits"], then_branch=branch, else_branch=branch)
        graph = helper.make_graph([choose], "g", [x], [y], [true])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, a secret beside it, and links from the one to the other."""
    (tmp_path / "secret.bin").write_bytes(WEIGHT.tobytes() * 8)
    inside = tmp_path / "inside"
    (inside / "deep").mkdir(parents=True)
    (inside / "link.bin").symlink_to("../secret.bin")
    (inside / "up").symlink_to(tmp_path)
    for name in ("w.bin", "deep/w.bin"):
        (inside / name).write_bytes(WEIGHT.tobytes())
    return inside


def opened(path: Path) -> None:
    with open_model(path):
        pass


@pytest.mark.parametrize("read", [opened, pack_model])
@pytest.mark.parametrize("place", ["initializer", "attribute", "branch", "function"])
@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "ABSOLUTE", "link.bin", "up/secret.bin", "deep/../../secret.bin", "..\\secret.bin", ""],
)
def test_no_file_outside_the_folder_is_taken(
    folder: Path, read: Callable[[Path], object], place: str, location: str
) -> None:
    location = location.replace("ABSOLUTE", str(folder.parent / "secret.bin"))
    path = write_model(folder, place, location=location)
    with pytest.raises(DeviceError, match="refers to a file outside its folder"):
        read(path)


@pytest.mark.parametrize("read", [opened, pack_model])
@pytest.mark.parametrize(
    "extent",
    [
        {"offset": 1 << 40},
        {"length": 1 << 62},
        {"offset": -4096},
        {"length": -1},
        {"offset": 8, "length": 16},
        {"offset": "9" * 5000},
        {"length": "all"},
    ],
    ids=lambda extent: str(extent)[:30],
)
def test_bytes_that_a_file_does_not_have_are_refused(
    folder: Path, read: Callable[[Path], object], extent: dict[str, object]
) -> None:
    path = write_model(folder, location="w.bin", **extent)
    with pytest.raises(DeviceError, match=r"bytes at .* of w\.bin, which has 16") as caught:
        read(path)
    assert len(caught.value.what) < 200


@pytest.mark.parametrize("read", [opened, pack_model])
@pytest.mark.parametrize("ending", [".onnx.data", ".data"])
def test_a_companion_that_is_a_link_out_is_refused(folder: Path, read: Callable[[Path], object], ending: str) -> None:
    path = write_model(folder, location="w.bin")
    (folder / f"model{ending}").symlink_to("../secret.bin")
    with pytest.raises(DeviceError, match="refers to a file outside its folder"):
        read(path)


@pytest.mark.parametrize("location", ["w.bin", "deep/w.bin"])
def test_weights_inside_the_folder_go_along(folder: Path, location: str) -> None:
    path = write_model(folder, location=location, offset=0, length=16)
    assert location in pack_model(path).files
    with open_model(path) as model:
        assert (model.artifact.path.parent / location).read_bytes() == WEIGHT.tobytes()


def test_a_hubs_cache_of_links_is_opened(folder: Path) -> None:
    """snapshots/REVISION holds links into blobs/, the model's and its weights' alike."""
    blobs, snapshot = folder.parent / "blobs", folder.parent / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    write_model(folder, location="w.bin").rename(blobs / "aa")
    (folder / "w.bin").rename(blobs / "bb")
    (snapshot / "model.onnx").symlink_to("../blobs/aa")
    (snapshot / "w.bin").symlink_to("../blobs/bb")
    with open_model(snapshot / "model.onnx") as model:
        assert (model.artifact.path.parent / "w.bin").read_bytes() == WEIGHT.tobytes()


@pytest.mark.parametrize("location", ["../secret.bin", "link.bin"])
@pytest.mark.parametrize("command", [["profile"], ["inspect"], ["compare", "good/model.onnx"]], ids=lambda c: c[0])
def test_commands_refuse_it_by_name(
    folder: Path, location: str, command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    good = folder.parent / "good"
    good.mkdir()
    (good / "w.bin").write_bytes(WEIGHT.tobytes())
    write_model(good, location="w.bin")
    write_model(folder, location=location)
    code = main([*command, "inside/model.onnx", *(["--device", "local-cpu"] if command != ["inspect"] else [])])
    said = capsys.readouterr().err
    assert code not in (0, 1, 5), said
    assert "outside its folder" in said or "symbolic link" in said or "not a valid ONNX model" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("location", ["../secret.bin", "ABSOLUTE", "link.bin"])
@pytest.mark.parametrize("place", ["initializer", "attribute", "branch"])
def test_the_exporter_of_a_build_refuses_it(folder: Path, tmp_path: Path, place: str, location: str) -> None:
    from edgeft_exporters.onnx.exporter import OnnxExporter

    from edgeft.exporter import Unsupported
    from tests.exporters import tiny

    path = write_model(folder, place, location=location.replace("ABSOLUTE", str(tmp_path / "secret.bin")))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises((Unsupported, EdgeftError)):
        OnnxExporter().export(Artifact("onnx", path, ""), tiny.SETTINGS, out, tiny.context(tmp_path, ()))
    assert not any(WEIGHT.tobytes() in item.read_bytes() for item in out.rglob("*") if item.is_file())
