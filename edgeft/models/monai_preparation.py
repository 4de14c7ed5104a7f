"""What a MONAI bundle does to an image before its network, as far as it is the same for every image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeft.errors import StepError
from edgeft.models.monai_bundle import METADATA, read_config, resolved
from edgeft.models.network import HINT, Preparation, dig, is_number, read_object


def bundle_preparation(folder: Path) -> Preparation:
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
        elif name == "NormalizeIntensity" and is_number(step.get("subtrahend")) and _positive(step.get("divisor")):
            found = replace(found, mean=float(step["subtrahend"]), std=float(step["divisor"]))
        elif name in ("NormalizeIntensity", "ScaleIntensity", "ScaleIntensityRangePercentiles", "HistogramNormalize"):
            what = (
                f"its preprocessing has {name}, which depends on the values of each image: an artefact cannot do that"
            )
            raise StepError(what, where=str(place), hint=f"train with a fixed range (ScaleIntensityRange), or {HINT}")
        elif name == "Spacing" and isinstance(step.get("pixdim"), list) and all(map(is_number, step["pixdim"])):
            # To MONAI a side of 0 or less keeps the image's own, as 0 does in `preprocess:`.
            found = replace(found, spacing=tuple(max(0.0, float(value)) for value in step["pixdim"]))
        elif name == "Orientation" and isinstance(step.get("axcodes"), str):
            found = replace(found, orientation=str(step["axcodes"]))
        else:
            skipped.append(name)
    return replace(found, skipped=tuple(skipped))


def bundle_size(folder: Path) -> tuple[int, int] | None:
    """(height, width) of images, where metadata.json fixes them."""
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
    if not all(map(is_number, given)) or given[0] >= given[1]:  # type: ignore[operator]
        what = f"its ScaleIntensityRange has {low}: {given[0]}, {high}: {given[1]}"
        raise StepError(what, where=str(place), hint="both are numbers, the first below the second")
    return float(given[0]), float(given[1])  # type: ignore[arg-type]


def _positive(value: Any) -> bool:
    return is_number(value) and value > 0
