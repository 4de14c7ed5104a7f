"""What a MONAI bundle does to an image before its network, as far as it is the same for every image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeft.errors import StepError
from edgeft.models.monai_bundle import HINT, METADATA, dig, read_config, read_network, read_object, resolved


@dataclass(frozen=True)
class Preparation:
    """What the bundle does to an image first. values: (a_min, a_max) brought to `result` and clipped, where stated.

    spacing in mm, orientation as axis codes such as RAS; None where the bundle leaves the image as it is.
    """

    values: tuple[float, float] | None = None
    result: tuple[float, float] = (0.0, 1.0)
    mean: float = 0.0
    std: float = 1.0
    spacing: tuple[float, ...] | None = None
    orientation: str | None = None
    skipped: tuple[str, ...] = ()


def read_preparation(folder: Path) -> Preparation:
    """The steps of `preprocessing` that are the same for every image. Raises StepError for one that is not.

    Loading and moving axes is what edgeft does itself; spacing, orientation and the window are for `preprocess:`.
    """
    place, config = read_config(folder)
    found, skipped = Preparation(), []
    for step in _transforms(resolved(config.get("preprocessing"), config, str(place))):
        name = str(step.get("_target_", "")).rpartition(".")[2].removesuffix("d").removesuffix("D")
        if name == "ScaleIntensityRange":
            found = replace(
                found, values=_pair(step, "a_min", "a_max", place), result=_pair(step, "b_min", "b_max", place)
            )
        elif name == "NormalizeIntensity" and _number(step.get("subtrahend")) and _positive(step.get("divisor")):
            found = replace(found, mean=float(step["subtrahend"]), std=float(step["divisor"]))
        elif name in ("NormalizeIntensity", "ScaleIntensity", "ScaleIntensityRangePercentiles", "HistogramNormalize"):
            what = (
                f"its preprocessing has {name}, which depends on the values of each image: an artefact cannot do that"
            )
            raise StepError(what, where=str(place), hint=f"train with a fixed range (ScaleIntensityRange), or {HINT}")
        elif name == "Spacing" and isinstance(step.get("pixdim"), list):
            found = replace(found, spacing=tuple(float(value) for value in step["pixdim"] if _number(value)))
        elif name == "Orientation" and isinstance(step.get("axcodes"), str):
            found = replace(found, orientation=str(step["axcodes"]))
        else:
            skipped.append(name)
    return replace(found, skipped=tuple(skipped))


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
    size = _image_size(folder)
    return stated | ({"size": {"height": size[0], "width": size[1]}} if size else {})


def _image_size(folder: Path) -> tuple[int, int] | None:
    path = folder / METADATA
    inputs = dig(read_object(path), "network_data_format", "inputs") if path.is_file() else None
    for about in inputs.values() if isinstance(inputs, Mapping) else ():
        shape = about.get("spatial_shape") if isinstance(about, Mapping) else None
        if isinstance(shape, list) and len(shape) == 2 and all(isinstance(side, int) and side > 0 for side in shape):
            return shape[0], shape[1]
    return None


def _transforms(stated: Any) -> Iterator[Mapping[str, Any]]:
    """Steps of a Compose that work on images and are not switched off."""
    steps = stated.get("transforms") if isinstance(stated, Mapping) else stated
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, Mapping) and not step.get("_disabled_") and step.get("keys") not in ("label", ["label"]):
            yield step


def _pair(step: Mapping[str, Any], low: str, high: str, place: Path) -> tuple[float, float]:
    given = step.get(low), step.get(high)
    if not all(map(_number, given)) or given[0] >= given[1]:  # type: ignore[operator]
        what = f"its ScaleIntensityRange has {low}: {given[0]}, {high}: {given[1]}"
        raise StepError(what, where=str(place), hint="both are numbers, the first below the second")
    return float(given[0]), float(given[1])  # type: ignore[arg-type]


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) < 1e9
