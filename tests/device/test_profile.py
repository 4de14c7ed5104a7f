"""Device profiles: shipped ones are valid and say where their figures come from; mistakes are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edgeft import plugins
from edgeft.device.profile import Device, Unit, bind_unit, load_device, shipped_devices
from edgeft.errors import DeviceError, Exit, RecipeError

GOOD = "name: box\ndescription: a box\nthreads: 2\n"
FIGURES = {"cpu_flags", "clusters", "memory_mb", "max_artifact_mb", "max_memory_mb", "processor", "emulate"}
"""What is said of hardware; each needs a source. opset and ir_version too, where ONNX Runtime is a runtime."""
EXPECTED = {
    "local-cpu", "raspberry-pi-5", "jetson-orin-nano", "pixel-8", "galaxy-s24", "iphone-15", "x86-clinic-pc",
    "windows-clinic-pc", "cortex-a76-emulated", "cortex-a53-emulated", "haswell-emulated",
}  # fmt: skip


def test_the_shipped_devices_are_those_promised() -> None:
    assert set(shipped_devices()) == EXPECTED


@pytest.mark.parametrize("name", sorted(shipped_devices()))
def test_every_shipped_device_loads_and_gives_its_sources(name: str) -> None:
    device = load_device(name)
    assert device.name == name and device.description and len(device.description) <= 120
    stated = {key for key in FIGURES if getattr(device, key)}
    if device.emulate:
        stated -= {"processor"}  # that is what `emulate` says
    if "onnxruntime" in device.runtimes:
        stated |= {"opset", "ir_version"}
    assert stated <= set(device.sources), f"without a source: {sorted(stated - set(device.sources))}"
    assert all(len(text) > 20 for text in device.sources.values())
    assert set(device.runtimes) <= set(plugins.names("runtimes")), "a recipe could never use it"
    assert device.transport in plugins.names("transports")
    assert (device.emulate is not None) == (device.transport == "emulated")


def test_only_emulated_and_ios_devices_have_no_times_of_their_own() -> None:
    silent = {name for name in shipped_devices() if not load_device(name).times_count}
    assert silent == {"cortex-a76-emulated", "cortex-a53-emulated", "haswell-emulated", "iphone-15"}


def test_haswell_has_avx2_and_nothing_that_would_hide_saturation() -> None:
    flags = set(load_device("haswell-emulated").cpu_flags)
    assert {"avx2", "fma"} <= flags and not any("512" in flag or "vnni" in flag or "amx" in flag for flag in flags)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "box.yaml"
    path.write_text(GOOD + "os: linux\nclusters: [{name: A55, cores: 4}]\naffinity: [2, 3]\n")
    device = load_device(str(path))
    assert device.threads == 2 and device.affinity == (2, 3) and device.clusters[0].mhz is None


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        (GOOD + "thread: 1\n", "no key 'thread'", "did you mean 'threads'?"),
        (GOOD.replace("2", "0"), "threads: ", ""),
        (GOOD.replace("2", ".nan"), "threads: ", ""),
        (GOOD.replace("2", "true"), "threads: ", ""),
        (GOOD.replace("box\nd", "other\nd"), "name is 'other'", "make them equal"),
        ("- a\n- b\n", "mapping of keys", ""),
        ("", "mapping of keys", ""),
        ("name: [\n", "not valid YAML", ""),
        (GOOD + "threads: 3\n", "not valid YAML", ""),
        (GOOD + "memory_mb: 2026-13-45\n", "not valid YAML", ""),
        (GOOD + "description: !!python/object/apply:os.system [id]\n", "not valid YAML", ""),
        ("a: &a [x]\nb: [*a, *a]\n", "aliases", ""),
        ("name: " + "x" * 70_000, "larger than 64 KiB", ""),
        ("[" * 20_000, "nested this deep", ""),
        (GOOD + "unit: {name: a, type: box}\n", "no key 'unit'", "edgeft devices add"),
        (GOOD + "host: pi@kitchen\n", "no key 'host'", "did you mean"),
        (GOOD + "how: emulated\ntransport: ssh\n", "how: emulated does not go with transport: ssh", ""),
        (GOOD + "how: measured\ntransport: emulated\n", "how: measured does not go with transport: emulated", ""),
        (GOOD + "emulate: cortex-a76\n", "emulate: names what qemu imitates", ""),
        (GOOD + "transport: emulated\nemulate: -cpu\n", "emulate: ", ""),
        (GOOD + "transport: telnet\n", "transport: ", ""),
        (GOOD + "runtimes: []\n", "runtimes: ", ""),
        (GOOD + "affinity: [0]\n", "2 threads do not fit on 1 cores", ""),
        (GOOD + "affinity: [1, 1]\n", "each once", ""),
        (GOOD + "clusters: [{name: A55, cores: 1}]\n", "the clusters have 1 cores", ""),
        (GOOD + "clusters: [{name: A55, core: 1}]\n", "clusters.0.", ""),
        (GOOD + "providers: [coda]\n", "'coda' is no execution provider; did you mean 'cuda'?", ""),
        (GOOD + "providers: [CUDAExecutionProvidr]\n", "did you mean 'CUDAExecutionProvider'?", ""),
        (GOOD + "providers: [abacus]\n", "known: cpu, cuda, tensorrt", ""),
        (GOOD + "providers: [cpu, CPUExecutionProvider]\n", "providers: each once", ""),
        (GOOD + "provider_options: {qnn: {a: b}}\n", "QNNExecutionProvider is not among the providers", ""),
        (GOOD + "provider_options: {cuda: [1]}\n", "provider_options.cuda", ""),
        (GOOD + "sources: {clock: the box}\n", "sources: 'clock' is no field", ""),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, what: str, hint: str) -> None:
    path = tmp_path / "box.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_device(str(path))
    assert what in caught.value.what and hint in caught.value.hint
    assert caught.value.where == str(path) and caught.value.exit_code == Exit.USAGE


def test_unknown_names_get_a_near_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no device is called 'local-cpi'") as caught:
        load_device("local-cpi")
    assert "did you mean 'local-cpu'?" in caught.value.hint
    with pytest.raises(RecipeError, match="there is no device file"):
        load_device(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("given", "how", "transport"),
    [
        ({}, "measured", "local"),
        ({"transport": "emulated"}, "emulated", "emulated"),
        ({"how": "emulated"}, "emulated", "emulated"),
        ({"transport": "ssh"}, "measured", "ssh"),
    ],
)
def test_how_and_transport_follow_from_each_other(given: dict[str, Any], how: str, transport: str) -> None:
    device = Device(name="box", **given)
    assert (device.how, device.transport) == (how, transport)


def test_a_unit_never_leaves_the_process() -> None:
    unit = Unit(name="kitchen", type="raspberry-pi-5", host="pi@secret.example", port=2222, folder="/srv/secret-jobs")
    device = bind_unit(load_device("raspberry-pi-5"), unit)
    assert device.unit == unit and device.needs_unit
    dumps = [str(device.model_dump()), device.model_dump_json(), repr(device), str(device)]
    assert all("secret" not in text and "2222" not in text and "kitchen" not in text for text in dumps)
    assert device.model_dump() == load_device("raspberry-pi-5").model_dump()
    with pytest.raises(ValidationError):
        Unit(name="kitchen", type="raspberry-pi-5", hots="pi")  # type: ignore[call-arg]


def test_times_of_another_machine_in_the_phones_place_are_refused() -> None:
    from edgeft.device.protocol import Job
    from edgeft.device.transport import run_job, runtime_file

    phone = load_device("iphone-15").model_copy(update={"transport": "local"})
    with pytest.raises(DeviceError, match="another machine answers for it: a latency measurement"):
        run_job(phone, Job("latency", runtime_file("onnxruntime")))


def test_providers_by_any_name_are_the_runtimes_own_with_their_options(tmp_path: Path) -> None:
    from edgeft_exporters.onnx.quantise.ladder import accelerated

    from edgeft.targets.artifact_jobs import runs_off_the_cpu, runtime_options

    path = tmp_path / "box.yaml"
    path.write_text(GOOD + "providers: [qnn, CPU]\nprovider_options: {QNN: {backend_path: libQnnHtp.so, vtcm_mb: 8}}\n")
    device = load_device(str(path))
    assert device.providers == ("QNNExecutionProvider", "CPUExecutionProvider")
    told = {"backend_path": "libQnnHtp.so", "vtcm_mb": 8}
    assert runtime_options(device)["providers"] == [["QNNExecutionProvider", told], "CPUExecutionProvider"]
    assert accelerated(device) and runs_off_the_cpu(device, "onnxruntime")
    plain = Device(name="box", providers=("cpu",))
    assert not accelerated(plain) and not runs_off_the_cpu(plain, "onnxruntime")
    assert runtime_options(plain) == {"threads": 1, "providers": ["CPUExecutionProvider"], "fallback": False}


def test_a_device_falls_back_only_where_it_says_so() -> None:
    assert not Device(name="box", providers=("cuda", "cpu")).fallback
    assert {name for name in shipped_devices() if load_device(name).fallback} == {"jetson-orin-nano"}
