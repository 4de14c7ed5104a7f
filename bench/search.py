"""edgeft's search against NNCF's accuracy control: one trained UNet, its data, a drop limit, OpenVINO on one thread.

Both calibrate on the same slices and may look at the same 45 validation slices as often as they like; what is counted
is how many slices each had to be run on. Both results are then scored on all 45 and timed in interleaved blocks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bench.search_net import Slices, dice, load_slices, save_onnx, train_net
from bench.unet import a_context, interleave, ratio
from edgeft.artifact import Artifact
from edgeft.canonical import digest_tree
from edgeft.exporter import Layer, Unsupported, Variant
from edgeft.targets.asking import SCORED, Answer, Ask, Branch, Budget, Noise, Settings

NEEDED = ("monai", "openvino", "nncf", "nilearn", "nibabel")
LIMITS = (0.0001, 0.0005)
"""Largest loss of mean Dice: that of the comparison this one follows, and a harder one."""
ONE = {"threads": 1}
RUNS = 20


def main(limits: tuple[float, ...] = LIMITS) -> None:
    """Print both searches' evaluations, their outcome, and the interleaved times."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f"search: skipped, it needs {', '.join(missing)}: pip install 'edgeft[medical,openvino,examples]'")
        return
    parts = load_slices()
    net = train_net(parts["train"])
    with TemporaryDirectory() as name:
        for limit in limits:
            place = Path(name) / f"{limit:g}"
            place.mkdir()
            compare(place, save_onnx(net, place / "unet.onnx"), parts, limit)


def compare(place: Path, source: Path, parts: Mapping[str, Slices], limit: float) -> None:
    """One limit: ours, NNCF's, then the times."""
    ours = OurSide(place, source, parts["calibration"], parts["validation"], limit)
    plain = ours.score(ours.plain.path / "model.xml", len(parts["validation"].truth))
    print(f"limit {limit:g}: float {ours.baseline:.5f} Dice on {len(plain)} slices")
    began = time.perf_counter()
    found = ours.search()
    _tell("edgeft", ours.images, found, ours.baseline, limit, time.perf_counter() - began, ours.validation, ours.asked)
    began = time.perf_counter()
    theirs, images, calls = accuracy_control(place, ours, limit)
    _tell("NNCF", images, theirs, ours.baseline, limit, time.perf_counter() - began, ours.validation, calls)
    sessions = {
        name: partial(_load(path).run, {"image": ours.validation.images[:1]})
        for name, path in (("float", ours.plain.path / "model.xml"), ("edgeft", found), ("NNCF", theirs))
        if path is not None
    }
    times = interleave(sessions, 16, 8)
    print("  " + ", ".join(f"{name} {median(values):.2f} ms" for name, values in times.items()))
    if {"edgeft", "NNCF"} <= set(times):
        print(f"  edgeft's against NNCF's: {ratio(times['NNCF'], times['edgeft'])}")


def _tell(
    name: str, images: int, path: Path | None, base: float, limit: float, seconds: float, slices: Slices, asked: int
) -> None:
    if path is None:
        print(f"  {name}: {images} slices in {asked} evaluations, {seconds:.0f} s: nothing that meets the limit")
        return
    drop = base - float(dice(_answers(path, slices.images), slices.truth).mean())
    met = "meets" if drop <= limit + 1e-12 else "MISSES"
    print(f"  {name}: {images} slices in {asked} evaluations, {seconds:.0f} s: drop {drop:.5f}, {met} the limit")


