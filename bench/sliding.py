"""A 192 x 192 x 192 volume, patch 96 x 96 x 96, two threads: MONAI's SlidingWindowInferer with the torch model against
edgeft's sliding windows on OpenVINO, float and int8, and on ONNX Runtime, float.

The volume is nilearn's MNI152 T1 template, cut and padded; the network is a MONAI UNet trained here for a minute on the
same volume, so that its Dice means something for comparing runtimes, and nothing else. One process, whole volumes in
turn forwards and backwards (A B C C B A); ratios with a bootstrap over blocks. Every side's Dice is printed, and a side
whose Dice differs by more than 0.01 is no comparison: it is said.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bench.unet import ratio

NEEDED = ("monai", "openvino", "nncf", "nilearn", "nibabel")
LABELS = ("rest", "grey", "white")
THREADS, CROP, STEPS = 2, 48, 60
PEER = "MONAI, torch float"
WANTED, SAME_DICE = 2.0, 0.01


def main(side: int = 192, patch: int = 96, overlaps: tuple[float, ...] = (0.25, 0.5), blocks: int = 3) -> None:
    """Print seconds per volume, Dice and the ratio to MONAI for each overlap."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f"sliding: skipped, it needs {', '.join(missing)}: pip install 'edgeft[medical,openvino,examples]'")
        return
    import torch

    torch.set_num_threads(THREADS)
    volume, truth = template(side)
    net = trained(volume, truth)
    with TemporaryDirectory() as name:
        sessions = prepare(Path(name), net, volume, truth, patch)
        for overlap in overlaps:
            _compare(sessions, net, volume, truth, patch, overlap, blocks)


def _compare(
    sessions: dict[str, Any], net: Any, volume: Any, truth: Any, patch: int, overlap: float, blocks: int
) -> None:
    from edgeft.medical.sliding import Plan, count_windows, segment

    plan = Plan((patch, patch, patch), overlap)
    sides: dict[str, Callable[[], Any]] = {PEER: lambda: by_monai(net, volume, patch, overlap)}
    for name, session in sessions.items():
        sides[name] = lambda session=session: segment(
            volume[..., None], plan, lambda windows: session.run({"pixels": windows})["logits"]
        ).classes  # fmt: skip
    times, answers = interleave(sides, blocks)
    found = {name: dice(answer, truth) for name, answer in answers.items()}
    extents = "x".join(map(str, volume.shape))
    print(f"overlap {overlap:g}: {count_windows(volume.shape, plan)} windows of {patch}^3 in {extents}", flush=True)
    for name, values in times.items():
        faster = "" if name == PEER else f", {ratio(times[PEER], values)}, wanted {WANTED:g}"
        other = f"; its Dice differs by more than {SAME_DICE}" if abs(found[name] - found[PEER]) > SAME_DICE else ""
        equal = float((answers[name] == answers[PEER]).mean())
        said = f"{median(values) / 1000:.2f} s, Dice {found[name]:.4f}, {equal:.3%} of voxels as MONAI"
        print(f"  {name}: {said}{faster}{other}", flush=True)


