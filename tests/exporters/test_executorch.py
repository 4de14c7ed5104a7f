"""ExecuTorch programs: torch's answers, the same bytes twice, int8 that agrees, refusals that name the operator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("executorch")

from edgeft_exporters.executorch.exporter import ExecuTorchExporter

from edgeft.artifact import Artifact, entry_file
from edgeft.device.profile import Device
from edgeft.exporter import Unsupported, Variant
from edgeft.runtimes import xnnpack
from edgeft.targets.measure import runtime_feeds
from edgeft.targets.parity import TOLERANCE
from tests.exporters import minilm, tiny

pytestmark = pytest.mark.ml

SETTINGS = {"batch": 1, "length": 24}
SAME_ANSWERS = 0.95
"""Share of equal classes, 8-bit against float, on random tokens; 0.98 observed, chance is a third."""
SAME_ON_TEXTS = {"int8-dynamic": 0.97, "int8-static": 0.90}
"""The same on 400 real texts and a fitted head, chance a third. static: 0.950 was measured (ONNX's static form 0.968 on
the same texts), with a standard error of 0.011; the bound lies four of them below, to catch a defect, not to approve a
loss: whether a candidate may ship is what the gates decide.
"""


@pytest.fixture(scope="module")
def made(classifier: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    out = tmp_path_factory.mktemp("executorch")
    facts = ExecuTorchExporter().export(classifier, SETTINGS, out, tiny.context(out))
    return Artifact("executorch", out, "0" * 64, facts)


def run(artifact: Artifact, feeds: dict[str, Any], batch: int = 1) -> np.ndarray:
    """Logits over all cases, whose number `batch` divides."""
    own = runtime_feeds(ExecuTorchExporter().signature(artifact), feeds)
    session = xnnpack.load(str(entry_file(artifact.path)), {"threads": 1})
    n = len(next(iter(own.values())))
    parts = [
        session.run({name: array[start : start + batch] for name, array in own.items()})["output_0"]
        for start in range(0, n, batch)
    ]
    session.close()
    return np.concatenate(parts)


def compress(model: Artifact, name: str, out: Path, calibration: dict[str, Any] | None = None, **more: Any) -> Artifact:
    variant = {item.name: item for item in ExecuTorchExporter().ladder(Device(name="d"))}[name]
    settings = more.pop("settings", SETTINGS)
    chosen = Variant(name, {**variant.options, "settings": settings}, more.pop("keep_float", frozenset()))
    facts = ExecuTorchExporter().compress(model, chosen, calibration, out, tiny.context(out))
    return Artifact("executorch", out, "0" * 64, facts)


def assert_parity(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape and np.abs(theirs).max() > 0.1
    assert np.abs(ours - theirs).max() <= TOLERANCE["float32"] * max(1.0, float(np.abs(theirs).max()))


def test_answers_are_torchs(classifier: Artifact, made: Artifact) -> None:
    feeds = tiny.make_feeds(20)
    assert_parity(run(made, feeds), tiny.logits_of(classifier, feeds))


def test_a_batch_is_served_at_once(classifier: Artifact, tmp_path: Path) -> None:
    facts = ExecuTorchExporter().export(classifier, {"batch": 3, "length": 9}, tmp_path, tiny.context(tmp_path))
    feeds = {name: array[:, :9] for name, array in tiny.make_feeds(6).items()}
    assert_parity(run(Artifact("executorch", tmp_path, "", facts), feeds, 3), tiny.logits_of(classifier, feeds))


def test_facts_say_what_xnnpack_runs(made: Artifact) -> None:
    placement = made.facts["placement"]
    assert placement["XnnpackBackend"] > 4 * placement["portable"] > 0
    assert sum(made.facts["portable_operators"].values()) == placement["portable"]
    assert "aten_native_layer_norm_default" in made.facts["portable_operators"]
    assert "aten_linear_default" not in made.facts["portable_operators"]
    assert "aten_expand_copy_default" not in made.facts["operators"], "expansions to the same shape end no part"
    assert made.facts["delegated_parts"] == made.facts["portable_operators"]["aten_native_layer_norm_default"] + 1
    assert made.facts["bytes"] == sum(path.stat().st_size for path in made.path.iterdir())


def test_the_signature_goes_by_position(made: Artifact) -> None:
    signature = ExecuTorchExporter().signature(made)
    assert {name: spec.name for name, spec in signature.inputs.items()} == {
        "input_ids": "input_0", "attention_mask": "input_1", "token_type_ids": "input_2",
    }  # fmt: skip
    assert {(spec.dtype, spec.shape) for spec in signature.inputs.values()} == {("int64", (1, 24))}
    assert signature.outputs["logits"].shape == (1, len(tiny.LABELS))


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(classifier: Artifact, made: Artifact, tmp_path: Path) -> None:
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from pathlib import Path\n"
        "from edgeft.artifact import Artifact\n"
        "from edgeft_exporters.executorch.exporter import ExecuTorchExporter\n"
        "from tests.exporters import tiny\n"
        "model, out = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "source = Artifact('torch-model', model, '0' * 64, {'form': 'transformers'})\n"
        "ExecuTorchExporter().export(source, {'batch': 1, 'length': 24}, out, tiny.context(out))\n"
    )
    command = [sys.executable, "-c", code, str(classifier.path), str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "", "the exporter prints nothing"
    for path in made.path.iterdir():
        raw = path.read_bytes()
        assert raw == (tmp_path / path.name).read_bytes(), path.name
        assert b"site-packages" not in raw and b"/tmp/" not in raw and str(Path.home()).encode() + b"/" not in raw


@pytest.mark.parametrize("name", ["int8-dynamic", "int8-static"])
def test_eight_bits_agree_and_are_smaller(classifier: Artifact, made: Artifact, tmp_path: Path, name: str) -> None:
    calibration = tiny.make_feeds(48, seed=5) if name == "int8-static" else None
    small = compress(classifier, name, tmp_path, calibration)
    feeds = tiny.make_feeds(200, seed=1)
    theirs = tiny.logits_of(classifier, feeds)
    assert (run(small, feeds).argmax(1) == theirs.argmax(1)).mean() >= SAME_ANSWERS
    assert small.facts["bytes"] < made.facts["bytes"] / 2
    assert small.facts["quantised"] == 13 and small.facts["kept_float"] == ["classifier"]
    assert small.facts["embeddings"] == ["bert.embeddings.word_embeddings"]
    assert not [name for name in small.facts["portable_operators"] if "quantize" in name], "XNNPACK runs all of them"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int8-dynamic", "int8-static"])
def test_eight_bits_give_the_same_bytes_twice(classifier: Artifact, tmp_path: Path, name: str) -> None:
    calibration = tiny.make_feeds(16, seed=5) if name == "int8-static" else None
    written = []
    for turn in ("one", "two"):
        out = tmp_path / turn
        out.mkdir()
        compress(classifier, name, out, calibration)
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert written[0] == written[1]


def test_layers_stay_float_by_name(classifier: Artifact, tmp_path: Path) -> None:
    from edgeft_exporters.executorch.quantise import choose_layers
    from edgeft_exporters.torch_capture import capture, load_source

    program = capture(load_source(classifier, SETTINGS, tiny.context(tmp_path), "a program"))
    layer = "bert.encoder.layer.1.output.dense"
    layers = choose_layers(program, "dynamic", "float", frozenset({layer}))
    assert sorted(layers["kept"].values()) == [layer, "classifier"] and len(layers["chosen"]) == 12
    assert "classifier" in choose_layers(program, "dynamic", "int8", frozenset())["chosen"].values()
    with pytest.raises(Unsupported, match=r"no layer is called 'bert\.nothing'"):
        choose_layers(program, "dynamic", "float", frozenset({"bert.nothing"}))
    with pytest.raises(Unsupported, match="no linear layer to quantise"):
        choose_layers(program, "dynamic", "float", frozenset(layers["chosen"].values()) | {layer})


def test_what_cannot_be_made_is_said(classifier: Artifact, exported: Artifact, tmp_path: Path) -> None:
    exporter, ctx = ExecuTorchExporter(), tiny.context(tmp_path)
    with pytest.raises(Unsupported, match="made from a torch model, this one is onnx"):
        exporter.export(exported, SETTINGS, tmp_path, ctx)
    with pytest.raises(Unsupported, match="needs calibration cases"):
        compress(classifier, "int8-static", tmp_path)
    with pytest.raises(Unsupported, match=r"the program takes \[1, 24\]"):
        compress(classifier, "int8-static", tmp_path, tiny.make_feeds(4, length=12))
    with pytest.raises(Unsupported, match="option mode"):
        exporter.compress(classifier, Variant("x", {"mode": "four", "settings": SETTINGS}), None, tmp_path, ctx)
    with pytest.raises(Unsupported, match=r"no signature\.json"):
        exporter.signature(Artifact("executorch", tmp_path / "nothing", ""))


def test_a_length_beyond_the_positions_is_unsupported(classifier: Artifact, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"torch\.export cannot capture this model"):
        ExecuTorchExporter().export(classifier, {"batch": 1, "length": 100}, tmp_path, tiny.context(tmp_path))


def test_an_operator_without_a_kernel_is_named() -> None:
    import torch
    from edgeft_exporters.executorch.lower import lower

    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(x).real

    program = torch.export.export(Odd(), (torch.randn(2, 2),), strict=False)
    with pytest.raises(Unsupported) as caught:
        lower(program)
    assert caught.value.op == "aten.linalg_eig" and "Core ATen" in caught.value.reason


@pytest.fixture(scope="module")
def real(text_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, dict[str, Any], dict[str, Any]]:
    return minilm.save_fitted(text_csv, tmp_path_factory.mktemp("minilm"))


@pytest.mark.slow
def test_a_real_model_is_equal_in_float(real: Any, tmp_path: Path) -> None:
    model, _, unseen = real
    feeds = {name: array[:60] for name, array in unseen.items()}
    settings = {"batch": 1, "length": minilm.LENGTH}
    facts = ExecuTorchExporter().export(model, settings, tmp_path, tiny.context(tmp_path))
    assert_parity(run(Artifact("executorch", tmp_path, "", facts), feeds), tiny.logits_of(model, feeds))
    assert facts["delegated_parts"] == 14 and facts["portable_operators"]["aten_native_layer_norm_default"] == 13


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int8-dynamic", "int8-static"])
def test_a_real_model_keeps_its_answers_in_eight_bits(real: Any, tmp_path: Path, name: str) -> None:
    model, seen, unseen = real
    calibration = {key: array[:64] for key, array in seen.items()} if name == "int8-static" else None
    settings = {"batch": 1, "length": minilm.LENGTH}
    small = compress(model, name, tmp_path, calibration, settings=settings)
    feeds = {key: array[:400] for key, array in unseen.items()}
    same = run(small, feeds).argmax(1) == tiny.logits_of(model, feeds).argmax(1)
    assert same.mean() >= SAME_ON_TEXTS[name], f"{same.mean():.3f}"
    assert small.facts["bytes"] < 25e6 and small.facts["quantised"] == 37
