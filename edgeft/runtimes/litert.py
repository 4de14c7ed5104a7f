"""LiteRT (TensorFlow Lite). This file travels to the device: standard library, numpy and ai_edge_litert only.

Answers and timings come from the Interpreter with its default XNNPACK delegate. Times per operator come from the
profiler in the C library of the same package, which its Python classes do not show. Neither sends telemetry.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping
from typing import Any

NAME = "litert"
DISTRIBUTIONS = ("ai-edge-litert",)
IMPORTS = ("ai_edge_litert",)
SUFFIXES = (".tflite",)

PROFILER_SINCE = (2, 3)
"""First ai-edge-litert whose C functions have the arguments used here."""
LARGEST_RANK = 8
ROW = re.compile(r"^\s*(\S.*?)\s+[\d.]+\s+[\d.]+\s+([\d.]+)\s+[\d.]+%\s+[\d.]+%\s+[\d.]+\s+\d+\s+\[(\w+)\]:\d+\s*$")
"""Node type, start, first, mean in ms, share, summed share, memory, times called, [Builtin] or [Delegate]:index."""


class LiteRTSession:
    """A loaded .tflite file; its first signature where it has one, else the inputs and outputs of its main graph."""

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._path, self._threads = path, int(options.get("threads", 1))
        try:
            self._interpreter: Any = Interpreter(model_path=path, num_threads=self._threads)
            signatures = self._interpreter._get_full_signature_list()
            self._inputs = _named(self._interpreter.get_input_details(), signatures, "inputs")
            self._outputs = _named(self._interpreter.get_output_details(), signatures, "outputs")
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError, OSError) as error:
            raise ValueError(short(error, path)) from error
        self._shapes = {name: tuple(int(n) for n in about["shape"]) for name, about in self._inputs.items()}
        self._last: dict[str, Any] | None = None

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Input name -> array in, output name -> array out (copies). ValueError for other inputs, types or shapes."""
        if feeds.keys() != self._inputs.keys():
            raise ValueError(f"the model takes {sorted(self._inputs)}, got {sorted(feeds)}")
        for name, array in feeds.items():
            self._check(name, array)
        try:
            if any(array.shape != self._shapes[name] for name, array in feeds.items()):
                self._resize(feeds)
            for name, array in feeds.items():
                self._interpreter.set_tensor(self._inputs[name]["index"], array)
            self._interpreter.invoke()
            answers = {name: self._interpreter.get_tensor(about["index"]) for name, about in self._outputs.items()}
        except (ValueError, RuntimeError) as error:
            raise ValueError(short(error, self._path)) from error
        self._last = dict(feeds)
        return answers

    def signature(self) -> dict[str, list[dict[str, Any]]]:
        """Names, numpy dtypes and shapes; a free dimension is `batch` when it is the first, else `axis<n>`."""
        return {"inputs": _describe(self._inputs), "outputs": _describe(self._outputs)}

    def placement(self) -> dict[str, int]:
        """`XNNPACK` and `CPU` (the interpreter's own kernels) -> operators of the file each runs, as it was loaded."""
        if self._last is None:
            raise ValueError("run the model once before asking for its placement")
        nodes = self._interpreter._get_ops_details()
        maker = {int(tensor): node for node in nodes for tensor in node["outputs"] if node["op_name"] != "DELEGATE"}
        taken: set[int] = set()
        for node in nodes:
            if node["op_name"] != "DELEGATE":
                continue
            given = {int(tensor) for tensor in node["inputs"]}
            open_ends = [int(tensor) for tensor in node["outputs"]]
            while open_ends:
                tensor = open_ends.pop()
                if tensor not in given and tensor in maker and maker[tensor]["index"] not in taken:
                    taken.add(maker[tensor]["index"])
                    open_ends += [int(source) for source in maker[tensor]["inputs"]]
        rest = sum(node["op_name"] != "DELEGATE" for node in nodes) - len(taken)
        return {name: count for name, count in (("CPU", rest), ("XNNPACK", len(taken))) if count}

    def operators(self, runs: int) -> list[dict[str, Any]]:
        """Time per operator in a profiled session of its own; see edgeft/runtime.py. Times are cut to microseconds.

        backend `XNNPACK` names that library's kernels (a linear layer says its number types), `CPU` the interpreter's.
        """
        if self._last is None:
            raise ValueError("run the model once before asking for its operators")
        have = describe()["ai-edge-litert"]
        if tuple(int(part) for part in have.split(".")[:2] if part.isdigit()) < PROFILER_SINCE:
            raise ValueError(f"times per operator need ai-edge-litert 2.3 or newer, this is {have}")
        with _Profiled(self._path, self._threads) as profiled:
            return read_summary(profiled.profile({name: self._last[name] for name in self._inputs}, runs))

    def close(self) -> None:
        """Release the interpreter and its memory."""
        self._last = None
        self._interpreter = None

    def _check(self, name: str, array: Any) -> None:
        about = self._inputs[name]
        want = [int(n) for n in about["shape_signature"]]
        if array.dtype != about["dtype"]:
            raise ValueError(f"'{name}' is {_dtype(about)}, got {array.dtype}")
        if len(want) != array.ndim or any(w not in (-1, h) for w, h in zip(want, array.shape, strict=True)):
            raise ValueError(f"'{name}' has shape {want}, got {list(array.shape)}")

    def _resize(self, feeds: Mapping[str, Any]) -> None:
        for name, array in feeds.items():
            self._interpreter.resize_tensor_input(self._inputs[name]["index"], array.shape, strict=True)
            self._shapes[name] = ()
        self._interpreter.allocate_tensors()
        self._shapes = {name: array.shape for name, array in feeds.items()}


