"""ExecuTorch with the XNNPACK delegate. This file travels to the device: standard library, numpy and executorch only.

ExecuTorch's Python binding is a torch extension, so it imports torch (a second, and 200 MB of memory, that an app with
the C++ runtime does not have): memory and start-up figures of this runtime are upper bounds. The rest of the executorch
package, which would import its whole compiler, is not touched. Nothing here reports over the network.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "executorch"
DISTRIBUTIONS = ("executorch", "torch")
IMPORTS = ("executorch", "torch")
SUFFIXES = (".pte",)

DTYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64", 11: "bool",
    27: "uint16", 28: "uint32", 29: "uint64",
}  # fmt: skip
"""ScalarType of ExecuTorch's schema -> numpy's name; the others (bfloat16, 8-bit floats) numpy does not have."""
PORTABLE = "portable"
"""Backend name of kernels outside every delegate."""


class ExecuTorchSession:
    """A loaded .pte file. A .pte keeps no tensor names: they are input_0, ..., output_0, ... by position."""

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        bindings = _bindings()
        bindings._unsafe_reset_threadpool(int(options.get("threads", 1)))
        self._path = path
        self._plan = read_plan(path)
        check_available(self._plan, bindings)
        self._method = _load_method(bindings, path, self._plan["name"])[1]
        self._inputs, self._outputs = _tensors(self._method.method_meta())
        self._last: list[Any] | None = None

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """input_N -> array in, output_N -> array out. ValueError for other inputs, or when ExecuTorch refuses."""
        names = [item["name"] for item in self._inputs]
        if set(feeds) != set(names):
            raise ValueError(f"the model takes {names}, got {sorted(feeds)}")
        self._last = [_tensor(feeds[item["name"]], item) for item in self._inputs]
        try:
            values = self._method.call(self._last)
        except Exception as error:
            raise ValueError(short(error)) from error
        return {item["name"]: value.numpy() for item, value in zip(self._outputs, values, strict=True)}

    def signature(self) -> dict[str, list[dict[str, Any]]]:
        """Inputs and outputs as the method's metadata says; a bounded dimension is given as its bound."""
        return {"inputs": [dict(item) for item in self._inputs], "outputs": [dict(item) for item in self._outputs]}

    def placement(self) -> dict[str, int]:
        """Backend -> operators it ran, of one profiled run with the last feeds. ValueError before the first `run`."""
        counts: dict[str, int] = {}
        for row in self._profile(1):
            if row["op"] != "DelegateCall":
                counts[row["backend"]] = counts.get(row["backend"], 0) + 1
        return dict(sorted(counts.items()))

    def operators(self, runs: int) -> list[dict[str, Any]]:
        """Mean ms per operator over `runs` runs of the last feeds, from ETDump, in order; XNNPACK gives whole us.

        What a delegate's call takes beyond its operators (copies, set-up) is a row of its own, op `DelegateCall`.
        ValueError before the first `run`, or where executorch was built without event tracing.
        """
        return self._profile(runs)

    def close(self) -> None:
        """Release the method and its memory."""
        self._last = self._method = None

    def _profile(self, runs: int) -> list[dict[str, Any]]:
        if self._last is None:
            raise ValueError("run the model once before asking for its profile")
        if runs < 1:
            raise ValueError("at least one run is needed")
        program, method = _load_method(_bindings(), self._path, self._plan["name"], etdump=True)
        if not program.has_etdump():
            raise ValueError("this executorch was built without event tracing")
        for _ in range(runs + 1):  # the first one sets XNNPACK up
            method.call(self._last)
        with tempfile.TemporaryDirectory(prefix="edgeft-profile-") as folder:
            dump = Path(folder) / "run.etdp"
            program.write_etdump_result_to_file(str(dump), str(Path(folder) / "debug.bin"))
            del method, program
            return mean_rows([rows_of(events, self._plan) for events in read_etdump(dump.read_bytes())[-runs:]])


def load(path: str, options: Mapping[str, Any]) -> ExecuTorchSession:
    """Open a program's `forward` (or only) method. options: threads (of the process's one pool, default 1).

    ValueError where the file is no program, or needs operators or backends this build lacks, with their names.
    """
    return ExecuTorchSession(path, options)


