"""Searches by time and by the energy proxy, over two exporters, on a tiny BERT and the real runtimes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any, Literal

import pytest
from edgeft_exporters.onnx.quantise.ladder import all_rungs, repairs_of

from edgeft.device.profile import Device, load_device
from edgeft.pipeline.steps.candidates import worth_offering
from edgeft.recipe.schema import Target
from edgeft.targets.search.asking import family
from tests.pipeline.conftest import Workbench

pytestmark = pytest.mark.ml
Bench = Callable[..., Workbench]
TARGET = "{device: local-cpu, export: [onnx], optimise: size}"
BATTERY = """name: battery
description: this machine, with the power of one of its cores
os: linux
transport: local
architecture: host
runtimes: [onnxruntime]
watts: 4.5
"""


def quick(bench: Workbench) -> dict[str, Any]:
    """The one target of a build that ended well or refused what it made; anything else is an error."""
    run = bench.run("build", "recipe.yaml", timeout=900)
    assert run.returncode in (0, 5), run.stderr + run.stdout
    target: dict[str, Any] = bench.record()["targets"][0]
    return target


def test_hqq_is_offered_to_a_search_by_size_alone_unless_there_is_an_accelerator() -> None:
    device = load_device("local-cpu")
    assert offered(device, "size") - offered(device, "latency") == {"int4-weights-hqq"}
    assert offered(device, "energy-proxy") == offered(device, "latency") >= {"int4-weights", "int8-dynamic"}
    faster = device.model_copy(update={"providers": ("CUDAExecutionProvider", "CPUExecutionProvider")})
    assert "int4-weights-hqq" in offered(faster, "latency")


def test_fitted_4_bits_compete_with_rounding_for_no_cost_on_the_device() -> None:
    device = load_device("local-cpu")
    assert {"int4-weights-awq", "int4-weights-gptq"} <= offered(device, "latency")
    rungs = {variant.name: variant for variant in all_rungs(device, False)}
    four = rungs["int4-weights"]
    for name in ("int4-weights-awq", "int4-weights-gptq"):
        fitted = rungs[name]
        assert family(fitted) == family(four) != family(rungs["int4-weights-hqq"])
        assert fitted.needs_calibration and not fitted.needs_statistics
        assert fitted in repairs_of(four, device), "the same step in the store, whichever way it is asked for"
        assert {item.name: item.needs_calibration for item in repairs_of(fitted, device)} == {
            f"{name}-block16": True, f"{name}-8bit": False,
        }  # fmt: skip


def offered(device: Device, optimise: Literal["latency", "size", "energy-proxy"]) -> set[str]:
    """Names of the rungs and of the repairs of 4-bit weights that such a search would be offered."""
    target = Target(device="local-cpu", export=("onnx",), optimise=optimise)
    rungs = all_rungs(device, False)
    four = next(variant for variant in rungs if variant.name == "int4-weights")
    return {variant.name for variant in worth_offering(target, (*rungs, *repairs_of(four, device)))}


@pytest.mark.slow
def test_a_search_by_latency_tries_both_exporters_and_times_what_it_scores(workbench: Bench) -> None:
    pytest.importorskip("openvino")
    searched = "{device: local-cpu, export: [onnx, openvino], search: {first_cases: 16}, budget: {evaluations: 10}}"
    target = quick(workbench(replace=[(TARGET, searched)]))
    search = target["search"]
    assert search["unit"] == "ms" and len(search["evaluations"]) <= 10
    finalists = [row for row in search["evaluations"] if row["purpose"] == "finalist"]
    assert {row["exporter"] for row in finalists} == {"onnx", "openvino"}
    for row in finalists:
        assert row["why"] or row["cost"] > 0, row
    first = [next(row for row in finalists if row["exporter"] == name) for name in ("onnx", "openvino")]
    assert not any(row["estimated"] for row in first), "a family is timed once: its variants cost the same"
    timed = {row["name"]: row for row in target["candidates"] if row["latency"]}
    assert {"onnx/float", "openvino/float"} <= set(timed)
    fit = {name: p50(row) for name, row in timed.items() if row["status"] in ("eligible", "chosen")}
    fastest = min(fit, key=lambda name: fit[name])
    assert fastest == target["chosen"] or timed[fastest]["why"].startswith("level with"), fit


def p50(row: dict[str, Any]) -> float:
    return float(next(item["value"] for item in row["metrics"] if item["metric"] == "latency_p50_ms"))


@pytest.mark.slow
def test_a_search_by_the_energy_proxy_states_millijoules_by_the_profiles_watts(workbench: Bench) -> None:
    searched = "{device: battery.yaml, export: [onnx], optimise: energy-proxy, budget: {evaluations: 3}}"
    bench = workbench(replace=[(TARGET, searched)])
    (bench.folder / "battery.yaml").write_text(BATTERY)
    target = quick(bench)
    search = target["search"]
    assert search["unit"] == "processor-ms" and search["evaluations"]
    found = 0
    for row in target["candidates"]:
        told = {item["metric"]: item for item in row["metrics"]}
        if "processor_ms" in told:
            energy = told["energy_proxy_mj"]
            assert energy["value"] == pytest.approx(4.5 * told["processor_ms"]["value"])
            assert (energy["how"], energy["unit"]) == ("estimated", "mJ") and "4.5 W" in energy["method"]
            found += 1
    assert found >= 2, "the float artefact and at least one compressed one"


@pytest.mark.skipif(shutil.which("qemu-x86_64-static") is None, reason="needs qemu: apt install qemu-user-static")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="imitates an older x86 on an x86 machine")
def test_the_energy_proxy_of_an_emulated_target_is_refused_at_once(workbench: Bench) -> None:
    asked = "{device: haswell-emulated, export: [onnx], optimise: energy-proxy, search: {}}"
    done = workbench(replace=[(TARGET, asked)]).run("build", "recipe.yaml")
    assert done.returncode == 2
    assert "haswell-emulated is emulated: processor time there means nothing" in done.stderr