def template(side: int) -> tuple[Any, Any]:
    """(T1, tissue 0..2), uint8 (side, side, side): planes upwards, the middle of the head in the middle."""
    import nibabel
    import numpy as np

    from edgeft.data.sources.mni_slices import LIKELY, template_files

    found = {}
    for kind, path in template_files().items():
        values = np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)
        low = [max(0, (have - side) // 2) for have in values.shape]
        values = values[tuple(slice(at, at + side) for at in low)]
        around = [((side - have) // 2, side - have - (side - have) // 2) for have in values.shape]
        found[kind] = np.pad(values, around)
    return found["t1"], np.where(found["wm"] >= LIKELY, 2, np.where(found["gm"] >= LIKELY, 1, 0)).astype(np.uint8)


def network() -> Any:
    """MONAI's UNet in three dimensions: 4 levels, 16 to 128 channels, two residual units, batch normalisation."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.networks.nets import UNet
    torch.manual_seed(0)
    return UNet(3, 1, len(LABELS), channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=2, norm="batch")


def scaled(windows: Any) -> Any:
    """What the artefact does to its 8-bit input, as torch: float32 (n, 1, ...)."""
    import torch

    return (torch.from_numpy(windows).to(torch.float32) / 255 - 0.5) / 0.5


def trained(volume: Any, truth: Any) -> Any:
    """The network after STEPS steps of two random crops around tissue."""
    import numpy as np
    import torch

    net, draw = network(), np.random.default_rng(0)
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3)
    crop = min(CROP, volume.shape[0])
    voxels = np.argwhere(truth)
    for _ in range(STEPS):
        middles = voxels[draw.integers(len(voxels), size=2)]
        starts = np.clip(middles - crop // 2, 0, np.array(volume.shape) - crop)
        cuts = [tuple(slice(at, at + crop) for at in start) for start in starts]
        given = scaled(np.stack([volume[cut] for cut in cuts])[:, None])
        wanted = torch.from_numpy(np.stack([truth[cut] for cut in cuts]).astype(np.int64))
        loss = torch.nn.functional.cross_entropy(net(given), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


def prepare(place: Path, net: Any, volume: Any, truth: Any, patch: int) -> dict[str, Any]:
    """Name -> loaded session; every artefact is made by edgeft's own exporters of the trained network."""
    import numpy as np
    from edgeft_exporters.onnx.exporter import OnnxExporter
    from edgeft_exporters.openvino.exporter import OpenVinoExporter
    from safetensors.torch import save_file

    from edgeft.artifact import Artifact
    from edgeft.canonical import canonical_json
    from edgeft.device.profile import load_device
    from edgeft.runtimes import ort, ov
    from edgeft.stage import Context
    from edgeft.tasks.volume_segmentation import VolumeSegmentation
    from edgeft.tasks.volume_spec import VolumeSpec, volume_json

    folders = {name: place / name for name in ("model", "prepared", "onnx", "openvino", "int8")}
    for folder in folders.values():
        folder.mkdir()
    (folders["model"] / "net.py").write_text(
        "from bench.sliding import network\n\n\ndef build(num_labels):\n    return network()\n"
    )
    save_file(net.state_dict(), folders["model"] / "model.safetensors")
    spec = VolumeSpec(embed="pixels", depth=patch, height=patch, width=patch, largest=volume.shape)
    task = VolumeSegmentation()
    (folders["prepared"] / "preprocess.json").write_bytes(canonical_json(volume_json(task.name, LABELS, spec)))
    source = Artifact("torch-model", folders["model"], "0" * 64, {"form": "code", "code": "net.py:build"})
    context = Context("bench", 0, place, task, LABELS, prepared=folders["prepared"])
    device, serve = load_device("local-cpu"), {"batch": 1, "depth": patch, "height": patch, "width": patch}
    onnx, openvino = OnnxExporter(), OpenVinoExporter()
    for exporter, folder in ((onnx, folders["onnx"]), (openvino, folders["openvino"])):
        exporter.export(source, exporter.settings(device, serve), folder, context)
    starts = np.linspace(0, volume.shape[0] - patch, 8).astype(int)
    cases = np.stack([volume[at : at + patch, at : at + patch, at : at + patch, None] for at in starts])
    static = next(item for item in openvino.ladder(device) if item.needs_calibration)
    openvino.compress(
        Artifact("openvino", folders["openvino"], "1" * 64), static, {"pixels": cases}, folders["int8"], context
    )
    options = {"threads": THREADS}
    return {
        "ONNX Runtime float": ort.load(str(folders["onnx"] / "model.onnx"), options),
        "OpenVINO float": ov.load(str(folders["openvino"] / "model.xml"), options),
        "OpenVINO int8 (NNCF)": ov.load(str(folders["int8"] / "model.xml"), options),
    }


def by_monai(net: Any, volume: Any, patch: int, overlap: float) -> Any:
    """The peer, as its users call it: float32 volume in, blended logits, argmax."""
    import numpy as np
    import torch
    from monai.inferers import SlidingWindowInferer

    inferer = SlidingWindowInferer((patch, patch, patch), 1, overlap, mode="gaussian")
    with torch.inference_mode():
        return inferer(scaled(volume[None, None]), net)[0].argmax(0).numpy().astype(np.uint8)


def dice(answer: Any, truth: Any) -> float:
    """Mean over the two tissues."""
    return float(
        sum(2 * ((answer == k) & (truth == k)).sum() / ((answer == k).sum() + (truth == k).sum()) for k in (1, 2)) / 2
    )


def interleave(sides: dict[str, Callable[[], Any]], blocks: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """(name -> milliseconds of one volume, the mean of each block; name -> its answer); one warm-up of each first."""
    answers = {name: run() for name, run in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    for _ in range(blocks):
        spent = dict.fromkeys(order, 0.0)
        for name in (*order, *reversed(order)):
            began = time.perf_counter()
            sides[name]()
            spent[name] += time.perf_counter() - began
        for name, seconds in spent.items():
            times[name].append(seconds * 1000 / 2)
    return times, answers


if __name__ == "__main__":
    main()