def load(path: str, options: Mapping[str, Any]) -> LiteRTSession:
    """Open a model. options: threads (default 1). ValueError with LiteRT's short message when it cannot be loaded."""
    return LiteRTSession(path, options)


def describe() -> dict[str, str]:
    """Version of LiteRT here. Read from the package: unpacked wheels on a bare board have no metadata."""
    import ai_edge_litert.interpreter  # the submodule loads the library: a cold start times this as the import

    return {"ai-edge-litert": str(ai_edge_litert.__version__)}


def short(error: BaseException, path: str = "") -> str:
    """LiteRT's message without this machine's path, one line, at most 400 characters."""
    text = " ".join(str(error).replace(path, os.path.basename(path)).split() if path else str(error).split())  # noqa: PTH119
    return text[:400] or type(error).__name__


def read_summary(text: str) -> list[dict[str, Any]]:
    """Rows of the first table of LiteRT's profile in run order: what the interpreter ran, then each delegate's part."""
    found: list[dict[str, Any]] = []
    started = False
    for line in text.splitlines():
        if "====" in line:
            if started:
                break
            started = "Run Order" in line
        elif started and (row := ROW.match(line)):
            backend = "XNNPACK" if row[3] == "Delegate" else "CPU"
            op = row[1].removeprefix("Delegate/").strip()
            found.append({"name": f"{op}_{len(found)}", "op": op, "backend": backend, "ms": float(row[2])})
    if not found:
        raise ValueError("LiteRT's profiler gave no table of operators")
    return found


def _named(details: list[dict[str, Any]], signatures: Mapping[str, Any], side: str) -> dict[str, dict[str, Any]]:
    """Name -> details, in the graph's order; signature names where the first signature covers all of them."""
    tensors = next(iter(signatures.values()))[side] if signatures else {}
    names = {int(index): name for name, index in tensors.items()}
    if {int(about["index"]) for about in details} <= names.keys():
        return {names[int(about["index"])]: about for about in details}
    return {about["name"]: about for about in details}


def _describe(named: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "dtype": _dtype(about),
            "shape": [
                int(n) if n >= 0 else ("batch" if axis == 0 else f"axis{axis}")
                for axis, n in enumerate(about["shape_signature"])
            ],
        }
        for name, about in named.items()
    ]


def _dtype(about: Mapping[str, Any]) -> str:
    kind = about["dtype"]
    return str(getattr(kind, "__name__", kind))


class _Layout(ctypes.Structure):
    """LiteRtLayout: rank in the low 7 bits, then sizes and strides."""

    _fields_ = (
        ("rank", ctypes.c_uint32),
        ("sizes", ctypes.c_int32 * LARGEST_RANK),
        ("strides", ctypes.c_uint32 * LARGEST_RANK),
    )


class _Type(ctypes.Structure):
    """LiteRtRankedTensorType."""

    _fields_ = (("element", ctypes.c_int32), ("layout", _Layout))


