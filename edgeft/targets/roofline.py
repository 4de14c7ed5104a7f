"""The least time a device's own peak rates allow a model: estimated from two measured probes, never gated.

Williams, Waterman, Patterson 2009, Roofline: an operator takes at least its operations over the peak rate, and at
least its bytes over the bandwidth; the floor of a model is the sum over its layers of the larger. Layers without
weights are not counted, and bytes only where the weights are more than the device's largest cache holds: else they need
not come from memory again, and the floor is that of the arithmetic alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgeft.device.profile import Device
from edgeft.device.protocol import ArtefactRefused, Job, Result
from edgeft.device.transport import runtime_file
from edgeft.errors import DeviceError
from edgeft.record import ProbeRow, RooflineRow
from edgeft.targets.answers import Rate, check
from edgeft.targets.artifact_jobs import run_jobs, runtime_options
from edgeft.targets.layer_counts import LayerCost

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeft.task import Arrays

ROWS = (64, 256)
"""Rows of the probes' products: one case of 64 tokens, and four."""
INNER, OUTER, PRODUCTS = 384, 1536, 12
"""The linear layers of a small encoder, chained: 384 to 1536 and back, twelve in all."""
PROBE_SECONDS, PROBE_TIMEOUT = 0.7, 120.0
MEGABYTES, LEAST_MEGABYTES = 256, 16
SMALL_DEVICE_SHARE = 8
"""The bandwidth probe takes at most this fraction of a device's memory."""
BYTES = {"float32": 4, "int8": 1}


def probe_device(device: Device) -> ProbeRow:
    """GEMM rates in 10^9 operations a second and read bandwidth in 10^9 bytes a second, each the best of many tries.

    float32 and int8 through ONNX Runtime where the device has it (chains of MatMul, and of QLinearMatMul with uint8
    activations and int8 weights); else float32 alone, by numpy's BLAS. DeviceError on an emulated device.
    """
    with TemporaryDirectory(prefix="edgeft-probe-") as folder:
        return read_probe(device, run_jobs(device, probe_jobs(device, Path(folder))))


