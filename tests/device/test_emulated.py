"""Another processor under qemu: answers with the host's own Python, and every way in which it can be unavailable."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.device.emulated import write_cpuinfo
from edgeft.device.prepare import fingerprint, folder_place, machine
from edgeft.device.profile import Device
from edgeft.device.protocol import TIMED, ArtefactRefused, Job
from edgeft.device.transport import run_job, runtime_file
from edgeft.errors import DeviceError, Exit

MakeJob = Callable[..., Job]
HASWELL = Device(
    name="haswell", transport="emulated", architecture="x86_64", emulate="Haswell", cpu_flags=("avx2", "fma"),
    processor="a Haswell",
)  # fmt: skip
ARM = Device(name="a76", transport="emulated", architecture="aarch64", emulate="cortex-a76")
needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-x86_64-static") is None or machine() != "x86_64" or sys.platform != "linux",
    reason="needs qemu-user-static on x86-64 Linux: apt install qemu-user-static",
)


@needs_qemu
@pytest.mark.ml
def test_a_job_runs_on_a_processor_without_vnni(make_job: MakeJob, temporary: Path) -> None:
    seen: list[tuple[float, float]] = []
    result = run_job(HASWELL, make_job(), lambda *step: seen.append(step))
    assert result.arrays["y"].tolist() == [[0], [2], [4], [6], [8]] and seen[-1] == (5, 5)
    facts = run_job(HASWELL, make_job(kind="describe")).data["facts"]
    assert facts["cpu_flags"] == "avx2 fma" and facts["processor"] == "a Haswell"
    assert list(temporary.iterdir()) == []


@needs_qemu
@pytest.mark.ml
def test_int8_products_saturate_without_vnni(tmp_path: Path) -> None:
    """U8S8 on AVX2 adds pairs of products in 16 bits (vpmaddubsw): 2 * 255 * 127 does not fit, VNNI's 32 bits do."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.full((64, 8), 127, np.int8), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["n", 8])], [weights],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    feeds = {"feeds": {"x": np.full((2, 64), 255, np.uint8)}}
    job = Job("predict", runtime_file("onnxruntime"), {"model": tmp_path / "model.onnx"}, feeds, {"batch": 2})
    exact, pair = 64 * 255 * 127, np.iinfo(np.int16).max
    assert (run_job(HASWELL, job).arrays["y"] == 32 * pair).all()
    if "avx512_vnni" in Path("/proc/cpuinfo").read_text():
        assert (run_job(Device(name="here"), job).arrays["y"] == exact).all()


@needs_qemu
@pytest.mark.ml
def test_refusals_crashes_and_timeouts_are_told_apart(make_job: MakeJob, temporary: Path) -> None:
    with pytest.raises(ArtefactRefused, match="no kernel for Foo"):
        run_job(HASWELL, make_job(load="raise ValueError('no kernel for Foo')"))
    with pytest.raises(DeviceError, match="SIGABRT") as caught:
        run_job(HASWELL, make_job(run="os.abort()"))
    assert "TCG doesn't support" not in caught.value.render(), "qemu's remarks on its processor explain nothing"
    with pytest.raises(DeviceError, match=r"did not finish within 3 s"):
        run_job(HASWELL, make_job(run="time.sleep(60)", timeout=3.0))
    with pytest.raises(DeviceError, match="knows no processor 'Hasbad'") as caught:
        run_job(HASWELL.model_copy(update={"emulate": "Hasbad"}), make_job())
    assert "-cpu help" in caught.value.hint and list(temporary.iterdir()) == []


@pytest.mark.parametrize("kind", sorted(TIMED))
def test_times_and_memory_are_refused(make_job: MakeJob, kind: str) -> None:
    with pytest.raises(DeviceError, match="is emulated"):
        run_job(HASWELL, make_job(kind=kind))


def test_without_qemu(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for device in (HASWELL, ARM):
        with pytest.raises(DeviceError, match="needs qemu-") as caught:
            run_job(device, make_job())
        assert caught.value.hint == "apt install qemu-user-static" and caught.value.exit_code == Exit.DEVICE
        with pytest.raises(DeviceError, match="needs qemu-"):
            fingerprint(device)


@needs_qemu
def test_without_its_folder(make_job: MakeJob, temporary: Path) -> None:
    with pytest.raises(DeviceError, match="a76 is not prepared") as caught:
        run_job(ARM, make_job())
    assert caught.value.hint == "edgeft devices prepare a76" and list(temporary.iterdir()) == []
    folder_place(ARM).mkdir(parents=True)
    (folder_place(ARM) / "manifest.json").write_text("{}")
    with pytest.raises(DeviceError, match="is no manifest of a runtime folder"):
        run_job(ARM, make_job())


def test_the_guest_sees_its_own_processor(tmp_path: Path) -> None:
    def seen(name: str, device: Device) -> str:
        write_cpuinfo(device, tmp_path / name)
        path = tmp_path / name / "cpuinfo"
        return path.read_text() if path.is_file() else ""

    a76, a53 = seen("a76", ARM), seen("a53", ARM.model_copy(update={"emulate": "cortex-a53"}))
    assert "CPU part\t: 0xd0b" in a76 and "asimddp" in a76
    assert "CPU part\t: 0xd03" in a53 and "asimddp" not in a53, "it has no dot product: SIGILL if a runtime tried"
    assert "flags\t: avx2 fma" in seen("x86", HASWELL)
    assert seen("unknown", HASWELL.model_copy(update={"cpu_flags": ()})) == ""


def test_another_environment_gives_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    versions: dict[str, Any] = {"qemu": "qemu 7.2"}
    monkeypatch.setattr("edgeft.device.emulated.emulator_version", lambda device: versions["qemu"])
    first = fingerprint(HASWELL)
    assert fingerprint(HASWELL) == first
    versions["qemu"] = "qemu 10.0"
    assert fingerprint(HASWELL) != first