class _Profiled:
    """A compiled model of LiteRT's C library with its profiler on: the first signature, on the CPU."""

    def __init__(self, path: str, threads: int) -> None:
        import ai_edge_litert

        try:
            self._lib: Any = ctypes.CDLL(os.path.join(os.path.dirname(ai_edge_litert.__file__), "libLiteRt.so"))  # noqa: PTH118, PTH120
            libc: Any = ctypes.CDLL(None)
        except (OSError, TypeError) as error:
            raise ValueError("this build of LiteRT has no library with a profiler") from error
        libc.strdup.restype, libc.strdup.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
        self._libc, self._held = libc, []  # type: tuple[Any, list[tuple[Any, Any]]]
        self._environment = self._make("Environment", 0, None)
        self._model = self._make("Model", self._environment, os.fsencode(path), how="ModelFromFile")
        options = self._make("Options")
        self._call("SetOptionsHardwareAccelerators", options, 1)
        for about, text in (
            ("runtime_options_string", "enable_profiling = true"),
            ("xnnpack", f"num_threads = {threads}"),
        ):
            opaque = ctypes.c_void_p()
            copied, free = ctypes.c_void_p(libc.strdup(text.encode())), ctypes.cast(libc.free, ctypes.c_void_p)
            self._call("CreateOpaqueOptions", about.encode(), copied, free, ctypes.byref(opaque))
            self._call("AddOpaqueOptions", options, opaque)
        self._compiled = self._make("CompiledModel", self._environment, self._model, options)

    def __enter__(self) -> _Profiled:
        return self

    def __exit__(self, *error: object) -> None:
        for destroy, handle in reversed(self._held):
            destroy(handle)

    def profile(self, feeds: Mapping[str, Any], runs: int) -> str:
        """LiteRT's own summary of `runs` runs after two warm-up runs."""
        signature, profiler, text = (ctypes.c_void_p() for _ in range(3))
        self._call("GetModelSignature", self._model, ctypes.c_size_t(0), ctypes.byref(signature))
        given, taken = self._inputs(signature, list(feeds.values()), feeds), self._outputs(signature)
        self._run(given, taken, 2)
        self._call("CompiledModelGetProfiler", self._compiled, ctypes.byref(profiler))
        self._call("StartProfiler", profiler)
        self._run(given, taken, max(1, runs))
        self._call("StopProfiler", profiler)
        self._call("GetProfileSummary", profiler, self._compiled, ctypes.byref(text))
        summary = ctypes.string_at(text).decode("utf-8", errors="replace")
        self._libc.free(text)
        return summary

    def _inputs(self, signature: Any, arrays: list[Any], feeds: Mapping[str, Any]) -> Any:
        import numpy as np

        buffers = (ctypes.c_void_p * len(arrays))()
        for index, place in enumerate(map(ctypes.c_size_t, range(len(arrays)))):
            name, data = ctypes.c_char_p(), ctypes.c_void_p()
            self._call("GetSignatureInputName", signature, place, ctypes.byref(name))
            array = np.ascontiguousarray(feeds.get((name.value or b"").decode(), arrays[index]))
            kind = self._type(signature, "Input", place)
            if tuple(kind.layout.sizes[: array.ndim]) != array.shape:
                sizes = (ctypes.c_int * array.ndim)(*array.shape)
                rank = ctypes.c_size_t(array.ndim)
                self._call("CompiledModelResizeInputTensor", self._compiled, ctypes.c_size_t(0), place, sizes, rank)
                kind.layout.sizes[: array.ndim] = array.shape
            buffers[index] = self._buffer("Input", place, kind)
            self._call("LockTensorBuffer", ctypes.c_void_p(buffers[index]), ctypes.byref(data), 1)
            ctypes.memmove(data, array.ctypes.data, array.nbytes)
            self._call("UnlockTensorBuffer", ctypes.c_void_p(buffers[index]))
        return buffers

    def _outputs(self, signature: Any) -> Any:
        count = ctypes.c_size_t()
        self._call("GetNumSignatureOutputs", signature, ctypes.byref(count))
        layouts, buffers = (_Layout * count.value)(), (ctypes.c_void_p * count.value)()
        which, update = ctypes.c_size_t(0), ctypes.c_bool(True)
        self._call("GetCompiledModelOutputTensorLayouts", self._compiled, which, count, layouts, update)
        for index, place in enumerate(map(ctypes.c_size_t, range(count.value))):
            kind = self._type(signature, "Output", place)
            kind.layout = layouts[index]
            buffers[index] = self._buffer("Output", place, kind)
        return buffers

    def _type(self, signature: Any, side: str, place: Any) -> _Type:
        tensor, kind = ctypes.c_void_p(), _Type()
        self._call(f"GetSignature{side}TensorByIndex", signature, place, ctypes.byref(tensor))
        self._call("GetRankedTensorType", tensor, ctypes.byref(kind))
        return kind

    def _buffer(self, side: str, place: Any, kind: _Type) -> Any:
        needs = ctypes.c_void_p()
        which = ctypes.c_size_t(0)
        self._call(f"GetCompiledModel{side}BufferRequirements", self._compiled, which, place, ctypes.byref(needs))
        how = "ManagedTensorBufferFromRequirements"
        return self._make("TensorBuffer", self._environment, ctypes.byref(kind), needs, how=how)

    def _run(self, given: Any, taken: Any, runs: int) -> None:
        sizes = ctypes.c_size_t(len(given)), ctypes.c_size_t(len(taken))
        for _ in range(runs):
            self._call("RunCompiledModel", self._compiled, ctypes.c_size_t(0), sizes[0], given, sizes[1], taken)

    def _make(self, what: str, *arguments: Any, how: str = "") -> Any:
        """A handle from LiteRtCreate<how or what>, destroyed on exit by LiteRtDestroy<what>."""
        handle = ctypes.c_void_p()
        self._call(f"Create{how or what}", *arguments, ctypes.byref(handle))
        self._held.append((getattr(self._lib, f"LiteRtDestroy{what}"), handle))
        return handle

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._lib, f"LiteRt{name}")(*arguments)
        if status:
            raise ValueError(f"LiteRT's profiler cannot run this model (LiteRt{name}: status {status})")
