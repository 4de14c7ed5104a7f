"""OpenVINO on its CPU device. This file travels to the device: standard library, numpy and openvino only.

Telemetry: OpenVINO reports its own import, and NNCF every quantisation, to a web service when the package
openvino_telemetry, which comes with them, can be imported. Both run without it, so here it never can be.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

NAME = "openvino"
DISTRIBUTIONS = ("openvino",)
IMPORTS = ("openvino",)
SUFFIXES = (".xml", ".onnx")
PRECISIONS = ("f32", "bf16", "f16")
PRECISION_INFO = ["edgeft", "precision"]
"""Place in an .xml's run-time information of the float precision it is meant to be computed in; absent: f32.

OpenVINO left alone computes float32 models in bfloat16 or float16 where the CPU can: other answers on other machines.
"""
NOISE = re.compile(r"(Exception from|Check '.*?' failed at) \S+:\d+:|'?/\S*/(?=[^/\s]+)|FrontEnd API failed with \w+:")
NOT_COMPUTING = ("Input", "Output", "Const", "Result", "Parameter")


class OvSession:
    """A model compiled for one stream and the latency hint, in a float precision that is pinned and read back."""

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        self._threads = int(options.get("threads", 1))
        self._core = import_openvino().Core()
        try:
            self._model = self._core.read_model(path)
        except Exception as error:
            raise ValueError(short(error)) from error
        self.precision = options.get("precision") or stated_precision(self._model)
        self._compiled = self._compile()
        self._request = self._compiled.create_infer_request()
        self._inputs = [port_name(port) for port in self._compiled.inputs]
        self._outputs = [port_name(port) for port in self._compiled.outputs]
        self._last: list[Any] | None = None

    def _compile(self, **more: Any) -> Any:
        setup = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": self._threads,
            "INFERENCE_PRECISION_HINT": self.precision,
            "EXECUTION_MODE_HINT": "PERFORMANCE",
            "ENABLE_CPU_PINNING": False,  # which cores to use is the device profile's to say
            **more,
        }
        try:
            compiled = self._core.compile_model(self._model, "CPU", setup)
            used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        except Exception as error:
            raise ValueError(short(error)) from error
        if used != self.precision:
            raise ValueError(f"the model is meant for {self.precision}, on this CPU OpenVINO computes it in {used}")
        return compiled

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Input name -> array in, output name -> array out. ValueError for other inputs, or when OpenVINO refuses."""
        if len(feeds) != len(self._inputs) or any(name not in feeds for name in self._inputs):
            raise ValueError(f"the model takes {sorted(self._inputs)}, got {sorted(feeds)}")
        values = [feeds[name] for name in self._inputs]
        try:
            found = self._request.infer(values, share_inputs=True)
        except Exception as error:
            raise ValueError(short(error)) from error
        self._last = values
        return {name: found[index] for index, name in enumerate(self._outputs)}

    def signature(self) -> dict[str, list[dict[str, Any]]]:
        """Inputs and outputs in the model's order; dimensions of no fixed size are called dim_0, dim_1 ..."""
        return {
            "inputs": [_about(port) for port in self._compiled.inputs],
            "outputs": [_about(port) for port in self._compiled.outputs],
        }

    def placement(self) -> dict[str, int]:
        """`CPU brgemm_avx512_i8` (device, kernel, its precision) -> optimised nodes; ValueError before the first run.

        `CPU f32` and the like without a kernel's name: data moves that no kernel is named for.
        """
        if self._last is None:
            raise ValueError("run the model once before asking for its placement")
        device = ",".join(self._compiled.get_property("EXECUTION_DEVICES"))
        counts: dict[str, int] = {}
        for node in self._compiled.get_runtime_model().get_ordered_ops():
            info = node.get_rt_info()
            if node.get_type_name() in NOT_COMPUTING or _text(info, "layerType") in NOT_COMPUTING:
                continue
            kernel = _text(info, "primitiveType").lower().removeprefix("unknown_")
            counts[f"{device} {kernel}"] = counts.get(f"{device} {kernel}", 0) + 1
        return dict(sorted(counts.items()))

    def operators(self, runs: int) -> list[dict[str, Any]]:
        """OpenVINO's own counters over `runs` runs of the last feeds, in a second compilation that counts.

        ms: mean of one run, nodes in execution order, shapes where they are fixed. ValueError before the first `run`.
        """
        if self._last is None:
            raise ValueError("run the model once before asking for its operators")
        compiled = self._compile(PERF_COUNT=True)
        request = compiled.create_infer_request()
        found: dict[str, dict[str, Any]] = {}
        request.infer(self._last)  # the first run packs weights
        for _ in range(runs):
            request.infer(self._last)
            for item in request.profiling_info:
                if item.status == item.Status.EXECUTED:
                    row = found.setdefault(
                        item.node_name,
                        {"name": item.node_name, "op": item.node_type, "backend": item.exec_type.lower(), "ms": 0.0},
                    )
                    row["ms"] += item.real_time.total_seconds() * 1000 / runs
        shapes = {node.get_friendly_name(): node for node in compiled.get_runtime_model().get_ordered_ops()}
        for name, row in found.items():
            if name in shapes:
                ports = {"inputs": shapes[name].inputs(), "outputs": shapes[name].outputs()}
                row["shapes"] = {side: [_fixed(port) for port in items] for side, items in ports.items()}
        return list(found.values())

    def close(self) -> None:
        """Release the model and its memory."""
        self._last = self._request = self._compiled = self._model = None


