"""ORT format for apps with a reduced ONNX Runtime: the graph of the ONNX exporter, optimised once and for all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgeft.artifact import Artifact, Kind, Signature, read_signature, write_signature
from edgeft.canonical import Facts
from edgeft.exporter import Layer, Unsupported, Variant

from ..onnx.exporter import OnnxExporter
from ..onnx.quantise.ladder import all_rungs
from .canonical import canonicalise_ort

if TYPE_CHECKING:
    from edgeft.device.profile import Device
    from edgeft.stage import Context
    from edgeft.task import Arrays

MODEL, OPERATORS = "model.ort", "required_operators.config"
LARGEST = 1_900_000_000
"""Bytes: an .ort file is one FlatBuffer, whose offsets end at 2 GiB."""
TIMEOUT = 1800.0
_CHILD = Path(__file__).with_name("child.py")


class OrtMobileExporter:
    """torch model or ONNX file to model.ort, required_operators.config (with types) and signature.json.

    An .ort file cannot be quantised, so a variant starts from the source again and quantises on the way.
    """

    name: ClassVar[str] = "ort"
    version: ClassVar[int] = 3
    makes: ClassVar[Kind] = "ort"
    runtime: ClassVar[str] = "onnxruntime"
    tools: ClassVar[tuple[str, ...]] = OnnxExporter.tools
    compresses: ClassVar[Literal["float", "source"]] = "source"

    def __init__(self) -> None:
        self._onnx = OnnxExporter()

    def settings(self, device: Device, serve: Mapping[str, int]) -> Mapping[str, Any]:
        """Opset and IR version as for ONNX, and whether ARM's choices go in (int8 QDQ with signed activations).

        x86's own layouts never do: their block size is that of the machine that converts, not of the device.
        """
        platform = "arm" if device.architecture == "aarch64" else ""
        return {**self._onnx.settings(device, serve), "platform": platform}

    def export(self, model: Artifact, settings: Mapping[str, Any], out: Path, ctx: Context) -> Facts:
        """Float model.ort with dynamic batch and sequence. Raises Unsupported."""
        with tempfile.TemporaryDirectory(prefix="edgeft-ort-") as name:
            plain = Path(name) / "float"
            plain.mkdir()
            facts = self._onnx.export(model, settings, plain, ctx)
            return self._finish(plain, {**facts, **self._about(plain, facts)}, settings, out)

    def ladder(self, device: Device) -> tuple[Variant, ...]:
        """The ONNX exporter's."""
        return self._onnx.ladder(device)

    def calibrate(
        self, model: Artifact, settings: Mapping[str, Any], calibration: Arrays, out: Path, ctx: Context
    ) -> Facts:
        """Statistics of the ONNX graph that the .ort file is made from. Raises Unsupported."""
        with self._plain(model, settings, ctx) as given:
            return self._onnx.calibrate(given, settings, calibration, out, ctx)

    def compress(
        self, model: Artifact, variant: Variant, calibration: Arrays | Artifact | None, out: Path, ctx: Context
    ) -> Facts:
        """Compressed model.ort from the source; variant.options["settings"] as `settings` gave. Raises Unsupported."""
        options = dict(variant.options)
        settings = options.pop("settings", None)
        if settings is None:
            raise Unsupported("compressing to ORT format needs the export's settings")
        with self._plain(model, settings, ctx) as given, tempfile.TemporaryDirectory(prefix="edgeft-ort-") as name:
            reduced = self._onnx.compress(given, replace(variant, options=options), calibration, Path(name), ctx)
            return self._finish(Path(name), {**given.facts, **reduced}, settings, out)

    def layers(self, model: Artifact) -> tuple[Layer, ...]:
        """Layers as they were before the conversion, which renames what it optimises: recorded by the export."""
        rows = model.facts.get("layers")
        if rows is None:
            raise Unsupported("the artefact does not say which layers it has: export the model again")
        return tuple(Layer(**row) for row in rows)

    def tensors(self, model: Artifact, layers: tuple[str, ...], feeds: Arrays) -> Iterator[Mapping[str, Any]]:
        """An .ort file gives its own outputs and no others: always Unsupported. The same layers of the ONNX exporter's
        artefact tell as much, as both have one graph."""
        raise Unsupported("an .ort file cannot be asked for the outputs of single layers")

    def rungs(self, model: Artifact, device: Device) -> tuple[Variant, ...]:
        """The ONNX exporter's."""
        return all_rungs(device, bool(model.facts.get("convolutional")))

    def possible_rungs(self, device: Device) -> tuple[Variant, ...]:
        """The ONNX exporter's."""
        return self._onnx.possible_rungs(device)

    def repairs(self, variant: Variant, device: Device) -> tuple[Variant, ...]:
        """The ONNX exporter's."""
        return self._onnx.repairs(variant, device)

    def signature(self, model: Artifact) -> Signature:
        """What signature.json says."""
        try:
            return read_signature(model.path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unsupported("no signature.json beside model.ort: an .ort file keeps no canonical names") from error

    @contextmanager
    def _plain(self, model: Artifact, settings: Mapping[str, Any], ctx: Context) -> Iterator[Artifact]:
        """The float ONNX graph of the source, for as long as it is needed."""
        with tempfile.TemporaryDirectory(prefix="edgeft-ort-") as name:
            facts = self._onnx.export(model, settings, Path(name), ctx)
            yield Artifact("onnx", Path(name), "", facts)

    def _about(self, plain: Path, facts: Facts) -> dict[str, Any]:
        """What a search asks of the float artefact, which only the ONNX graph can answer."""
        from ..onnx.graph import model_file, read_model
        from ..onnx.layers import ALREADY, resolve_operators

        if set(facts.get("operators", ())) & set(ALREADY):
            return {"layers": [], "convolutional": False}
        artifact = Artifact("onnx", plain, "", facts)
        graph = read_model(model_file(artifact)).graph
        rows = [asdict(layer) for layer in self._onnx.layers(artifact)]
        return {"layers": rows, "convolutional": resolve_operators(graph, "auto") == "conv"}

    def _finish(self, plain: Path, facts: Facts, settings: Mapping[str, Any], out: Path) -> Facts:
        """Convert `plain`/model.onnx into `out`; facts of the float or quantised graph in, of the .ort out."""
        if sum(path.stat().st_size for path in plain.iterdir()) > LARGEST:
            raise Unsupported("an .ort file holds less than 2 GB")
        report = run_converter(plain, str(settings["platform"]))
        made = plain / "ort"
        (out / MODEL).write_bytes(canonicalise_ort((made / MODEL).read_bytes()))
        operators = required_operators(next(made.glob("*.config")).read_text(encoding="utf-8"))
        (out / OPERATORS).write_text("".join(f"{line}\n" for line in operators), encoding="utf-8")
        signature = self._onnx.signature(Artifact("onnx", plain, ""))
        write_signature(out, signature)
        about = {"operators": operator_names(operators), "platform": settings["platform"], **describe(report)}
        return {**facts, **about, "bytes": sum(path.stat().st_size for path in out.iterdir())}


def run_converter(folder: Path, platform: str) -> dict[str, Any]:
    """Convert `folder`/model.onnx to `folder`/ort/ in a child process; what the usability checker says of it.

    Raises Unsupported with the converter's own sentence.
    """
    out, report = folder / "ort", folder / "report.json"
    out.mkdir()
    command = [sys.executable, "-P", str(_CHILD), str(folder / "model.onnx"), str(out), platform, str(report)]
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "PYTHONWARNINGS": "ignore"}
    environment.pop("ORT_CONVERT_ONNX_MODELS_TO_ORT_OPTIMIZATION_LEVEL", None)  # it would change the bytes unseen
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False
        )
        result: dict[str, Any] = json.loads(report.read_bytes())
    except subprocess.TimeoutExpired:
        raise Unsupported(f"onnxruntime's converter did not finish within {TIMEOUT:.0f} s") from None
    except (OSError, ValueError):
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        why = last[0][:300] if last else f"exit code {done.returncode}"
        raise Unsupported(f"onnxruntime's converter ended early: {why}") from None
    if "error" in result:
        raise Unsupported(f"onnxruntime cannot write this model in ORT format: {result['error']}")
    return result