def describe() -> dict[str, str]:
    """Versions, backends and number of kernels of ExecuTorch here."""
    from importlib.metadata import version

    bindings = _bindings()
    return {
        "executorch": version("executorch"),
        "executorch_backends": ",".join(sorted(bindings._get_registered_backend_names())),
        "executorch_kernels": str(len(bindings._get_operator_names())),
        "executorch_imports_torch": version("torch"),
    }


def check_available(plan: Mapping[str, Any], bindings: Any) -> None:
    """ValueError, with names, where the plan needs what this build of the runtime has not."""
    kernels = set(bindings._get_operator_names())
    lacking = sorted({name for name in plan["operators"] if name not in kernels})
    if lacking:
        raise ValueError(f"this executorch has no kernel for {', '.join(lacking[:6])}")
    backends = sorted({name for name in plan["delegates"] if not bindings._is_available(name)})
    if backends:
        raise ValueError(f"this executorch has no backend {', '.join(backends)}")


def read_plan(path: str) -> dict[str, Any]:
    """{"name", "operators", "delegates", "calls": instruction -> delegate or None} of `forward`, or the only method.

    From the FlatBuffer (schema program.fbs, file identifier ET12). ValueError where it is none.
    """
    raw = Path(path).read_bytes()
    try:
        if raw[4:8] != b"ET12":
            raise ValueError("not an ExecuTorch program")
        plans = {_text(plan, 0): plan for plan in _tables(_root(raw), 1)}
        name = "forward" if "forward" in plans else next(iter(plans), "")
        if not name or (name != "forward" and len(plans) > 1):
            raise ValueError(f"which of the methods {', '.join(sorted(plans))} to run is not known")
        plan = plans[name]
        delegates = [_text(item, 0) for item in _tables(plan, 7)]
        operators = [".".join(filter(None, (_text(item, 0), _text(item, 1)))) for item in _tables(plan, 6)]
        calls = {}
        for chain in _tables(plan, 5)[:1]:
            for index, instruction in enumerate(_tables(chain, 2)):
                if _number(instruction, 0, "<B") == 2:  # the second member of InstructionArguments: DelegateCall
                    calls[index] = delegates[_number(_table(instruction, 1), 0, "<i")]
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError("a damaged ExecuTorch program") from error
    return {"name": name, "operators": operators, "delegates": delegates, "calls": calls}


def read_etdump(raw: bytes) -> list[list[dict[str, Any]]]:
    """Profile events of each execution in order: {"name", "inside": delegate's own name, "instruction", "ms"}."""
    runs = []
    for run in _tables(_root(raw[4:]), 1):  # the file starts with its size
        if _text(run, 0) == "Execute":
            events = [_table(event, 0) for event in _tables(run, 3) if _offset(event, 0)]
            runs.append([_event(event) for event in events])
    return runs


