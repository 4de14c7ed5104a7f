"""Folders that are no transformers model: a MONAI bundle, an nnU-Net v2 folder, or what edgeft made of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeft.errors import StepError
from edgeft.models.monai_bundle import bundle_labels, bundle_network, is_bundle
from edgeft.models.monai_preparation import bundle_preparation, bundle_size
from edgeft.models.network import Network, Preparation, own_network
from edgeft.models.nnunet import is_nnunet, plans_preparation, read_plans


def is_foreign(folder: Path) -> bool:
    """Whether its network and preprocessing are read by this module."""
    return not (folder / "config.json").is_file() and (is_bundle(folder) or is_nnunet(folder))


def read_network(folder: Path) -> Network:
    """The network. Raises StepError for code in its place, another class, arguments that are not plain."""
    return own_network(folder) or (read_plans(folder).network if is_nnunet(folder) else bundle_network(folder))


def read_labels(folder: Path) -> tuple[str, ...] | None:
    """Names of the classes in the network's order; None where it names none. StepError for names that are none."""
    found = read_plans(folder).labels if is_nnunet(folder) else bundle_labels(folder)
    seen: set[str] = set()
    for name in found or ():
        if not name.strip() or not name.isprintable() or name in seen:
            what = f"its label {name[:80]!a} is empty, there twice, or not to be shown"
            raise StepError(what, where=str(folder), hint="give each label a name of its own, on one line")
        seen.add(name)
    return found


def read_preparation(folder: Path) -> Preparation:
    """What is done to every image alike. Raises StepError for a step that depends on the values of each image."""
    return plans_preparation(folder) if is_nnunet(folder) else bundle_preparation(folder)


def processor_of(folder: Path) -> dict[str, Any]:
    """The same as preprocessor_config.json would say it, for 8-bit pixels of the stated range; size where fixed."""
    network, said = read_network(folder), read_preparation(folder)
    low, high = said.result
    channels = network.channels
    if channels not in (1, 3):
        what = f"its {network.net} takes {channels} channels; images have one (grey) or three"
        raise StepError(what, where=str(folder), hint="give a network of one or three channels")
    # 0..255 stands for a_min..a_max; ((x / 255) * (high - low) + low - mean) / std.
    spread = high - low
    stated: dict[str, Any] = {
        "do_rescale": True, "rescale_factor": 1 / 255, "num_channels": channels, "resample": 2, "do_normalize": True,
        "image_mean": [(said.mean - low) / spread] * channels, "image_std": [said.std / spread] * channels,
    }  # fmt: skip
    size = None if is_nnunet(folder) else bundle_size(folder)
    return stated | ({"size": {"height": size[0], "width": size[1]}} if size else {})
