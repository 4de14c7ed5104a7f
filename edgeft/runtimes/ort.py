"""ONNX Runtime. This file travels to the device: standard library, numpy and onnxruntime only."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from typing import Any

# Before the import of onnxruntime: its wheels from 1.29 on report loaded models over the network unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

NAME = "onnxruntime"
DISTRIBUTIONS = ("onnxruntime",)
IMPORTS = ("onnxruntime",)
SUFFIXES = (".onnx", ".ort")


class OrtSession:
    """A loaded .onnx file. One inter-op thread, all graph optimisations, deterministic kernels."""

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        self._path, self._options = path, dict(options)
        self._session = _open(path, self._options)
        self._inputs = {item.name for item in self._session.get_inputs()}
        self._outputs = [item.name for item in self._session.get_outputs()]
        self._last: dict[str, Any] | None = None

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Input name -> array in, output name -> array out. ValueError for other inputs, or when ORT refuses."""
        if feeds.keys() != self._inputs:
            raise ValueError(f"the model takes {sorted(self._inputs)}, got {sorted(feeds)}")
        self._last = dict(feeds)
        try:
            values = self._session.run(self._outputs, self._last)
        except Exception as error:
            raise ValueError(short(error)) from error
        return dict(zip(self._outputs, values, strict=True))

    def placement(self) -> dict[str, int]:
        """Execution provider -> optimised nodes it ran, from ORT's profile of one run with the last feeds.

        A session of its own is profiled, so that this one's timings stay clean. ValueError before the first `run`.
        """
        if self._last is None:
            raise ValueError("run the model once before asking for its placement")
        with tempfile.TemporaryDirectory(prefix="edgeft-profile-") as folder:
            session = _open(self._path, self._options, profile=os.path.join(folder, "profile"))  # noqa: PTH118
            session.run(self._outputs, self._last)
            with open(session.end_profiling(), encoding="utf-8") as stream:  # noqa: PTH123
                events = json.load(stream)
            del session
        ran = {
            (event["args"]["provider"], event["name"])
            for event in events
            if event.get("cat") == "Node" and event.get("args", {}).get("provider")
        }
        providers = sorted({provider for provider, _ in ran})
        return {provider: sum(1 for owner, _ in ran if owner == provider) for provider in providers}

    def close(self) -> None:
        """Release the session and its memory."""
        self._last = None
        self._session = None


def load(path: str, options: Mapping[str, Any]) -> OrtSession:
    """Open a model. options: threads (intra-op, default 1), providers, spinning (default off), arena (default on).

    Spinning threads answer faster and keep a core at full power between operators; an edge service rarely wants that.
    ValueError with ORT's short message when the file cannot be loaded.
    """
    return OrtSession(path, options)


def describe() -> dict[str, str]:
    """Version, providers and build flavour of ONNX Runtime here."""
    import onnxruntime

    return {
        "onnxruntime": onnxruntime.__version__,
        "onnxruntime_providers": ",".join(onnxruntime.get_available_providers()),
        "onnxruntime_build": onnxruntime.get_build_info(),
    }


def _open(path: str, options: Mapping[str, Any], profile: str = "") -> Any:
    import onnxruntime

    setup = onnxruntime.SessionOptions()
    setup.intra_op_num_threads = int(options.get("threads", 1))
    setup.inter_op_num_threads = 1
    setup.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    setup.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    setup.enable_cpu_mem_arena = bool(options.get("arena", True))
    setup.use_deterministic_compute = True
    setup.log_severity_level = 4
    setup.add_session_config_entry("session.intra_op.allow_spinning", "1" if options.get("spinning") else "0")
    if profile:
        setup.enable_profiling = True
        setup.profile_file_prefix = profile
    try:
        return onnxruntime.InferenceSession(path, setup, providers=options.get("providers", ["CPUExecutionProvider"]))
    except Exception as error:
        raise ValueError(short(error)) from error


def short(error: BaseException) -> str:
    """ORT's message without its code prefix and paths, one line, at most 400 characters."""
    text = " ".join(str(error).split())
    if text.startswith("[ONNXRuntimeError]"):
        text = text.split(":", 3)[-1].strip()
    return text[:400] or type(error).__name__
