"""ONNX Runtime. This file travels to the device: standard library, numpy and onnxruntime only, and for models with a
tokenizer or an image decoder in the graph onnxruntime-extensions."""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import importlib.util
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

# Before the import of onnxruntime: its wheels from 1.29 on report loaded models over the network unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

NAME = "onnxruntime"
DISTRIBUTIONS = ("onnxruntime",)
IMPORTS = ("onnxruntime",)
OPTIONAL_IMPORTS = ("onnxruntime_extensions",)
OPTIONAL_DISTRIBUTIONS = ("onnxruntime-extensions",)
"""What only models with preprocessing in the graph need; a prepared folder has it where this machine has."""
SUFFIXES = (".onnx", ".ort")
CPU = "CPUExecutionProvider"
PROVIDERS = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "nnapi": "NnapiExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
"""Short name -> ONNX Runtime's own; a device may state either."""
OTHERS = (
    "ACL", "ArmNN", "Azure", "CANN", "Dml", "Dnnl", "Js", "MIGraphX", "NvTensorRTRTX", "ROCM", "Rknpu", "Snpe", "Tvm",
    "VSINPU", "VitisAI", "WebGpu", "WebNN",
)  # fmt: skip
"""The other providers of ONNX Runtime, each followed by ExecutionProvider."""
DTYPES = {"float": "float32", "double": "float64", "string": "str"}
"""ONNX Runtime's tensor types that numpy calls otherwise."""
EXTENSIONS = (b"ai.onnx.contrib", b"com.microsoft.extensions")
"""Domains of the operators of onnxruntime-extensions: tokenizers, decoders of images."""
TAIL = 4096
"""A model's operator sets stand behind its graph: these last bytes of an .onnx file name them."""
NAMED_MOST = 8
"""Nodes named in a refusal; the rest are counted."""


class OrtSession:
    """A loaded .onnx or .ort file. One inter-op thread, all graph optimisations, deterministic kernels."""

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        self._path, self._options = path, dict(options)
        self._session = _open(path, self._options)
        self._inputs = {item.name for item in self._session.get_inputs()}
        self._outputs = [item.name for item in self._session.get_outputs()]
        self._last: dict[str, Any] | None = None
        self._unproven = False
        if not options.get("fallback", False) and wanted_providers(options)[0][0] != CPU:
            nodes = assigned_nodes(self._session)
            self._unproven = nodes is None
            refuse_fallback(nodes or ())

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Input name -> array in, output name -> array out. ValueError for other inputs, or when ORT refuses."""
        if feeds.keys() != self._inputs:
            raise ValueError(f"the model takes {sorted(self._inputs)}, got {sorted(feeds)}")
        self._last = dict(feeds)
        if self._unproven:
            refuse_fallback((event["args"]["provider"], name_of(event), op_of(event)) for event in self._profile(0))
            self._unproven = False
        try:
            values = self._session.run(self._outputs, self._last)
        except Exception as error:
            raise ValueError(short(error)) from error
        return dict(zip(self._outputs, values, strict=True))

    def signature(self) -> dict[str, list[dict[str, Any]]]:
        """Name, numpy dtype and shape of every input and output; an unnamed free dimension becomes NAME_AXIS."""
        return {
            "inputs": [_spec(item) for item in self._session.get_inputs()],
            "outputs": [_spec(item) for item in self._session.get_outputs()],
        }

    def placement(self) -> dict[str, int]:
        """Execution provider -> optimised nodes it ran, from ORT's profile of one run with the last feeds.

        A session of its own is profiled, so that this one's timings stay clean. ValueError before the first `run`.
        """
        ran = {(event["args"]["provider"], event["name"]) for event in self._profile(0)}
        providers = sorted({provider for provider, _ in ran})
        return {provider: sum(1 for owner, _ in ran if owner == provider) for provider in providers}

    def operators(self, runs: int) -> list[dict[str, Any]]:
        """Kernel time per node over `runs` profiled runs after one that is not counted, in the order they ran.

        ORT counts whole microseconds. Time of a node's own subgraph counts for the node. ValueError before a `run`.
        """
        found: dict[tuple[str, str], dict[str, Any]] = {}
        end = -1.0
        for event in self._profile(max(1, runs)):
            if event["ts"] < end and event["ts"] + event["dur"] <= end:
                continue  # a node of the subgraph of the one before
            end = event["ts"] + event["dur"]
            row = found.setdefault((event["name"], event["args"]["provider"]), _operator(event))
            row["ms"] += event["dur"] / 1000 / max(1, runs)
        return list(found.values())

    def close(self) -> None:
        """Release the session and its memory."""
        self._last = None
        self._session = None

    def _profile(self, runs: int) -> list[dict[str, Any]]:
        """Kernel events in time order: of the first run where runs is 0, else of the `runs` runs after it."""
        if self._last is None:
            raise ValueError("run the model once before asking how it ran")
        with tempfile.TemporaryDirectory(prefix="edgeft-profile-") as folder:
            session = _open(self._path, self._options, profile=os.path.join(folder, "profile"))  # noqa: PTH118
            for _ in range(1 + runs):
                session.run(self._outputs, self._last)
            with open(session.end_profiling(), encoding="utf-8") as stream:  # noqa: PTH123
                events = json.load(stream)
            del session
        first = min((event["ts"] + event["dur"] for event in events if event["name"] == "model_run"), default=0)
        kernels = [
            event
            for event in events
            if event.get("cat") == "Node"
            and event.get("args", {}).get("provider")
            and (not runs or event["ts"] > first)
        ]
        return sorted(kernels, key=lambda event: (event["ts"], -event["dur"]))


def load(path: str, options: Mapping[str, Any]) -> OrtSession:
    """Open a model. options: threads (intra-op, default 1), providers (in order: a name or [name, {option: value}];
    short names as in PROVIDERS; default CPU), fallback (may nodes that the first provider does not take run on the
    CPU; default false), spinning (default off), arena (default on).

    Spinning threads answer faster and keep a core at full power between operators; an edge service rarely wants that.
    ValueError with ORT's short message when the file cannot be loaded, naming a provider that this build lacks, and
    naming the nodes that fell back to the CPU where that is not allowed.
    """
    return OrtSession(path, options)


def describe() -> dict[str, str]:
    """Version, providers and build flavour of ONNX Runtime here, and the extensions' version where they are."""
    import importlib.metadata

    import onnxruntime

    extensions = {}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        extensions["onnxruntime_extensions"] = importlib.metadata.version(OPTIONAL_DISTRIBUTIONS[0])
    return {
        "onnxruntime": onnxruntime.__version__,
        "onnxruntime_providers": ",".join(onnxruntime.get_available_providers()),
        "onnxruntime_build": onnxruntime.get_build_info(),
        **extensions,
    }


