"""nnU-Net v2 folders (plans.json, dataset.json): the network, its labels and its fixed preprocessing, read as data.

Format: github.com/MIC-DKFZ/nnUNet, documentation/explanation_plans_files.md, as written from version 2.3 on. A class
or an operator is taken from a list, never imported by the name that a file states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError
from edgeft.models.network import HINT, NNUNET_NETS, Network, Preparation, checked, dig, is_number, read_object, told

if TYPE_CHECKING:
    import torch

PLANS, DATASET = "plans.json", "dataset.json"
MOST_BYTES = 16 << 20
OPERATORS = (
    *("Conv2d", "Conv3d", "InstanceNorm2d", "InstanceNorm3d", "BatchNorm2d", "BatchNorm3d", "Dropout2d", "Dropout3d"),
    *("LeakyReLU", "ReLU", "GELU", "SiLU", "ELU"),
)
"""Classes of torch.nn that plans may name."""
NAMED = ("conv_op", "norm_op", "dropout_op", "nonlin")
BUILD_ERRORS = (
    *(TypeError, ValueError, NotImplementedError, RuntimeError, KeyError, AttributeError, IndexError, AssertionError),
    *(ArithmeticError, NameError, ImportError, MemoryError),
)
"""What a network's own code raises for arguments that it cannot be built with."""
LEAST = 1e-6
"""Of a deviation and of a range of values: what is divided by less is no image."""
PACKAGE = "dynamic_network_architectures"


@dataclass(frozen=True)
class Plans:
    """One configuration of an nnU-Net folder."""

    configuration: str
    network: Network
    labels: tuple[str, ...]


def is_nnunet(folder: Path) -> bool:
    """Whether a folder is laid out as nnU-Net v2 leaves a trained model."""
    return (folder / PLANS).is_file()


def read_plans(folder: Path) -> Plans:
    """The configuration that the folder was trained in. StepError for what cannot be taken over exactly, by name."""
    plans, dataset = read_object(folder / PLANS, MOST_BYTES), read_object(folder / DATASET, MOST_BYTES)
    name, stated = _configuration(folder, plans)
    labels = _labels(dataset, folder / DATASET)
    channels = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(channels, Mapping) or not channels:
        raise StepError("names no channels", where=str(folder / DATASET), hint="it needs channel_names")
    if plans.get("transpose_forward") not in (None, [0, 1, 2]):
        what = f"turns the axes of every image by {told(plans['transpose_forward'])}, which edgeft does not"
        raise StepError(what, where=str(folder / PLANS), hint="plan with data whose first axis is the slices'")
    return Plans(name, _network(stated, len(channels), len(labels), folder / PLANS), labels)


def plans_preparation(folder: Path) -> Preparation:
    """What the plans do to every image alike. StepError where that depends on the values of each image."""
    plans = read_object(folder / PLANS, MOST_BYTES)
    return _preparation(_configuration(folder, plans)[1], plans, read_plans(folder).network, folder / PLANS)


def build_nnunet(net: str, arguments: Mapping[str, Any], where: str) -> torch.nn.Module:
    """The network, answering at full resolution only. StepError where its package is missing or cannot build it."""
    from torch import nn

    try:
        from dynamic_network_architectures.architectures import unet
    except ImportError as error:
        what, hint = f"{PACKAGE}, which builds nnU-Net's networks, is not installed", "pip install 'edgeft[nnunet]'"
        raise StepError(what, where=where, hint=hint) from error
    given = {**arguments, "deep_supervision": False}
    for key in NAMED:
        given[key] = getattr(nn, _operator(given[key], where)) if given.get(key) else None
    try:
        module: nn.Module = getattr(unet, net)(**given)
    except BUILD_ERRORS as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        what = f"{PACKAGE} cannot build {net}: {told(first, 300)}"
        raise StepError(what, where=where, hint="see architecture.arch_kwargs in its plans") from error
    return module


