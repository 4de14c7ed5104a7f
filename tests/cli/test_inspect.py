"""`edgeft inspect` on real files: what it shows, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeft.cli import main
from tests import outliers

pytestmark = pytest.mark.ml


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    return outliers.save_mlp(tmp_path / "mlp").path / "model.onnx"


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    path = tmp_path / "cases.npz"
    np.savez(path, **outliers.feature_feeds(48))
    return path


def test_without_data_it_lists_the_layers(mlp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(mlp)]) == 0
    out = capsys.readouterr().out
    assert "layers to compress: 3" in out and "layer_0" in out and "2,048" in out
    assert "features float32 batchx32" in out


def test_with_data_it_names_the_layer_behind_the_planted_outlier(
    mlp: Path, cases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """layer_1 reads the activation that the outlier channel dominates."""
    assert main(["inspect", str(mlp), "--data", str(cases), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    found = {row["name"]: row for row in record["sensitivity"]["layers"]}
    assert found["layer_1"]["sqnr_db"] < found["layer_0"]["sqnr_db"] - 10
    assert found["layer_1"]["activations_db"] < found["layer_1"]["weights_db"]
    assert found["layer_1"]["keep_one"] < 0.2 * record["sensitivity"]["whole"]
    assert found["layer_1"]["quantise_one"] > found["layer_0"]["quantise_one"]
    assert "(layer_1)" in record["sensitivity"]["suggestion"]
    assert found["layer_0"]["high"] > 20 * found["layer_1"]["high"], "the planted range"
    assert sum(found["layer_0"]["counts"]) > 1000


def test_the_table_is_readable(mlp: Path, cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(mlp), "--data", str(cases), "--layers", "1", "--cases", "16"]) == 0
    out = capsys.readouterr().out
    assert "16 of 48 cases from cases.npz" in out
    rows = [line for line in out.splitlines() if line.startswith("  layer_1 ")]
    assert len(rows) == 1 and max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize("name", ["missing", "folder", "text", "shape", "nan", "lacking", "absent"])
def test_mistakes_read_well(name: str, mlp: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, model = tmp_path / "bad.npz", mlp
    feeds = outliers.feature_feeds(8)
    if name == "missing":
        model = tmp_path / "none.onnx"
    elif name == "folder":
        model = tmp_path
    elif name == "text":
        model = tmp_path / "text.onnx"
        model.write_text("this is no model")
    elif name == "shape":
        feeds = {"features": feeds["features"][:, :5]}
    elif name == "nan":
        feeds["features"][2, 3] = np.nan
    elif name == "lacking":
        feeds = {"other": feeds["features"]}
    if name != "absent":
        np.savez(data, **feeds)
    assert main(["inspect", str(model), "--data", str(data)]) == 2
    said = capsys.readouterr().err
    words = {
        "missing": "there is no such file", "folder": "no bundle in this folder", "text": "text.onnx", "shape": "input 'features' is batchx32, the data has 8x5",
        "nan": "NaN", "lacking": "has no array 'features'", "absent": "there is no such file",
    }  # fmt: skip
    assert words[name] in said and "Traceback" not in said


def test_a_quantised_model_is_described_but_not_measured(
    mlp: Path, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from onnxruntime.quantization import quantize_dynamic

    small = tmp_path / "small.onnx"
    quantize_dynamic(mlp, small)
    assert main(["inspect", str(small)]) == 0
    out = capsys.readouterr().out
    assert "already quantised: 3 DynamicQuantizeLinear, 3 MatMulInteger" in out
    assert "operator  " not in out, "a table without rows"
    assert main(["inspect", str(small), "--data", str(cases)]) == 2
    assert "already quantised" in capsys.readouterr().err


def test_an_activation_that_overflows_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = outliers.save_mlp(tmp_path / "huge", factor=1e38).path / "model.onnx"
    cases = tmp_path / "large.npz"
    np.savez(cases, features=100 * outliers.feature_feeds(8)["features"])
    code = main(["inspect", str(model), "--data", str(cases)])
    said = capsys.readouterr().err
    assert code in (2, 3) and "relu_0" in said and "is not finite on the calibration cases" in said
