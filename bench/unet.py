"""A MONAI UNet on 192x192, one thread: ONNX Runtime float and plain QDQ int8, OpenVINO float and NNCF int8, ncnn float,
LiteRT float and int8-dynamic.

All in one process, in blocks A B C D E .. E D C B A, so that drift falls on all alike; ratios with a bootstrap over
blocks.
The weights are random: speed does not depend on them, accuracy is not looked at. Calibration images are smoothed noise.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

SIDE, CASES = 192, 32
NEEDED = ("monai", "openvino", "nncf", "ncnn", "pnnx", "litert_torch", "ai_edge_quantizer")
PEER = "ort int8 (plain QDQ)"
OURS = ("openvino int8 (NNCF)", "litert int8-dynamic")
FLOATS = ("ort float", "openvino float", "ncnn float", "litert float")
AGAINST_PEER, AGAINST_FLOAT = 3.5, 1.6
"""What issue 3 asks of the artefact edgeft picks."""


def main(blocks: int = 24, runs: int = 8) -> None:
    """Print the median time of each and the two ratios; a sentence where a package is missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f"unet: skipped, it needs {', '.join(missing)}: pip install 'edgeft[medical,openvino,ncnn,litert]'")
        return
    with TemporaryDirectory() as name:
        sessions = prepare(Path(name))
        times = interleave(sessions, blocks, runs)
    for session, values in times.items():
        print(f"{session}: {median(values):.2f} ms")
    best, ours = (min(names, key=lambda name: median(times[name])) for names in (FLOATS, OURS))
    for other, wanted in ((PEER, AGAINST_PEER), (best, AGAINST_FLOAT)):
        print(f"{ours} against {other}: {ratio(times[other], times[ours])}, wanted {wanted:g}")


def prepare(place: Path) -> dict[str, Callable[[], Any]]:
    """Name -> one run on one image; every artefact is made here, through edgeft's own exporters but for the peer's."""
    from edgeft_exporters.litert.exporter import LiteRTExporter
    from edgeft_exporters.ncnn.exporter import NcnnExporter
    from edgeft_exporters.openvino.exporter import OpenVinoExporter

    from edgeft.artifact import Artifact
    from edgeft.device.profile import load_device
    from edgeft.runtimes import litert, ncnn_net, ort, ov

    images, context, device = smooth_images(), a_context(place), load_device("local-cpu")
    source = Artifact("onnx", export_onnx(place / "unet.onnx", images), "0" * 64)
    made = {"litert": export_litert(place / "litert", images)}
    openvino, ncnn = OpenVinoExporter(), NcnnExporter()
    for name, exporter in (("openvino", openvino), ("ncnn", ncnn)):
        made[name] = place / name
        made[name].mkdir()
        exporter.export(source, exporter.settings(device, {"batch": 1}), made[name], context)
    made["int8"] = place / "int8"
    made["int8"].mkdir()
    static = next(item for item in openvino.ladder(device) if item.needs_calibration)
    plain = Artifact("openvino", made["openvino"], "1" * 64)
    openvino.compress(plain, static, {"pixel_values": images}, made["int8"], context)
    quantise_plainly(source.path, place / "qdq.onnx", images)
    made["litert-int8"] = place / "litert-int8"
    made["litert-int8"].mkdir()
    lite = LiteRTExporter()
    lite.compress(
        Artifact("litert", made["litert"], "2" * 64), lite.ladder(device)[0], None, made["litert-int8"], context
    )
    one = {"threads": 1}
    image = images[:1]
    files = {
        FLOATS[0]: (ort, source.path, "pixel_values"),
        PEER: (ort, place / "qdq.onnx", "pixel_values"),
        FLOATS[1]: (ov, made["openvino"] / "model.xml", "pixel_values"),
        OURS[0]: (ov, made["int8"] / "model.xml", "pixel_values"),
        OURS[1]: (litert, made["litert-int8"] / "model.tflite", "pixel_values"),
        FLOATS[3]: (litert, made["litert"] / "model.tflite", "pixel_values"),
        FLOATS[2]: (ncnn_net, made["ncnn"] / "model.param", "in0"),
    }
    loaded = {name: (runtime.load(str(path), one), {feed: image}) for name, (runtime, path, feed) in files.items()}
    return {name: partial(session.run, feeds) for name, (session, feeds) in loaded.items()}


