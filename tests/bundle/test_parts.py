"""The bill of materials and the licences."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from edgeft.ship.licences import gather
from edgeft.ship.sbom import write_sbom
from tests.bundle.conftest import Built

ABOUT = {"name": "m", "device": "d", "candidate": "onnx/float", "digest": "a" * 64, "task": "t", "edgeft": "0.1.0"}


def made(folder: Path) -> bytes:
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(b"weights")
    licences = gather(folder, {"name": "m"}, folder / "model.onnx", "CC0-1.0", ["numpy"])
    write_sbom(folder, ABOUT, ["model.onnx"], licences, ["numpy"], {"numpy": "2.0", "torch": "2.13.0+cpu"})
    return (folder / "sbom.cdx.json").read_bytes()


def test_the_bill_of_materials_is_the_same_bytes_twice(tmp_path: Path) -> None:
    one, two = made(tmp_path / "one"), made(tmp_path / "two")
    assert one == two and b"timestamp" not in one
    (tmp_path / "one/model.onnx").write_bytes(b"other weights")
    write_sbom(tmp_path / "one", ABOUT, ["model.onnx"], [], ["numpy"], {"numpy": "2.0"})
    other = json.loads((tmp_path / "one/sbom.cdx.json").read_text())
    assert other["serialNumber"] != json.loads(two)["serialNumber"]
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", other["serialNumber"])


def test_licences_of_model_data_and_runtime_are_gathered(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "README.md").write_text("---\ntags: [a]\nlicense: apache-2.0\n---\n# A model\n")
    (model / "LICENSE.txt").write_text("the text")
    (tmp_path / "out").mkdir()
    found = {item.kind: item for item in gather(tmp_path / "out", {"name": "m"}, model, None, ["numpy"])}
    assert (found["model"].licence, found["model"].stated) == ("apache-2.0", "README.md of the model")
    assert (tmp_path / "out" / found["model"].files[0]).read_text() == "the text"
    assert found["data"].licence == "unknown", "what is not stated is not guessed"
    assert found["runtime"].files and "BSD" in found["runtime"].licence
    assert json.loads((tmp_path / "out/licences.json").read_text())[2]["of"].startswith("numpy ")


@pytest.mark.ml
def test_a_bundles_bill_of_materials_is_whole_and_valid(text: Built) -> None:
    found = text.json("sbom.cdx.json")
    parts = {item["bom-ref"]: item for item in found["components"]}
    assert len(parts) == len(found["components"]), "references are unique"
    model = parts["file:model.onnx"]["hashes"][0]
    assert model == {"alg": "SHA-256", "content": hashlib.sha256((text.bundle / "model.onnx").read_bytes()).hexdigest()}
    scopes = {item["name"]: item.get("scope") for item in found["components"]}
    assert scopes["onnxruntime"] == scopes["tokenizers"] == "required" and scopes["torch"] == "excluded"
    depends = found["dependencies"][0]
    assert depends["ref"] == found["metadata"]["component"]["bom-ref"] and set(depends["dependsOn"]) <= set(parts)
    assert found["specVersion"] == "1.6"


@pytest.mark.ml
def test_a_bundles_bill_of_materials_meets_the_published_schema(text: Built) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="needs cyclonedx-python-lib[json-validation]")
    schema = pytest.importorskip("cyclonedx.schema").SchemaVersion.V1_6
    content = (text.bundle / "sbom.cdx.json").read_text()
    assert validation.JsonStrictValidator(schema).validate_str(content) is None
    broken = content.replace('"library"', '"librarian"')
    assert validation.JsonStrictValidator(schema).validate_str(broken) is not None
