"""pnnx in a child process. It prints a lot, exits 0 when it fails and can crash: its output files say what happened."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

from edgeft.errors import StepError
from edgeft.exporter import Unsupported
from edgeft.runtimes.ncnn_net import Layer, read_param

from .trace import Input

TIMEOUT = 1800.0
"""Seconds: a MiniLM takes 2."""
KINDS = {"float32": "f32", "int64": "i64", "int32": "i32", "float16": "f16", "uint8": "u8"}
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def convert(source: Path, inputs: list[Input], *, half: bool, threads: int = 1) -> list[Layer]:
    """ncnn.param and ncnn.bin beside `source` (TorchScript or ONNX); returns the layers.

    Raises Unsupported, with the operator's name where ncnn has no such layer, and StepError without pnnx.
    """
    folder = source.parent
    shapes = ",".join(f"[{','.join(str(size) for size in item.shape)}]{KINDS[item.dtype]}" for item in inputs)
    command = [
        find_pnnx(), source.name, f"inputshape={shapes}", f"fp16={int(half)}", "ncnnparam=ncnn.param",
        "ncnnbin=ncnn.bin", "ncnnpy=ncnn.py", "pnnxparam=pnnx.param", "pnnxbin=pnnx.bin", "pnnxpy=pnnx.py",
        "pnnxonnx=pnnx.onnx",
    ]  # fmt: skip
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": str(max(1, threads))}
    with tempfile.TemporaryFile(dir=folder) as log:
        try:
            code = subprocess.run(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                timeout=TIMEOUT, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Unsupported(f"pnnx did not finish within {TIMEOUT / 60:.0f} minutes") from error
        log.seek(max(0, log.tell() - (1 << 16)))
        said = COLOUR.sub("", log.read().decode("utf-8", errors="replace"))
    if code < 0:
        raise Unsupported(f"pnnx was killed by {signal.Signals(-code).name}: {last_line(said)}")
    if code or not all((folder / name).is_file() for name in ("ncnn.param", "ncnn.bin")):
        raise Unsupported(f"pnnx wrote no ncnn model (exit code {code}): {last_line(said)}")
    return check_layers(folder / "ncnn.param")


def check_layers(path: Path) -> list[Layer]:
    """Layers of a .param; Unsupported with the first one's name that ncnn does not have."""
    import ncnn

    try:
        layers = read_param(str(path))
    except ValueError as error:
        raise Unsupported(f"pnnx wrote a broken .param file: {error}") from error
    unknown = [layer.type for layer in layers if ncnn.layer_to_index(layer.type) < 0]
    if unknown:
        op = min(
            unknown, key=lambda name: name.startswith("pnnx.")
        )  # pnnx's own are constants and index sums beside it
        raise Unsupported(f"ncnn has no layer for it (pnnx calls it '{op}')", op=op)
    return layers


def find_pnnx() -> str:
    """The pnnx program of the installed wheel. StepError where there is none."""
    try:
        import pnnx
    except ImportError as error:
        raise StepError("ncnn export needs the package 'pnnx'", hint="pip install 'edgeft[ncnn]'") from error
    return str(pnnx.EXEC_PATH)


def last_line(said: str) -> str:
    """The last line that is not a mark of progress, cut at 300 characters."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith(("#", "─", "└"))]
    return lines[-1][:300] if lines else "it said nothing"