@dataclass
class OurSide:
    """The oracle of our search: artefacts by edgeft's OpenVINO exporter, answers by OpenVINO in this process."""

    place: Path
    source: Path
    calibration: Slices
    validation: Slices
    limit: float
    images: int = 0
    asked: int = 0
    made: dict[str, Path] = field(default_factory=dict)
    rewritten: dict[Path, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from edgeft_exporters.openvino.exporter import OpenVinoExporter

        from edgeft.device.profile import load_device

        self.device, self.exporter, self.context = load_device("local-cpu"), OpenVinoExporter(), a_context(self.place)
        out = self.place / "float"
        out.mkdir()
        given = Artifact("onnx", self.source, "0" * 64)
        facts = self.exporter.export(given, self.exporter.settings(self.device, {"batch": 1}), out, self.context)
        self.plain = Artifact("openvino", out, digest_tree(out), facts)
        self.float_path = out / "model.xml"
        self.feed = next(iter(self.exporter.signature(self.plain).inputs))
        self.reference = self._run(self.float_path, len(self.validation.truth))
        self.baseline = float(dice(self.reference, self.validation.truth).mean())
        self.float_cost = _clock(self.float_path, self.validation.images)

    def search(self) -> Path | None:
        """The artefact that our search proposes."""
        from edgeft.targets.search import Search

        layers = self.layers()
        rungs = self.exporter.rungs(self.plain, self.device)
        ladder = tuple(item for item in rungs if item.options["mode"] == "int8-static")
        repairs = partial(self.exporter.repairs, device=self.device)
        branch = Branch("openvino", ladder, self.float_cost, layers, repairs)
        search = Search([branch], Settings(len(self.validation.truth), first=11, budget=Budget(64)))
        while (ask := search.ask()) is not None:
            search.tell(self.answer(ask))
        self.asked = len(search.evaluations)
        for done in search.evaluations:
            kept = f", {len(done.ask.variant.keep_float)} in float" if done.ask.variant.keep_float else ""
            slack = "" if done.answer.slack is None else f", drop {self.limit - done.answer.slack:.5f}"
            name = f"{done.ask.purpose} {done.ask.variant.name}{kept}"
            print(f"    {done.number}: {name}, {done.answer.cases} slices{slack}")
        best = search.best
        return self.made[best.ask.variant.name] if best else None

    def layers(self) -> tuple[Layer, ...]:
        """As the exporter lists them."""
        return tuple(self.exporter.layers(self.plain))

    def answer(self, ask: Ask) -> Answer:
        """Make and run; everything that a slice is run through counts."""
        began = time.perf_counter()
        try:
            path = self.make(ask.variant)
        except Unsupported as refusal:
            return Answer(refused=refusal.reason)
        if ask.purpose == "layers":
            noise = self.noise(path, ask.cases)
            return Answer(cases=2 * ask.cases, seconds=time.perf_counter() - began, noise=noise)
        logits = self._run(path, ask.cases)
        slack = None
        if ask.purpose in SCORED:
            slack = self.limit - (self.baseline - float(dice(logits, self.validation.truth[: ask.cases]).mean()))
        from edgeft.targets.divergence import divergence

        far = divergence({"logits": self.reference[: ask.cases]}, {"logits": logits})
        cost = _clock(path, self.validation.images) if ask.timed else None
        return Answer(far, slack, cost, ask.cases, time.perf_counter() - began)

    def make(self, variant: Variant) -> Path:
        """Compressed model.xml, made once."""
        if variant.name not in self.made:
            out = self.place / variant.name
            out.mkdir(exist_ok=True)
            cases = {self.feed: self.calibration.images}
            facts = self.exporter.compress(self.plain, variant, cases, out, self.context)
            self.made[variant.name] = out / "model.xml"
            self.rewritten[out / "model.xml"] = frozenset(facts.get("rewritten", ()))
        return self.made[variant.name]

    def noise(self, path: Path, cases: int) -> dict[str, Noise]:
        """Of each layer's output, with what it costs in float by both profiles."""
        from edgeft.targets.measure import operator_rows
        from edgeft.targets.sensitivity import layer_costs, measure_noise

        layers = self.layers()
        gone = self.rewritten[path]
        names, feeds = (
            tuple(layer.name for layer in layers if layer.name not in gone),
            {self.feed: self.validation.images[:cases]},
        )
        small = Artifact("openvino", path.parent, "")
        plain, other = (self.exporter.tensors(item, names, feeds) for item in (self.plain, small))
        found = measure_noise(plain, other, names)
        self.images += 2 * cases
        profiles = []
        for item in (self.float_path, path):
            session = _load(item)
            session.run({"image": self.validation.images[:1]})
            profiles.append(operator_rows({"operators": session.operators(RUNS)}))
        extra = self.float_cost - _clock(path, self.validation.images)
        costs = layer_costs(layers, profiles[0], profiles[1], extra)
        return {name: replace(item, cost=costs.get(name, 0.0)) for name, item in found.items()}

    def score(self, path: Path, cases: int) -> Any:
        """Dice of each slice; not counted."""
        return dice(_answers(path, self.validation.images[:cases]), self.validation.truth[:cases])

    def _run(self, path: Path, cases: int) -> Any:
        """Logits of the first slices, counted."""
        self.images += cases
        return _answers(path, self.validation.images[:cases])


def accuracy_control(place: Path, ours: OurSide, limit: float) -> tuple[Path, int, int]:
    """(NNCF's model, slices it was run on, calls of the validation function), with its defaults."""
    import numpy as np
    from edgeft_exporters.openvino.graph import save
    from edgeft_exporters.openvino.quantise import import_nncf, silent

    from edgeft.runtimes.ov import import_openvino

    nncf, ov = import_nncf(), import_openvino()
    counted = [0, 0]
    slices = ours.validation

    def validate(model: Any, items: Any) -> tuple[float, list[float]]:
        counted[1] += 1
        scores = []
        for index in items:
            counted[0] += 1
            logits = np.asarray(next(iter(model([slices.images[index : index + 1]]).values())))
            scores.append(float(dice(logits, slices.truth[index : index + 1])[0]))
        return float(np.mean(scores)), scores

    model = ov.Core().read_model(ours.float_path)
    calibration = nncf.Dataset([image[None] for image in ours.calibration.images])
    with silent():
        made = nncf.quantize_with_accuracy_control(
            model, calibration, nncf.Dataset(list(range(len(slices.truth)))), validate, max_drop=limit,
            drop_type=nncf.DropType.ABSOLUTE, subset_size=len(ours.calibration.images),
        )  # fmt: skip
    out = place / "nncf"
    out.mkdir()
    save(made, out / "model.xml", "f32")
    return out / "model.xml", counted[0], counted[1]


def _load(path: Path) -> Any:
    from edgeft.runtimes import ov

    return ov.load(str(path), ONE)


def _answers(path: Path, images: Any) -> Any:
    import numpy as np

    session = _load(path)
    return np.concatenate([next(iter(session.run({"image": image[None]}).values())) for image in images])


def _clock(path: Path, images: Any) -> float:
    """Milliseconds of a run, the least of some after as many to warm up: what other work on the machine moves least."""
    session, times = _load(path), []
    for index in range(2 * RUNS):
        began = time.perf_counter()
        session.run({"image": images[index % len(images)][None]})
        times.append((time.perf_counter() - began) * 1000)
    return min(times[RUNS:])


if __name__ == "__main__":
    main()
