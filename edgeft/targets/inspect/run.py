"""What compression would do to an ONNX file, without a build: its layers, and with data how each one takes 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft import plugins
from edgeft.artifact import Artifact, Signature
from edgeft.canonical import digest_tree
from edgeft.device.profile import Device
from edgeft.errors import RecipeError
from edgeft.exporter import Layer, Unsupported, Variant
from edgeft.record import SensitivityRow
from edgeft.stage import Context
from edgeft.targets.inspect.record import InspectRecord
from edgeft.targets.search.asking import Noise, keep
from edgeft.targets.search.divergence import divergence
from edgeft.targets.search.sensitivity import layer_row, measure_noise, shortlisted, with_parts

if TYPE_CHECKING:
    from edgeft.task import Arrays

QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger",
             "QLinearMatMul", "QLinearConv", "QGemm", "QAttention", "MatMulNBits")  # fmt: skip
"""Operators by which a graph is known to be quantised already."""
EXPORTER = "onnx"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """The file, cleaned and with a name for every node, in a folder of its own."""

    label: str
    artifact: Artifact
    signature: Signature
    layers: tuple[Layer, ...]
    exporter: Any


def open_subject(path: Path, device: Device, folder: Path) -> Subject:
    """Read, check and clean an ONNX file. RecipeError where it is missing, no ONNX file, or nothing ORT runs."""
    if not path.exists():
        raise RecipeError("there is no such file", where=str(path))
    exporter: Any = plugins.load("exporters", EXPORTER)()
    out = folder / "float"
    out.mkdir()
    given = Artifact("onnx", path, "")
    try:
        settings = dict(exporter.settings(device, {}))
        facts = exporter.export(given, {**settings, "opset": 25, "ir_version": 13}, out, _context(folder))
        artifact = Artifact("onnx", out, digest_tree(out), facts)
        return Subject(path.name, artifact, exporter.signature(artifact), _layers(exporter, artifact), exporter)
    except Unsupported as refusal:
        what = f"{refusal.op}: {refusal.reason}" if refusal.op else refusal.reason
        raise RecipeError(what, where=str(path), hint="give an ONNX file that onnx.checker accepts") from refusal


def _layers(exporter: Any, artifact: Artifact) -> tuple[Layer, ...]:
    """None of a graph that is quantised already: it is described all the same."""
    try:
        return tuple(exporter.layers(artifact))
    except Unsupported:
        return ()


def describe(subject: Subject) -> InspectRecord:
    """Layers, sizes and what is already quantised; no data needed."""
    import onnx

    folder = subject.artifact.path
    graph = onnx.load(str(folder / "model.onnx"), load_external_data=False).graph
    counts: dict[str, int] = {}
    for node in graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    size = sum(path.stat().st_size for path in folder.iterdir())
    return InspectRecord(
        file=subject.label,
        bytes=size,
        opset=int(subject.artifact.facts["opset"]),
        operators=dict(sorted(counts.items())),
        quantised={name: counts[name] for name in QUANTISED if name in counts},
        inputs={name: [spec.dtype, *map(str, spec.shape)] for name, spec in subject.signature.inputs.items()},
        layers=[layer_row(layer, None, {}, {}) for layer in subject.layers],
    )


def measure(subject: Subject, feeds: Arrays, device: Device, folder: Path, most: int, say: Progress) -> SensitivityRow:
    """The sensitivity table on these canonical feeds (n, ...): noise of every layer's output, by weights and by
    activations alone where the exporter can tell, and the curves of the `most` layers that look worst.

    RecipeError for a quantised or unsuitable graph, StepError naming the layer whose output is not finite.
    """
    run = _Run(subject, feeds, device, folder)
    base = static_variant(subject, device)
    plain = run.answers(subject.artifact)
    say(f"compressing all layers: {base.name}")
    whole = run.make(base)
    names = tuple(layer.name for layer in subject.layers)
    noise = run.noise(names, whole)
    for part in ("weights", "activations"):
        say(f"8-bit {part} alone")
        noise = with_parts(noise, part, run.part(names, base, part))
    short = shortlisted(subject.layers, noise, most)
    everything = divergence(plain, run.answers(whole))
    alone, only, shown = {}, {}, {layer.name: layer.label or layer.name for layer in subject.layers}
    for number, name in enumerate(short):
        say(f"layer {number + 1} of {len(short)}: {shown[name]}")
        alone[name] = run.distance(plain, keep(base, frozenset({name})))
        only[name] = run.distance(plain, keep(base, frozenset(names) - {name}))
    rows = [layer_row(layer, noise.get(layer.name), alone, only) for layer in subject.layers]
    cases = len(next(iter(feeds.values())))
    return SensitivityRow(
        exporter=EXPORTER, variant=base.name, cases=cases, layers=rows, whole=_finite(everything),
        suggestion=_suggest(everything, alone, shown),
    )  # fmt: skip


def static_variant(subject: Subject, device: Device) -> Variant:
    """The exporter's own static int8 form, without exceptions for the head."""
    found = [variant for variant in subject.exporter.ladder(device) if variant.needs_calibration]
    if not found or not subject.layers:
        raise RecipeError("the graph has no layer that could be compressed", where=subject.label)
    first: Variant = found[0]
    return replace(first, options={**first.options, "head": "int8"})


