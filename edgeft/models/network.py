"""A network that is built by name from plain arguments, and what is done to an image before it, as data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.errors import StepError

OWN = "network.json"
"""What edgeft writes beside the weights of such a network that it trained or pruned."""
MONAI_NETS = (
    "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264",
    "DynUNet", "SegResNet", "SwinUNETR", "UNETR", "UNet", "VNet",
)  # fmt: skip
"""Classes of monai.networks.nets that are built from plain arguments and fetch nothing."""
NNUNET_NETS = ("PlainConvUNet", "ResidualEncoderUNet")
"""Classes of dynamic_network_architectures.architectures.unet, which nnU-Net's plans name."""
PLACES = {
    "monai.networks.nets": MONAI_NETS,
    "dynamic_network_architectures.architectures.unet": NNUNET_NETS,
}
DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "BasicUNet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    "BasicUNetPlusPlus": {"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    "SegResNet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    "SwinUNETR": {"spatial_dims": 3},
    "UNETR": {"spatial_dims": 3},
    "VNet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 1},
}
"""What MONAI takes for these arguments where a bundle does not state them; of the other classes they must be stated."""
MOST_BYTES, MOST_VALUES, DEEPEST = 4 << 20, 4096, 12
LARGEST = 1 << 16
"""Of the numbers that a network is built with: none has so many stages, channels or sides."""
HINT = "give the network as code: model: {code: net.py:build, weights: FILE}"


@dataclass(frozen=True)
class Network:
    """A class of `PLACES` and the arguments it is built with."""

    net: str
    arguments: Mapping[str, Any]

    @property
    def family(self) -> str:
        """Whose network it is, for people."""
        return "nnU-Net" if self.net in NNUNET_NETS else "MONAI"

    @property
    def outputs(self) -> int | None:
        """Classes it answers, where it says so."""
        return self._number("num_classes" if self.net in NNUNET_NETS else "out_channels")

    @property
    def channels(self) -> int | None:
        """Channels of an image, where it says so."""
        return self._number("input_channels" if self.net in NNUNET_NETS else "in_channels")

    @property
    def dimensions(self) -> int | None:
        """2 for images, 3 for volumes, where it says so."""
        if self.net in NNUNET_NETS:
            return {"Conv2d": 2, "Conv3d": 3}.get(str(self.arguments.get("conv_op")).rpartition(".")[2])
        return self._number("spatial_dims")

    def _number(self, name: str) -> int | None:
        found = self.arguments.get(name, DEFAULTS.get(self.net, {}).get(name))
        return found if isinstance(found, int) and not isinstance(found, bool) else None


@dataclass(frozen=True)
class Preparation:
    """What is done to an image first. values: (low, high) of its units brought to `result` and clipped, where stated.

    spacing in mm, orientation as axis codes such as RAS; None where the image is left as it is. patch: (depth,) height,
    width of the windows it was trained on. skipped: steps that are not taken over.
    """

    values: tuple[float, float] | None = None
    result: tuple[float, float] = (0.0, 1.0)
    mean: float = 0.0
    std: float = 1.0
    spacing: tuple[float, ...] | None = None
    orientation: str | None = None
    patch: tuple[int, ...] | None = None
    skipped: tuple[str, ...] = ()


def checked(net: Any, arguments: Any, where: str) -> Network:
    """StepError for another class than those of `PLACES`, and for arguments that are not plain."""
    name = str(net).rpartition(".")[2]
    place = str(net)[: -len(name)].removesuffix(".")
    known = [item for nets in PLACES.values() for item in nets]
    if name not in known or (place and not any(_lies_in(place, home, name) for home in PLACES)):
        raise StepError(f"its network is {str(net)[:120]!r}, not one of {', '.join(known)}", where=where, hint=HINT)
    if not isinstance(arguments, Mapping):
        raise StepError("its network has no arguments", where=where, hint=HINT)
    for key, value in arguments.items():
        _check_plain(value, f"{where}.{told(key)}", 0)
    if arguments.get("pretrained"):
        raise StepError("pretrained: weights would be fetched while it is built", where=where, hint="set it to false")
    return Network(name, dict(arguments))


def _lies_in(place: str, home: str, name: str) -> bool:
    return name in PLACES[home] and (place == home or place.startswith(home + "."))


def _check_plain(value: Any, where: str, depth: int) -> None:
    """Numbers, texts that are no expressions, and lists and mappings of them."""
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        raise StepError(f"{value[:80]!r} is an expression, which is never run", where=where, hint="write its value")
    if isinstance(value, int | float) and not abs(value) <= LARGEST:  # NaN fails this, too
        raise StepError(f"{told(value)} is no number that a network is built with", where=where, hint=HINT)
    if isinstance(value, Mapping):
        if "_target_" in value:
            raise StepError(f"builds {str(value['_target_'])[:80]!r} as an argument", where=where, hint=HINT)
        value = list(value.values())
    if isinstance(value, list):
        if depth > DEEPEST or len(value) > MOST_VALUES:
            raise StepError("is nested or long beyond reason", where=where)
        for item in value:
            _check_plain(item, where, depth + 1)


def own_network(folder: Path) -> Network | None:
    """What edgeft wrote beside weights of its own; None where it wrote nothing. Raises StepError."""
    own = folder / OWN
    if not own.is_file():
        return None
    stated = read_object(own)
    return checked(stated.get("net"), stated.get("arguments"), str(own))


def read_object(path: Path, most: int = MOST_BYTES) -> dict[str, Any]:
    """A JSON object of at most `most` bytes. Raises StepError."""
    try:
        if path.stat().st_size > most:
            raise ValueError(f"it is larger than {most >> 20} MB")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise StepError(f"cannot be read as JSON: {error}", where=str(path), hint="restore the file") from error
    if not isinstance(value, dict):
        raise StepError("is not a JSON object", where=str(path), hint="restore the file")
    return value


def dig(value: Any, *keys: str) -> Any:
    """What lies under these keys, None where one is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def told(value: Any, most: int = 80) -> str:
    """What a stranger's file states, on one line of at most `most` characters that cannot command a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in str(value)[:most])


def is_number(value: Any) -> bool:
    """A finite int or float of a sane size."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) < 1e9
