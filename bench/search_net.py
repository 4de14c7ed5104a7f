"""A MONAI UNet trained for a minute on MNI152: T1 slices of one hemisphere to grey and white matter.

One average brain, mirrored left to right and packaged with nilearn: enough to compare searches on, no evidence of
anything clinical. Training and validation slices come from slabs with gaps between them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HEIGHT, WIDTH, CLASSES = 192, 96, 3
SLABS = {"train": ((30, 56), (96, 122)), "calibration": ((36, 52), (100, 116)), "validation": ((66, 86), (132, 157))}
"""Axial slices of each part, 10 between training and validation; 45 for validation, as in the comparison this one
follows. Calibration slices are training slices."""


BOTTOM, MIDDLE = "model.1.submodule.1.submodule.1.submodule", "model.1.submodule.2"
OUTLIERS = {
    "deep": (
        (f"{BOTTOM}.conv.unit0.conv.weight", 0, 3, 1), (f"{BOTTOM}.conv.unit0.conv.bias", 0, 3, 1),
        (f"{BOTTOM}.residual.weight", 0, 3, 1), (f"{BOTTOM}.residual.bias", 0, 3, 1),
        ("model.1.submodule.1.submodule.2.0.conv.weight", 0, 64 + 3, -1),
    ),
    "late": (
        (f"{MIDDLE}.0.conv.weight", 1, 3, 1), (f"{MIDDLE}.0.conv.bias", 0, 3, 1),
        (f"{MIDDLE}.1.conv.unit0.conv.weight", 1, 3, -1), (f"{MIDDLE}.1.conv.unit0.conv.weight", 0, 3, 1),
        (f"{MIDDLE}.1.conv.unit0.conv.bias", 0, 3, 1), ("model.2.0.conv.weight", 0, 16 + 3, -1),
    ),
}  # fmt: skip
"""Place -> (weights, axis, channel, power of the factor): at the bottom of the UNet, and before its last upsampling."""


@dataclass(frozen=True)
class Slices:
    """images: (n, 1, 192, 96) float32. truth: (n, 192, 96) int64: 0 background, 1 grey, 2 white matter."""

    images: NDArray[np.float32]
    truth: NDArray[np.int64]


def load_slices() -> dict[str, Slices]:
    """Part -> slices of the right hemisphere, cut to 192 x 96, standardised by the whole volume."""
    import nibabel
    import nilearn
    import numpy as np

    folder = Path(nilearn.__file__).parent / "datasets" / "data"
    found = {}
    for kind in ("t1", "gm", "wm"):
        path = folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
        volume = np.asarray(nibabel.load(path).dataobj, dtype=np.float32)
        found[kind] = volume[101 : 101 + WIDTH, 20 : 20 + HEIGHT]
    t1 = (found["t1"] - found["t1"].mean()) / found["t1"].std()
    top = found["gm"].max()
    truth = np.where(np.maximum(found["gm"], found["wm"]) < top / 2, 0, np.where(found["gm"] >= found["wm"], 1, 2))
    parts = {}
    for name, slabs in SLABS.items():
        index = [place for start, end in slabs for place in range(start, end)]
        images = np.ascontiguousarray(t1[:, :, index].transpose(2, 1, 0)[:, None])
        parts[name] = Slices(images.astype(np.float32), truth[:, :, index].transpose(2, 1, 0).astype(np.int64))
    return parts


def train_net(train: Slices, steps: int = 150, seed: int = 0) -> Any:
    """The UNet after that many steps of eight noisy, rescaled slices."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.networks.nets import UNet
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    net = UNet(2, 1, CLASSES, channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=1, norm="batch")
    images, truth = torch.from_numpy(train.images), torch.from_numpy(train.truth)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(steps):
        take = torch.randint(0, len(images), (8,))
        batch = images[take] * (0.8 + 0.4 * torch.rand(8, 1, 1, 1)) + 0.15 * torch.randn(8, 1, HEIGHT, WIDTH)
        loss = torch.nn.functional.cross_entropy(net(batch), truth[take])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def save_onnx(net: Any, path: Path) -> Path:
    """The trained net with a batch of one."""
    import torch
    from edgeft_exporters.onnx.torch_export import quiet_export

    with quiet_export(), torch.no_grad():
        program = torch.onnx.export(
            net, (torch.zeros(1, 1, HEIGHT, WIDTH),), dynamo=True, opset_version=20, input_names=["image"],
            output_names=["logits"], verbose=False,
        )  # fmt: skip
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    program.save(str(path))
    return path


def plant_outliers(path: Path, places: Sequence[str], factor: float = 64.0) -> None:
    """Make one channel of the saved net that much larger and what reads it that much smaller: in float nothing changes,
    8-bit ranges become bad. places: `deep`, `late`. PReLU is linear in its scale, so that it may lie between."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    weights = {item.name: item for item in model.graph.initializer}
    for name, axis, channel, power in [item for place in places for item in OUTLIERS[place]]:
        array = numpy_helper.to_array(weights[name]).copy()
        array[(slice(None),) * axis + (channel,)] *= factor**power
        weights[name].CopyFrom(numpy_helper.from_array(array, name))
    onnx.save(model, path)


def dice(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,): mean Dice of grey and white matter of each slice; both empty is 1, one empty 0."""
    import numpy as np

    found, scores = logits.argmax(axis=1), []
    for kind in (1, 2):
        ours, theirs = found == kind, truth == kind
        total = ours.sum(axis=(1, 2)) + theirs.sum(axis=(1, 2))
        shared = 2.0 * (ours & theirs).sum(axis=(1, 2))
        scores.append(np.where(total == 0, 1.0, shared / np.maximum(total, 1)))
    return np.mean(scores, axis=0)