class _Run:
    """Makes variants of one subject in a scratch folder and runs them on the same cases."""

    def __init__(self, subject: Subject, feeds: Arrays, device: Device, folder: Path) -> None:
        self.subject, self.feeds, self.device, self.folder = subject, feeds, device, folder
        self.count, self.statistics = 0, None

    def make(self, variant: Variant) -> Artifact:
        """The compressed artefact. RecipeError where the exporter refuses."""
        try:
            return self._make(variant)
        except Unsupported as refusal:
            what = f"{refusal.op}: {refusal.reason}" if refusal.op else refusal.reason
            raise RecipeError(what, where=self.subject.label) from refusal

    def _make(self, variant: Variant) -> Artifact:
        calibration: Any = self.feeds
        exporter = self.subject.exporter
        if getattr(variant, "needs_statistics", False):
            calibration = self.statistics = self.statistics or self._calibrate()
        out = self._folder()
        facts = exporter.compress(self.subject.artifact, variant, calibration, out, _context(self.folder))
        return Artifact("onnx", out, digest_tree(out), facts)

    def _calibrate(self) -> Any:
        out = self._folder()
        settings = self.subject.exporter.settings(self.device, {})
        facts = self.subject.exporter.calibrate(self.subject.artifact, settings, self.feeds, out, _context(self.folder))
        return Artifact("statistics", out, digest_tree(out), facts)

    def answers(self, artifact: Artifact) -> dict[str, Any]:
        """Outputs on the cases, by the device's runtime."""
        from edgeft.targets.measure import run_outputs

        exporter = self.subject.exporter
        signature = exporter.signature(artifact)
        return run_outputs(self.device, exporter.runtime, artifact, signature, self.feeds, batch=1)

    def distance(self, plain: Mapping[str, Any], variant: Variant) -> float:
        """Divergence of a variant, NaN where it cannot be made: one layer must not end the table."""
        try:
            return divergence(plain, self.answers(self._make(variant)))
        except Unsupported:
            return float("nan")

    def noise(self, names: tuple[str, ...], compressed: Artifact) -> dict[str, Noise]:
        """Of each layer's output."""
        exporter = self.subject.exporter
        plain, other = (exporter.tensors(item, names, self.feeds) for item in (self.subject.artifact, compressed))
        return measure_noise(plain, other, names)

    def part(self, names: tuple[str, ...], base: Variant, part: str) -> dict[str, Noise]:
        """Noise by one part alone; empty where the exporter does not know that option."""
        try:
            made = self._make(replace(base, name=f"{base.name}-{part}", options={**base.options, "part": part}))
            return self.noise(names, made)
        except Unsupported:
            return {}

    def _folder(self) -> Path:
        self.count += 1
        out = self.folder / f"made-{self.count}"
        out.mkdir()
        return out


def check_feeds(subject: Subject, feeds: Arrays) -> None:
    """RecipeError where an array's shape is not the input's, or holds NaN or infinity."""
    import numpy as np

    for name, spec in subject.signature.inputs.items():
        shape = np.shape(feeds[name])
        fits = len(shape) == len(spec.shape) and all(
            wanted == given for wanted, given in zip(spec.shape[1:], shape[1:], strict=False) if isinstance(wanted, int)
        )
        if not fits:
            wanted = "x".join(map(str, spec.shape))
            raise RecipeError(f"input '{name}' is {wanted}, the data has {'x'.join(map(str, shape))}", where="--data")
        if np.asarray(feeds[name]).dtype.kind == "f" and not np.isfinite(feeds[name]).all():
            raise RecipeError(f"the cases of input '{name}' hold NaN or infinity", where="--data")


def _suggest(whole: float, alone: Mapping[str, float], shown: Mapping[str, str]) -> str:
    """The layer whose float form takes most of the divergence away, if any takes a tenth.

    shown: every layer's name -> what to call it.
    """
    useful = {name: whole - value for name, value in alone.items() if isfinite(value)}
    if not useful or not whole > 0:
        return "The outputs do not change: no layer needs to stay in float."
    name = max(useful, key=lambda key: useful[key])
    share = useful[name] / whole
    if share < 0.1:
        best = f"the best of {len(alone)} tried takes {max(share, 0):.0%} of the divergence away"
        return f"No single layer stands out: {best}."
    return f"Keeping 1 of {len(shown)} layers in float ({shown[name]}) takes {share:.0%} of the output divergence away."


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def _context(folder: Path) -> Context:
    """What an exporter may use here: no task, no data, a scratch folder."""
    return Context(step="inspect", seed=0, scratch=folder, task=_NO_TASK)


class _NoTask:
    name, headline, metrics, columns = "inspect", "", (), ()


_NO_TASK: Any = _NoTask()