def load(path: str, options: Mapping[str, Any]) -> OvSession:
    """Open an .xml (its .bin beside it) or an .onnx file. options: threads (default 1), precision (f32, bf16, f16).

    precision: default what the .xml states, else f32. ValueError where the file cannot be read or compiled, or where
    this CPU computes in another precision than the artefact is meant for.
    """
    return OvSession(path, options)


def describe() -> dict[str, str]:
    """Version of OpenVINO, its name for this CPU and the precisions it has kernels for here."""
    openvino = import_openvino()
    core = openvino.Core()
    return {
        "openvino": openvino.__version__,
        "openvino_cpu": core.get_property("CPU", "FULL_DEVICE_NAME"),
        "openvino_capabilities": ",".join(sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))),
        "openvino_precision": "pinned to the artefact's own, f32 unless it states another",
    }


def import_openvino() -> Any:
    """The openvino module with its telemetry out of reach: None in sys.modules makes an import fail."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def stated_precision(model: Any) -> str:
    """The precision in the model's run-time information, f32 where there is none. ValueError for an unknown one."""
    if not model.has_rt_info(PRECISION_INFO):
        return "f32"
    stated = str(model.get_rt_info(PRECISION_INFO).astype(str))
    if stated not in PRECISIONS:
        raise ValueError(f"the model states precision '{stated[:40]}'; known: {', '.join(PRECISIONS)}")
    return stated


def port_name(port: Any) -> str:
    """A port's tensor name; files of other makers may have none, then its node's."""
    names = port.get_names()
    return min(names) if names else str(port.get_node().get_friendly_name())


def _about(port: Any) -> dict[str, Any]:
    import numpy as np

    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        raise ValueError(f"'{port_name(port)}' has no fixed number of dimensions")
    extents = [dim.get_length() if dim.is_static else f"dim_{index}" for index, dim in enumerate(shape)]
    return {"name": port_name(port), "dtype": str(np.dtype(port.get_element_type().to_dtype())), "shape": extents}


def _fixed(port: Any) -> list[int]:
    shape = port.get_partial_shape()
    return [] if shape.is_dynamic else list(shape.to_shape())


def _text(info: Mapping[str, Any], key: str) -> str:
    return str(info[key].astype(str)) if key in info else ""


def short(error: BaseException) -> str:
    """OpenVINO's message without source lines of its own and without folders, one line, at most 400 characters."""
    text = " ".join(NOISE.sub("", " ".join(str(error).split())).split())
    return text.strip('" ')[:400] or type(error).__name__
