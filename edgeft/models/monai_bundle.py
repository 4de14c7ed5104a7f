"""MONAI bundles as they lie on the disk: the network and its labels, read as data and never run.

A bundle's configuration is a program: `_target_` names any callable and `$` begins an expression. Of all that, only a
network of a known class with plain arguments is taken.
Format: the MONAI bundle specification, docs.monai.io/en/stable/bundle_intro.html.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft.errors import StepError
from edgeft.models.network import DEEPEST, HINT, OWN, Network, checked, dig, read_object

CONFIGS = ("configs/inference.json", "configs/train.json")
METADATA = "configs/metadata.json"
WEIGHTS = ("model.safetensors", "models/model.safetensors")
PICKLES = ("models/model.pt", "models/model.pth", "models/model.ts")
MOST_RESOLVED = 100_000


def is_bundle(folder: Path) -> bool:
    """Whether a folder is laid out as a bundle, or holds a network that edgeft wrote."""
    return (folder / OWN).is_file() or any((folder / name).is_file() for name in CONFIGS)


def bundle_network(folder: Path) -> Network:
    """The network of a bundle. Raises StepError for code in its place, another class, arguments that are not plain."""
    place, config = read_config(folder)
    for key in ("network_def", "network", "net"):
        stated = resolved(config.get(key), config, str(place))
        if isinstance(stated, Mapping) and "_target_" in stated:
            arguments = {name: value for name, value in stated.items() if name != "_target_"}
            return checked(stated["_target_"], arguments, f"{place}: {key}")
    raise StepError("the bundle has no network_def that could be read", where=str(place), hint=HINT)


def bundle_labels(folder: Path) -> tuple[str, ...] | None:
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