def wanted_providers(options: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """(ONNX Runtime's name, its options) in the device's order. ValueError for a name that is no provider's."""
    found = []
    for item in options.get("providers") or [CPU]:
        given, more = (item, {}) if isinstance(item, str) else (item[0], dict(item[1]))
        found.append((provider_name(given), {str(key): str(value) for key, value in more.items()}))
    return found


def provider_name(given: str) -> str:
    """ONNX Runtime's own name of a provider. ValueError, with a near name where there is one, for what is none's."""
    full = (*PROVIDERS.values(), *(f"{name}ExecutionProvider" for name in OTHERS))
    known = {**PROVIDERS, **{name.lower(): name for name in full}}
    if given.lower() in known:
        return known[given.lower()]
    near = difflib.get_close_matches(given.lower(), known, n=1)
    meant = f"did you mean '{near[0] if near[0] in PROVIDERS else known[near[0]]}'? " if near else ""
    raise ValueError(f"'{given}' is no execution provider; {meant}known: {', '.join(PROVIDERS)}, or ONNX Runtime's own")


def assigned_nodes(session: Any) -> list[tuple[str, str, str]] | None:
    """(provider, node, operator) as ORT divided the graph; None where this version does not tell."""
    ask = getattr(session, "get_provider_graph_assignment_info", None)
    if ask is None:
        return None
    return [(part.ep_name, node.name, node.op_type) for part in ask() for node in part.get_nodes()]


def refuse_fallback(nodes: Iterable[tuple[str, str, str]]) -> None:
    """ValueError that names the nodes on the CPU. nodes: (provider, node, operator)."""
    left = sorted({f"{name or 'unnamed'} ({op})" for provider, name, op in nodes if provider == CPU})
    if left:
        more = f" and {len(left) - NAMED_MOST} more" if len(left) > NAMED_MOST else ""
        raise ValueError(
            f"{len(left)} nodes fell back to the CPU, which the device does not allow (`fallback: true` in its profile "
            f"would): {', '.join(left[:NAMED_MOST])}{more}"
        )


def name_of(event: Mapping[str, Any]) -> str:
    """The node's name in a profile event."""
    return str(event["name"]).removesuffix("_kernel_time")


def op_of(event: Mapping[str, Any]) -> str:
    """The operator's type in a profile event."""
    return str(event["args"].get("op_name", ""))


def _operator(event: Mapping[str, Any]) -> dict[str, Any]:
    """A row with no time yet. Weights that ORT has repacked are missing from its input shapes."""
    shapes = {
        kind: [[int(extent) for extent in shape] for item in event["args"].get(key, ()) for shape in item.values()]
        for kind, key in (("inputs", "input_type_shape"), ("outputs", "output_type_shape"))
    }
    row = {"name": name_of(event), "op": op_of(event), "backend": event["args"]["provider"], "ms": 0.0}
    return {**row, "shapes": shapes}


def _spec(item: Any) -> dict[str, Any]:
    kind = item.type[len("tensor(") : -1] if item.type.startswith("tensor(") else item.type
    shape = [
        extent if isinstance(extent, int) else str(extent or f"{item.name}_{axis}")
        for axis, extent in enumerate(item.shape or ())
    ]
    return {"name": item.name, "dtype": DTYPES.get(kind, kind), "shape": shape}


def _open(path: str, options: Mapping[str, Any], profile: str = "") -> Any:
    import onnxruntime

    providers, here = wanted_providers(options), onnxruntime.get_available_providers()
    for name, _ in providers:
        if name not in here:
            raise ValueError(f"this build of ONNX Runtime has no {name}; it has {', '.join(here)}")
    setup = onnxruntime.SessionOptions()
    setup.intra_op_num_threads = int(options.get("threads", 1))
    setup.inter_op_num_threads = 1
    setup.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    setup.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    setup.enable_cpu_mem_arena = bool(options.get("arena", True))
    setup.use_deterministic_compute = True
    setup.log_severity_level = 4
    setup.add_session_config_entry("session.intra_op.allow_spinning", "1" if options.get("spinning") else "0")
    setup.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if needs_extensions(path):
        register_extensions(setup)
    if profile:
        setup.enable_profiling = True
        setup.profile_file_prefix = profile
    names, settings = [name for name, _ in providers], [more for _, more in providers]
    try:
        session = onnxruntime.InferenceSession(path, setup, providers=names, provider_options=settings)
    except Exception as error:
        raise ValueError(short(error)) from error
    # Else ORT answers an error of a provider, also in the middle of timed runs, by a new session on the CPU.
    session.disable_fallback()
    if missing := [name for name in names if name not in session.get_providers()]:
        raise ValueError(
            f"ONNX Runtime could not start {missing[0]} here; it runs {', '.join(session.get_providers())}"
        )
    return session


def needs_extensions(path: str) -> bool:
    """Whether a model calls operators of onnxruntime-extensions. An .ort file is searched whole, in pieces."""
    with open(path, "rb") as stream:  # noqa: PTH123
        if not path.endswith(".ort"):
            stream.seek(-min(TAIL, os.path.getsize(path)), os.SEEK_END)  # noqa: PTH202
            end = stream.read()
            return any(name in end for name in EXTENSIONS)
        before = b""
        while part := stream.read(1 << 20):
            if any(name in before + part for name in EXTENSIONS):
                return True
            before = part[-max(map(len, EXTENSIONS)) :]
    return False


def register_extensions(setup: Any) -> None:
    """Make them known to a session. ValueError where the package is not on this device."""
    library = extensions_library()
    if not library:
        raise ValueError(
            "the model's tokenizer or image decoder needs onnxruntime-extensions, which this device lacks: install it "
            "in the Python that ran this (pip install onnxruntime-extensions; where that is a prepared folder, install "
            "it on the host and run: edgeft devices prepare TYPE), or build with serve.embed_preprocessing: none"
        )
    keep_loaded(library)
    # With them ORT 1.31 crashed here: it freed what is no pointer, as if a string tensor's buffer had been reused.
    setup.enable_mem_reuse = setup.enable_mem_pattern = False
    setup.register_custom_ops_library(library)


def keep_loaded(library: str) -> None:
    """Hold the library until the process ends: ORT unloads it with a session, and the next one then crashes."""
    ctypes.CDLL(library)


def extensions_library() -> str:
    """The package's shared library, empty where it is not installed. Found, not imported: its import takes in torch and
    transformers where they are, seconds and hundreds of MB that no app pays."""
    spec = importlib.util.find_spec(OPTIONAL_IMPORTS[0])
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for name in sorted(os.listdir(folder)):  # noqa: PTH208
            if name.startswith("_extensions_pydll") and name.endswith((".so", ".pyd", ".dylib")):
                return os.path.join(folder, name)  # noqa: PTH118
    return ""


def short(error: BaseException) -> str:
    """ORT's message without its code prefix and paths, one line, at most 400 characters.

    A check that is part of the graph fails under a name that says what an input must be: then that alone.
    """
    text = " ".join(str(error).split())
    if (check := re.search(r"Name:'(file)/(must_\w+)'", text)) is not None:
        return f"the {check[1]} {check[2].replace('_', ' ')}"
    if text.startswith("[ONNXRuntimeError]"):
        text = text.split(":", 3)[-1].strip()
    return text[:400] or type(error).__name__