def required_operators(text: str) -> list[str]:
    """Lines `domain;opset;operators` of a required-operators file, without its comment: that names machine paths."""
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def operator_names(lines: list[str]) -> list[str]:
    """Operator names in such lines, sorted; the JSON of types after a name is skipped."""
    names, depth, word = set(), 0, ""
    for letter in ",".join(line.split(";", 2)[2] for line in lines) + ",":
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            names.add(word)
            word = ""
        elif depth == 0 and letter != "}":
            word += letter
    return sorted(names - {""})


def describe(report: Mapping[str, Any]) -> dict[str, Any]:
    """Facts `usability` (accelerator -> verdict) and `notes` (a sentence each) of the checker's report."""
    usability, notes = {}, []
    for name, fixed in report["fixed_shapes"].items():
        verdict = max(report["as_is"][name]["verdict"], fixed["verdict"], key=("no", "maybe", "yes").index)
        usability[name] = verdict
        lacking = f", lacks {', '.join(fixed['unsupported'][:6])}" if fixed["unsupported"] else ""
        plural = "part" if fixed["partitions"] == 1 else "parts"
        notes.append(
            f"onnxruntime's mobile checker on {name}: {verdict}; with fixed shapes it could take {fixed['supported']} "
            f"of {fixed['nodes']} nodes in {fixed['partitions']} {plural}{lacking} (estimated by operator names)"
        )
    return {"usability": usability, "notes": notes, "usability_detail": dict(report)}
