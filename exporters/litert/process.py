"""Conversion in a child process, and what its failures mean in words."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft.canonical import canonical_json
from edgeft.errors import StepError
from edgeft.exporter import Unsupported

TIMEOUT = 2 * 3600.0
"""Seconds for one conversion: a MiniLM takes 20, a model of 1.5 GB some minutes."""
ILLEGAL = re.compile(r"failed to legalize operation '([\w.]+)'")
NOT_LOWERED = re.compile(r"Lowering not found: ([\w.:]+)")
EXECUTING = re.compile(r"While executing .*?target=(?:torch\.ops\.)?([\w.]+)\]")
ELSEWHERE = re.compile(r"\b(aten[.:]+\w+|(?:tfl|mhlo|stablehlo|vhlo)\.\w+)")
STRETCHED = re.compile(r"lhs_dilation = (?:dense<\[?|array<i64: ?)(?!1[\],>: ])(\d+)")


def run_child(request: Mapping[str, Any], folder: Path, threads: int) -> dict[str, Any]:
    """Facts of the request done in `folder`, which then holds model.tflite.

    Raises Unsupported (also when the converter kills its process or hangs) and StepError as the child did.
    """
    (folder / "request.json").write_bytes(canonical_json(request))
    command = [sys.executable, "-m", "edgeft_exporters.litert.child", str(folder)]
    environment = {
        **os.environ, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2",
        "OMP_NUM_THREADS": str(max(1, threads)), "PYTHONHASHSEED": "0",
    }  # fmt: skip
    with tempfile.TemporaryFile(dir=folder) as log:
        try:
            code = subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=TIMEOUT, check=False
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise Unsupported(f"the converter did not finish within {TIMEOUT / 3600:.0f} hours") from error
        log.seek(max(0, log.tell() - (1 << 16)))
        said = log.read().decode("utf-8", errors="replace")
    return _read_answer(folder / "answer.json", code, said)


def _read_answer(path: Path, code: int, said: str) -> dict[str, Any]:
    if not path.is_file():
        raise died(code, said)
    answer: Any = json.loads(path.read_text(encoding="utf-8"))
    if "unsupported" in answer:
        raise Unsupported(answer["unsupported"]["reason"], op=answer["unsupported"]["op"])
    if "failed" in answer:
        raise StepError(answer["failed"]["what"], where=answer["failed"]["where"], hint=answer["failed"]["hint"])
    if code:
        raise died(code, said)
    done: dict[str, Any] = answer["done"]
    return done


def died(code: int, said: str) -> Exception:
    """What to raise for a child that ended without an answer: a missing package, or an abort of the converter."""
    missing = re.findall(r"ModuleNotFoundError: No module named '([\w.]+)'", said)
    if missing:
        return StepError(f"LiteRT export needs the package '{missing[-1]}'", hint="pip install 'edgeft[litert]'")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reason, op = explain("\n".join(lines[-40:]))
    if code < 0:
        return Unsupported(f"the converter was killed by {signal.Signals(-code).name}: {last(lines)}", op=op)
    return Unsupported(reason if op else f"the converter ended with exit code {code}: {last(lines)}", op=op)


def last(lines: list[str]) -> str:
    """The last line said, cut at 300 characters."""
    return lines[-1][:300] if lines else "it said nothing"


def explain(message: str) -> tuple[str, str]:
    """(reason, operator's name or empty) of a converter's message; paths of this machine are left out."""
    if found := ILLEGAL.search(message):
        what = f"LiteRT has no form of {found[1]}"
        if STRETCHED.search(message[found.start() :]):
            what = f"LiteRT's converter has no form of transposed convolutions ({found[1]} with lhs_dilation)"
            return what, "conv_transpose"
        return what, found[1]
    if found := NOT_LOWERED.search(message):
        return f"litert-torch has no translation for {found[1]}", found[1]
    first = next((line.strip() for line in message.splitlines() if line.strip()), "no message")
    first = re.sub(r"(?:/[\w.\-]+){2,}[:\d]*\s*", "", first)[:300]
    found = EXECUTING.search(message) or ELSEWHERE.search(message)
    return f"litert-torch cannot convert this model: {first}", found[1] if found else ""
