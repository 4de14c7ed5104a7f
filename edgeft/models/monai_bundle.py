"""MONAI bundles as they lie on the disk: the network and its labels, read as data and never run.

A bundle's configuration is a program: `_target_` names any callable and `$` begins an expression. Of all that, only a
network of a known class with plain arguments is taken.
Format: the MONAI bundle specification, docs.monai.io/en/stable/bundle_intro.html.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.errors import StepError

CONFIGS = ("configs/inference.json", "configs/train.json")
METADATA = "configs/metadata.json"
WEIGHTS = ("model.safetensors", "models/model.safetensors")
PICKLES = ("models/model.pt", "models/model.pth", "models/model.ts")
OWN = "network.json"
"""What edgeft writes beside the weights of such a network that it trained or pruned."""
NETS = (
    "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264",
    "DynUNet", "SegResNet", "SwinUNETR", "UNETR", "UNet", "VNet",
)  # fmt: skip
"""Classes of monai.networks.nets that are built from plain arguments and fetch nothing."""
DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "BasicUNet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    "BasicUNetPlusPlus": {"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    "SegResNet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    "SwinUNETR": {"spatial_dims": 3},
    "UNETR": {"spatial_dims": 3},
    "VNet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 1},
}
"""What MONAI takes for these arguments where a bundle does not state them; of the other classes they must be stated."""
PLACE = "monai.networks.nets."
MOST_BYTES, MOST_VALUES, MOST_RESOLVED, DEEPEST = 4 << 20, 4096, 100_000, 12
HINT = "give the network as code: model: {code: net.py:build, weights: FILE}"


@dataclass(frozen=True)
class Network:
    """A class of `NETS` and the arguments it is built with."""

    net: str
    arguments: Mapping[str, Any]

    @property
    def outputs(self) -> int | None:
        """Classes it answers, where it says so."""
        return self._number("out_channels")

    @property
    def channels(self) -> int | None:
        """Channels of an image, where it says so."""
        return self._number("in_channels")

    @property
    def dimensions(self) -> int | None:
        """2 for images, 3 for volumes, where it says so."""
        return self._number("spatial_dims")

    def _number(self, name: str) -> int | None:
        found = self.arguments.get(name, DEFAULTS.get(self.net, {}).get(name))
        return found if isinstance(found, int) and not isinstance(found, bool) else None


def is_bundle(folder: Path) -> bool:
    """Whether a folder is laid out as a bundle, or holds a network that edgeft made of one."""
    return (folder / OWN).is_file() or any((folder / name).is_file() for name in CONFIGS)


def read_network(folder: Path) -> Network:
    """The network of a bundle. Raises StepError for code in its place, another class, arguments that are not plain."""
    own = folder / OWN
    if own.is_file():
        stated = read_object(own)
        return _checked(stated.get("net"), stated.get("arguments"), str(own))
    place, config = read_config(folder)
    for key in ("network_def", "network", "net"):
        stated = resolved(config.get(key), config, str(place))
        if isinstance(stated, Mapping) and "_target_" in stated:
            arguments = {name: value for name, value in stated.items() if name != "_target_"}
            return _checked(stated["_target_"], arguments, f"{place}: {key}")
    raise StepError("the bundle has no network_def that could be read", where=str(place), hint=HINT)


def read_labels(folder: Path) -> tuple[str, ...] | None:
    """Names of the classes by metadata.json, in their order; None where it names none."""
    path = folder / METADATA
    if not path.is_file():
        return None
    outputs = dig(read_object(path), "network_data_format", "outputs")
    for about in outputs.values() if isinstance(outputs, Mapping) else ():
        names = about.get("channel_def") if isinstance(about, Mapping) else None
        if isinstance(names, Mapping) and len(names) > 1 and set(names) == {str(n) for n in range(len(names))}:
            return tuple(str(names[str(place)]) for place in range(len(names)))
    return None


def _checked(net: Any, arguments: Any, where: str) -> Network:
    name = str(net).rpartition(".")[2]
    prefix = str(net)[: -len(name)]
    if name not in NETS or (prefix and not prefix.startswith(PLACE)):
        raise StepError(f"its network is {str(net)[:120]!r}, not one of {', '.join(NETS)}", where=where, hint=HINT)
    if not isinstance(arguments, Mapping):
        raise StepError("its network has no arguments", where=where, hint=HINT)
    for key, value in arguments.items():
        _check_plain(value, f"{where}.{key}", 0)
    if arguments.get("pretrained"):
        raise StepError("pretrained: weights would be fetched while it is built", where=where, hint="set it to false")
    return Network(name, dict(arguments))


def _check_plain(value: Any, where: str, depth: int) -> None:
    """Numbers, texts that are no expressions, and lists and mappings of them."""
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        raise StepError(f"{value[:80]!r} is an expression, which is never run", where=where, hint="write its value")
    if isinstance(value, Mapping):
        if "_target_" in value:
            raise StepError(f"builds {str(value['_target_'])[:80]!r} as an argument", where=where, hint=HINT)
        value = list(value.values())
    if isinstance(value, list):
        if depth > DEEPEST or len(value) > MOST_VALUES:
            raise StepError("is nested or long beyond reason", where=where)
        for item in value:
            _check_plain(item, where, depth + 1)


def resolved(value: Any, config: Mapping[str, Any], where: str) -> Any:
    """The value with `@key` and `@key::part` replaced by what they name; anything else stays as it is written.

    StepError for references that go round in circles, or that name each other so often that they would fill the memory.
    """
    counted = itertools.count()

    def resolve(value: Any, depth: int) -> Any:
        if depth > DEEPEST:
            raise StepError("its references go round in circles", where=where)
        if next(counted) > MOST_RESOLVED:
            raise StepError(f"it has more than {MOST_RESOLVED:,} values with its references resolved", where=where)
        if isinstance(value, str) and value.startswith("@"):
            named: Any = config
            for part in value[1:].replace("#", "::").split("::"):
                named = named.get(part) if isinstance(named, Mapping) else _item(named, part)
            return resolve(named, depth + 1)
        if isinstance(value, Mapping):
            return {key: resolve(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [resolve(item, depth + 1) for item in value]
        return value

    return resolve(value, 0)


def _item(value: Any, part: str) -> Any:
    return value[int(part)] if isinstance(value, list) and part.isdecimal() and int(part) < len(value) else None


def read_config(folder: Path) -> tuple[Path, dict[str, Any]]:
    """(file, content) of the configuration for inference, else for training. Raises StepError."""
    for name in CONFIGS:
        if (folder / name).is_file():
            return folder / name, read_object(folder / name)
    raise StepError("is no MONAI bundle", where=str(folder), hint=f"it needs {CONFIGS[0]}")


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a bundle. Raises StepError."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES >> 20} MB")
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