def _configuration(folder: Path, plans: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """By the folder's own name (TRAINER__PLANS__CONFIGURATION), else the only one that it has."""
    found = plans.get("configurations")
    if not isinstance(found, Mapping) or not found:
        raise StepError("holds no configurations", where=str(folder / PLANS), hint="is it of nnU-Net v2?")
    names = [str(name) for name in found]
    name = folder.resolve().name.rpartition("__")[2]
    if name not in names:
        if len(names) > 1:
            what = f"has the configurations {told(', '.join(names), 300)}, and its folder's name says none"
            hint = f"name the folder as nnU-Net does: nnUNetTrainer__nnUNetPlans__{told(names[0])}"
            raise StepError(what, where=str(folder), hint=hint)
        name = names[0]
    stated, seen = dict(found[name]) if isinstance(found[name], Mapping) else {}, {name}
    while (above := stated.pop("inherits_from", None)) in names and above not in seen:
        seen.add(str(above))
        stated = {**(found[above] if isinstance(found[above], Mapping) else {}), **stated}
    if stated.get("previous_stage"):
        what = f"{told(name)} is the second stage of a cascade: it takes another network's answer as a channel"
        raise StepError(what, where=str(folder), hint="give 3d_fullres or 2d")
    return name, stated


def _labels(dataset: Mapping[str, Any], place: Path) -> tuple[str, ...]:
    stated = dataset.get("labels")
    numbers = {str(name): value for name, value in stated.items()} if isinstance(stated, Mapping) else {}
    if any(isinstance(value, list) for value in numbers.values()):
        what = "its labels are regions that overlap: each voxel has one label here"
        raise StepError(what, where=str(place), hint="train with plain labels")
    ordered = sorted((name for name in numbers if name != "ignore"), key=lambda name: _place(numbers[name]))
    if len(ordered) < 2 or [_place(numbers[name]) for name in ordered] != list(range(len(ordered))):
        raise StepError("its labels are not numbered 0, 1, 2, ...", where=str(place), hint="see labels in it")
    return tuple(ordered)


def _place(value: Any) -> int:
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _network(stated: Mapping[str, Any], channels: int, classes: int, place: Path) -> Network:
    about = stated.get("architecture")
    if not isinstance(about, Mapping) or not isinstance(about.get("arch_kwargs"), Mapping):
        what = "states no architecture with arch_kwargs, as nnU-Net before 2.3 wrote it"
        hint = "plan again with nnU-Net 2.3 or later: the same network, and its weights fit"
        raise StepError(what, where=str(place), hint=hint)
    arguments = {**about["arch_kwargs"], "input_channels": channels, "num_classes": classes}
    found = checked(about.get("network_class_name"), arguments, f"{place}: architecture")
    if found.net not in NNUNET_NETS:
        what = f"its network is {found.net}, not one of {', '.join(NNUNET_NETS)}"
        raise StepError(what, where=str(place), hint=HINT)
    for key in NAMED:
        if arguments.get(key):
            _operator(arguments[key], f"{place}: {key}")
    if found.dimensions is None:
        raise StepError("its conv_op is neither Conv2d nor Conv3d", where=str(place), hint="restore the file")
    return found


def _operator(stated: Any, where: str) -> str:
    """The name in torch.nn of what plans name by its whole path."""
    place, _, name = str(stated).rpartition(".")
    if name not in OPERATORS or (place != "torch.nn" and not place.startswith("torch.nn.modules.")):
        raise StepError(f"names the operator {str(stated)[:120]!r}", where=where, hint=f"known: {', '.join(OPERATORS)}")
    return name


def _preparation(stated: Mapping[str, Any], plans: Mapping[str, Any], network: Network, place: Path) -> Preparation:
    channels, spacing, patch = network.channels, _lengths(stated.get("spacing")), _lengths(stated.get("patch_size"))
    if spacing is None or patch is None or any(side != int(side) for side in patch):
        raise StepError("states no spacing and patch_size", where=str(place), hint="restore the file")
    if not len(spacing) == len(patch) == network.dimensions:
        what = f"states {len(spacing)} sides of spacing and {len(patch)} of patch_size for {network.dimensions} axes"
        raise StepError(what, where=str(place), hint="restore the file")
    base = Preparation(spacing=spacing, patch=tuple(int(side) for side in patch))
    schemes = stated.get("normalization_schemes")
    kinds = {str(item) for item in schemes} if isinstance(schemes, list) else set()
    if kinds == {"RGBTo01Normalization"} and channels == 3:
        return base
    if kinds == {"CTNormalization"} and channels == 1:
        known = dig(plans, "foreground_intensity_properties_per_channel", "0")
        low, high = dig(known, "percentile_00_5"), dig(known, "percentile_99_5")
        mean, std = dig(known, "mean"), dig(known, "std")
        if not all(map(is_number, (low, high, mean, std))) or high - low < LEAST or std < LEAST:
            raise StepError("states no intensities for its CTNormalization", where=str(place), hint="restore the file")
        # Clipped to low..high, minus the mean, by the deviation: the same of 0..1 as of low..high.
        spread = float(high) - float(low)
        return Preparation(
            values=(float(low), float(high)), mean=(float(mean) - float(low)) / spread, std=float(std) / spread,
            spacing=base.spacing, patch=base.patch,
        )  # fmt: skip
    shown = told(", ".join(sorted(kinds)), 200) or "nothing"
    what = f"its normalisation of {channels} channels is {shown}: only CTNormalization of one channel is fixed"
    hint = (
        "z-scores depend on the values of each image, which an artefact does not see beforehand: adapt the network to "
        "a fixed window with tokenizer: FOLDER (a preprocessor_config.json) and a finetune step"
    )
    raise StepError(what, where=str(place), hint=hint)


def _lengths(stated: Any) -> tuple[float, ...] | None:
    known = isinstance(stated, list) and len(stated) in (2, 3) and all(is_number(side) and side > 0 for side in stated)
    return tuple(float(side) for side in stated) if known else None