def network() -> Any:
    """The network of MONAI's spleen example in two dimensions: 5 levels, 16 to 256 channels, two residual units."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.networks.nets import UNet
    torch.manual_seed(0)
    return UNet(2, 1, 2, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2).eval()


def export_onnx(path: Path, images: Any) -> Path:
    """The network as ONNX, as the runtimes that read ONNX are given it."""
    import torch
    from edgeft_exporters.onnx.torch_export import quiet_export

    net = network()
    with quiet_export(), torch.no_grad():
        program = torch.onnx.export(
            net, (torch.from_numpy(images[:1]),), dynamo=True, opset_version=20, input_names=["pixel_values"],
            output_names=["logits"], verbose=False,
        )  # fmt: skip
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    program.save(str(path))
    return path


def export_litert(folder: Path, images: Any) -> Path:
    """The network as the LiteRT exporter's child process makes it of a torch model: traced, respelt, named."""
    import litert_torch
    import torch
    from edgeft_exporters.litert import child, file

    from edgeft.artifact import write_signature

    net, feeds = network(), (torch.from_numpy(images[:1]),)
    graph, _ = child.trace_graph(net, feeds)
    folder.mkdir()
    with torch.no_grad():
        litert_torch.convert(graph, feeds).export(str(folder / file.TFLITE))
    model = file.read_tflite(folder / file.TFLITE)
    file.name_tensors(model, ["pixel_values"], ["logits"], child.weight_names(net))
    file.write_tflite(model, folder / file.TFLITE)
    write_signature(folder, file.signature_of(model))
    return folder


def quantise_plainly(source: Path, target: Path, images: Any) -> None:
    """The peer: ONNX Runtime's pre-processing and quantize_static, weights per channel, else defaults; same images."""
    import logging

    import onnx
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.left, None)
            return None if image is None else {"pixel_values": image[None]}

    graph = onnx.load(source)
    del graph.graph.value_info[:]
    ready = target.with_suffix(".ready.onnx")
    onnx.save(graph, ready)
    logging.getLogger().setLevel(logging.ERROR)
    quant_pre_process(str(ready), str(ready), skip_symbolic_shape=True)
    quantize_static(str(ready), str(target), Reader(), per_channel=True)


def interleave(sessions: dict[str, Callable[[], Any]], blocks: int, runs: int) -> dict[str, list[float]]:
    """Name -> milliseconds of one run, the mean of each block; forwards then backwards through the sessions."""
    for run in sessions.values():
        for _ in range(2 * runs):
            run()
    times: dict[str, list[float]] = {name: [] for name in sessions}
    order = list(sessions)
    for _ in range(blocks):
        spent = dict.fromkeys(order, 0.0)
        for name in (*order, *reversed(order)):
            began = time.perf_counter()
            for _ in range(runs):
                sessions[name]()
            spent[name] += time.perf_counter() - began
        for name, seconds in spent.items():
            times[name].append(seconds * 1000 / (2 * runs))
    return times


def ratio(other: list[float], ours: list[float]) -> str:
    """How many times faster ours is, with its interval."""
    from edgeft.targets.compare import ratio_interval

    value, (low, high) = ratio_interval(list(zip(other, ours, strict=True)))
    return f"{value:.2f} times faster (95% {low:.2f} to {high:.2f}, {len(ours)} blocks)"


def smooth_images() -> Any:
    """(n, 1, 192, 192) float32: noise blurred over 6 pixels, scaled to a standard deviation of 1."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).standard_normal((CASES, 1, SIDE, SIDE))
    images = gaussian_filter(noise, (0, 0, 6, 6))
    return (images / images.std()).astype(np.float32)


def a_context(scratch: Path) -> Any:
    """What exporters are given; a given ONNX file has no labels here."""
    from edgeft.stage import Context
    from edgeft.tasks.text_classification import TextClassification

    return Context("bench", 0, scratch, TextClassification())


if __name__ == "__main__":
    main()