def probe_jobs(device: Device, folder: Path) -> dict[str, Job]:
    """The probes as jobs by name; `folder` holds their models until the jobs have run."""
    import numpy as np

    runtime = "onnxruntime" if "onnxruntime" in device.runtimes else device.runtimes[0]
    common: dict[str, Any] = {"options": runtime_options(device), "affinity": list(device.affinity)}
    room = MEGABYTES if device.memory_mb is None else min(MEGABYTES, device.memory_mb // SMALL_DEVICE_SHARE)

    def job(models: Mapping[str, Path], feeds: Mapping[str, Arrays], **settings: Any) -> Job:
        return Job("probe", runtime_file(runtime), models, feeds, {**common, **settings}, PROBE_TIMEOUT)

    jobs = {"bandwidth": job({}, {}, megabytes=max(LEAST_MEGABYTES, room))}
    jobs["numpy"] = job({}, {}, seconds=PROBE_SECONDS)
    if runtime != "onnxruntime" or find_spec("onnx") is None:
        return jobs
    for dtype, kind in (("float32", np.float32), ("int8", np.uint8)):
        for rows in ROWS:
            path = folder / f"{dtype}-{rows}" / "model.onnx"
            path.parent.mkdir(parents=True)
            path.write_bytes(_chain(rows, dtype))
            feed = {"x": np.ones((rows, INNER), dtype=kind)}
            work = 2 * rows * INNER * OUTER * PRODUCTS
            settings = {"operations": work, "seconds": PROBE_SECONDS, "batch": rows}
            jobs[f"{dtype}-{rows}"] = job({"model": path}, {"feeds": feed}, **settings)
    return jobs


def read_probe(device: Device, answers: Mapping[str, Result | ArtefactRefused]) -> ProbeRow:
    """The row from the answers to `probe_jobs`. What the runtime refused has no rate; float32 is then numpy's."""
    gemm: dict[str, float] = {}
    for name, answer in answers.items():
        dtype = name.partition("-")[0]
        if dtype in BYTES and not isinstance(answer, ArtefactRefused):
            gemm[dtype] = max(gemm.get(dtype, 0.0), check(Rate, answer.data).gops or 0.0)
    how = f"products of a small encoder's shapes in ONNX Runtime, {device.threads} thread(s)"
    plain, memory = _answer(answers["numpy"]), _answer(answers["bandwidth"])
    if plain.gops is None or memory.bandwidth is None:
        raise DeviceError(f"{device.name} did not answer the probes with rates")
    if "float32" not in gemm:
        gemm["float32"], how = plain.gops, "float32 products in numpy's BLAS on one thread"
    how = f"{how}; one thread reads memory"
    return ProbeRow(threads=device.threads, gemm=gemm, bandwidth=memory.bandwidth, how=how, cache_mb=memory.cache_mb)


def _answer(answer: Result | ArtefactRefused) -> Rate:
    if isinstance(answer, ArtefactRefused):
        raise answer
    return check(Rate, answer.data)


def _chain(rows: int, dtype: str) -> bytes:
    """A model of PRODUCTS matrix products in a row, opset 13, so that any runtime of the last years takes it."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    floating = dtype == "float32"
    stored: dict[str, NDArray[Any]] = {}
    if not floating:
        stored = {"s": np.array(0.02, np.float32), "z": np.array(128, np.uint8)}
        stored |= {"ws": np.array(0.0007, np.float32), "wz": np.array(0, np.int8)}
    nodes, current = [], "x"
    for index in range(PRODUCTS):
        shape = (INNER, OUTER) if index % 2 == 0 else (OUTER, INNER)
        weight, made = f"w{index}", f"h{index}"
        if floating:
            stored[weight] = (random.standard_normal(shape) / shape[0] ** 0.5).astype(np.float32)
            nodes.append(helper.make_node("MatMul", [current, weight], [made]))
        else:
            stored[weight] = random.integers(-127, 128, shape).astype(np.int8)
            nodes.append(helper.make_node("QLinearMatMul", [current, "s", "z", weight, "ws", "wz", "s", "z"], [made]))
        current = made
    kind = TensorProto.FLOAT if floating else TensorProto.UINT8
    ends = [helper.make_tensor_value_info(name, kind, [rows, INNER]) for name in ("x", current)]
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "probe", ends[:1], ends[1:], tensors)
    made_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    return bytes(made_model.SerializeToString())


def estimate_floor(
    layers: Sequence[LayerCost], probe: ProbeRow, *, dtype: str | None = None, p50_ms: float | None = None
) -> RooflineRow | None:
    """The floor of these layers on a probed device; None where there are none, or no rate was measured for a dtype.

    dtype: of the arithmetic and of the weights where the layers are those of the float model (`int8`, `float32`); None
    takes each layer's own. p50_ms: measured median, for the distance.
    """
    if not layers or any((dtype or layer.dtype) not in probe.gemm for layer in layers):
        return None
    held = sum(_weights(layer, dtype) for layer in layers) <= probe.cache_mb * 1e6
    floor = compute = memory = operations = moved = 0.0
    for layer in layers:
        kind = dtype or layer.dtype
        size = _weights(layer, dtype) + layer.elements * BYTES[kind]
        arithmetic = layer.operations / probe.gemm[kind] / 1e6
        transfer = 0.0 if held else size / probe.bandwidth / 1e6
        floor, compute, memory = floor + max(arithmetic, transfer), compute + arithmetic, memory + transfer
        operations, moved = operations + layer.operations, moved + size
    kinds = sorted({dtype or layer.dtype for layer in layers})
    moves = f"{probe.bandwidth:.1f} GB/s" + (f" (not counted, {probe.cache_mb:.0f} MB of cache)" if held else "")
    rates = ", ".join(f"{probe.gemm[kind]:.0f} Gop/s {kind}" for kind in kinds)
    return RooflineRow(
        floor_ms=floor, compute_ms=compute, memory_ms=memory, gigaops=operations / 1e9, megabytes=moved / 1e6,
        distance=p50_ms / floor if p50_ms is not None and floor > 0 else None,
        basis=f"{len(layers)} layers with weights; {rates}, {moves} measured ({probe.how})",
    )  # fmt: skip


def _weights(layer: LayerCost, dtype: str | None) -> float:
    """Stored bytes of a layer's weights, in another dtype where one is given."""
    return layer.weights if dtype is None else layer.weights * BYTES[dtype] / BYTES[layer.dtype]
