"""Core ML. This file travels to the device: standard library, numpy and coremltools only.

Prediction is part of macOS; on another system `load` and `describe` say so. `read_signature` works everywhere.
coremltools reports nothing over the network.
"""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

NAME = "coreml"
DISTRIBUTIONS = ("coremltools",)
IMPORTS = ("coremltools",)
SUFFIXES = (".mlpackage", ".mlmodel")

ELSEWHERE = "Core ML predicts on macOS only, this is {}"
DTYPES = {65568: "float32", 65600: "float64", 65552: "float16", 131104: "int32", 131080: "int8"}
"""ArrayFeatureType.ArrayDataType of Core ML's schema -> numpy's name."""


class CoreMLSession:
    """A loaded model; Core ML decides per operation between CPU, GPU and Neural Engine."""

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        with quiet_import():
            import coremltools

            units = str(options.get("compute_units", "ALL"))
            if units not in coremltools.ComputeUnit.__members__:
                raise ValueError(
                    f"no compute units '{units}'; there are {', '.join(coremltools.ComputeUnit.__members__)}"
                )
            self._units = coremltools.ComputeUnit[units]
            self._signature = read_signature(path)
            try:
                self._model = coremltools.models.MLModel(path, compute_units=self._units)
            except Exception as error:
                raise ValueError(short(error)) from error
        self._last: dict[str, Any] | None = None

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Input name -> array in, output name -> array out. ValueError for other inputs, or when Core ML refuses."""
        import numpy as np

        wanted = {item["name"] for item in self._signature["inputs"]}
        if set(feeds) != wanted:
            raise ValueError(f"the model takes {sorted(wanted)}, got {sorted(feeds)}")
        self._last = dict(feeds)
        try:
            values = self._model.predict(self._last)
        except Exception as error:
            raise ValueError(short(error)) from error
        return {item["name"]: np.asarray(values[item["name"]]) for item in self._signature["outputs"]}

    def signature(self) -> dict[str, list[dict[str, Any]]]:
        """Inputs and outputs as the model's description says."""
        return self._signature

    def placement(self) -> dict[str, int]:
        """CPU, GPU or NeuralEngine -> operations that Core ML's plan prefers to run there (macOS 14.4 on).

        The plan is what Core ML tells before running; it keeps no record of what ran. ValueError without a plan.
        """
        from coremltools.models.compute_plan import MLComputePlan

        try:
            plan = MLComputePlan.load_from_path(self._model.get_compiled_model_path(), self._units)
            operations = plan.model_structure.program.functions["main"].block.operations
            found = [plan.get_compute_device_usage_for_mlprogram_operation(item) for item in operations]
        except Exception as error:
            raise ValueError(f"Core ML gives no plan for this model: {short(error)}") from error
        counts: dict[str, int] = {}
        for usage in found:
            if usage is not None:
                name = type(usage.preferred_compute_device).__name__.removeprefix("ML").removesuffix("ComputeDevice")
                counts[name] = counts.get(name, 0) + 1
        return dict(sorted(counts.items()))

    def operators(self, runs: int) -> list[dict[str, Any]]:
        """ValueError: Core ML times operations in Xcode's Instruments only."""
        raise ValueError("Core ML has no profiler outside Xcode's Instruments")

    def close(self) -> None:
        """Release the model."""
        self._last = self._model = None


def load(path: str, options: Mapping[str, Any]) -> CoreMLSession:
    """Open a package. options: compute_units (ALL, CPU_ONLY, CPU_AND_GPU, CPU_AND_NE; default ALL).

    ValueError off macOS, or with Core ML's short message when it refuses the file.
    """
    if sys.platform != "darwin":
        raise ValueError(ELSEWHERE.format(platform.system()))
    return CoreMLSession(path, options)


def describe() -> dict[str, str]:
    """Versions of coremltools and of the system, whose part Core ML is. ImportError off macOS."""
    if sys.platform != "darwin":
        raise ImportError(ELSEWHERE.format(platform.system()))
    with quiet_import():
        import coremltools
    return {"coremltools": coremltools.__version__, "macos": platform.mac_ver()[0]}


def read_signature(path: str) -> dict[str, list[dict[str, Any]]]:
    """Array inputs and outputs of a package from its description, on any system. ValueError where it is none."""
    with quiet_import():
        import coremltools

        try:
            about = coremltools.utils.load_spec(path).description
        except Exception as error:
            raise ValueError(f"not a Core ML model: {short(error)}") from error
    return {"inputs": [_spec(item) for item in about.input], "outputs": [_spec(item) for item in about.output]}


def short(error: BaseException) -> str:
    """One line, at most 400 characters."""
    return " ".join(str(error).split())[:400] or type(error).__name__


def _spec(item: Any) -> dict[str, Any]:
    array = item.type.multiArrayType
    if item.type.WhichOneof("Type") != "multiArrayType" or array.dataType not in DTYPES:
        raise ValueError(f"'{item.name}' is not an array of a type numpy has")
    return {"name": item.name, "dtype": DTYPES[array.dataType], "shape": [int(size) for size in array.shape]}


@contextmanager
def quiet_import() -> Iterator[None]:
    """coremltools logs at import which versions of torch and scikit-learn it was not tested with."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