def rows_of(events: list[dict[str, Any]], plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Operators of one execution in order: {"name", "op", "backend", "ms"}."""
    rows: list[dict[str, Any]] = []
    inner = 0.0
    for event in events:
        place, name = event["instruction"], event["name"]
        backend = plan["calls"].get(place, PORTABLE)
        if event["inside"]:
            op = event["inside"].rpartition(" #")[0] or event["inside"]
            rows.append({"name": f"{place}: {event['inside']}", "op": op, "backend": backend, "ms": event["ms"]})
            inner += event["ms"]
        elif name.startswith("native_call_"):
            op = name.removeprefix("native_call_")
            rows.append({"name": f"{place}: {op}", "op": op, "backend": PORTABLE, "ms": event["ms"]})
        elif name == "DELEGATE_CALL":
            rest = max(0.0, event["ms"] - inner)
            rows.append({"name": f"{place}: call", "op": "DelegateCall", "backend": backend, "ms": rest})
            inner = 0.0
    return rows


def mean_rows(runs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of one execution with the mean time of all; ValueError where executions ran different operators."""
    if not runs or any([row["name"] for row in rows] != [row["name"] for row in runs[0]] for rows in runs):
        raise ValueError("the profiled runs did not run the same operators")
    return [{**row, "ms": sum(rows[index]["ms"] for rows in runs) / len(runs)} for index, row in enumerate(runs[0])]


def short(error: BaseException) -> str:
    """One line, at most 400 characters."""
    return " ".join(str(error).split())[:400] or type(error).__name__


def _bindings() -> Any:
    """The extension module; importing torch first loads the libraries it needs."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's own pool would compete with XNNPACK's
    import executorch.extension.pybindings._C as bindings
    import torch  # noqa: F401

    return bindings


def _load_method(bindings: Any, path: str, name: str, etdump: bool = False) -> tuple[Any, Any]:
    checked = bindings.Verification.InternalConsistency
    try:
        program = bindings._load_program(path, enable_etdump=etdump, program_verification=checked)
        return program, program.load_method(name)
    except Exception as error:
        raise ValueError(short(error)) from error


def _tensors(meta: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Specs of a method's inputs and outputs. ValueError for a value that is no tensor numpy can hold."""
    sides: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    about = (
        ("input", meta.num_inputs(), meta.input_tensor_meta),
        ("output", meta.num_outputs(), meta.output_tensor_meta),
    )
    for side, (word, count, info) in zip(sides, about, strict=True):
        for index in range(count):
            try:
                tensor = info(index)
            except Exception as error:
                raise ValueError(f"{word} {index} is not a tensor: {short(error)}") from error
            if tensor.dtype() not in DTYPES:
                raise ValueError(f"{word} {index} has a type that numpy lacks (ScalarType {tensor.dtype()})")
            shape = [int(size) for size in tensor.sizes()]
            side.append({"name": f"{word}_{index}", "dtype": DTYPES[tensor.dtype()], "shape": shape})
    return sides


def _tensor(array: Any, spec: Mapping[str, Any]) -> Any:
    import numpy as np
    import torch

    if str(array.dtype) != spec["dtype"] or array.ndim != len(spec["shape"]):
        raise ValueError(f"{spec['name']} is {spec['dtype']} {spec['shape']}, got {array.dtype} {list(array.shape)}")
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


Place = tuple[bytes, int]
"""A FlatBuffer table: the buffer and the table's position."""


def _root(raw: bytes) -> Place:
    return raw, struct.unpack_from("<I", raw, 0)[0]


def _offset(table: Place, field: int) -> int:
    """Absolute position of a field's value; 0 where it is absent."""
    raw, at = table
    vtable = at - struct.unpack_from("<i", raw, at)[0]
    if vtable < 0 or 4 + 2 * field >= struct.unpack_from("<H", raw, vtable)[0]:
        return 0
    offset = struct.unpack_from("<H", raw, vtable + 4 + 2 * field)[0]
    return at + offset if offset else 0


def _follow(raw: bytes, at: int) -> int:
    return int(at + struct.unpack_from("<I", raw, at)[0])


def _table(table: Place, field: int) -> Place:
    return table[0], _follow(table[0], _offset(table, field))


def _tables(table: Place, field: int) -> list[Place]:
    at = _offset(table, field)
    if not at:
        return []
    raw, start = table[0], _follow(table[0], at)
    count = struct.unpack_from("<I", raw, start)[0]
    if start + 4 + 4 * count > len(raw):
        raise IndexError(start)
    return [(raw, _follow(raw, start + 4 + 4 * index)) for index in range(count)]


def _text(table: Place, field: int) -> str:
    at = _offset(table, field)
    if not at:
        return ""
    start = _follow(table[0], at)
    size = struct.unpack_from("<I", table[0], start)[0]
    return table[0][start + 4 : start + 4 + size].decode()


def _number(table: Place, field: int, form: str, absent: int = 0) -> int:
    at = _offset(table, field)
    return int(struct.unpack_from(form, table[0], at)[0]) if at else absent


def _event(event: Place) -> dict[str, Any]:
    """Fields of a ProfileEvent; times are nanoseconds."""
    took = _number(event, 7, "<Q") - _number(event, 6, "<Q")
    return {
        "name": _text(event, 0),
        "inside": _text(event, 4),
        "instruction": _number(event, 2, "<i", -1),
        "ms": took / 1e6,
    }
