"""edgeft's side of the comparison with NNCF: what answers its search, and counts the slices that are run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.search_net import Slices, dice
from bench.unet import a_context
from edgeft.artifact import Artifact
from edgeft.canonical import digest_tree
from edgeft.exporter import Layer, Unsupported, Variant
from edgeft.targets.search.asking import HOPELESS, SCORED, Answer, Ask, Branch, Budget, Noise, Settings, spaced

ONE = {"threads": 1}
RUNS = 20
FIRST = 11
"""Most slices of what only ranks: a quarter of the 45."""


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
    spent: dict[str, int] = field(default_factory=dict)
    ran: dict[Path, dict[int, Any]] = field(default_factory=dict)
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
        self.reference = self._run(self.float_path, range(len(self.validation.truth)))
        self.scores = dice(self.reference, self.validation.truth)
        self.baseline = float(self.scores.mean())
        self.float_cost = clock(self.float_path, self.validation.images)

    def search(self) -> Path | None:
        """The artefact that our search proposes."""
        from edgeft.targets.search.search import Search

        layers = self.layers()
        rungs = self.exporter.rungs(self.plain, self.device)
        ladder = tuple(item for item in rungs if item.options["mode"] == "int8-static")
        repairs = partial(self.exporter.repairs, device=self.device)
        branch = Branch("openvino", ladder, self.float_cost, layers, repairs)
        search = Search([branch], Settings(len(self.validation.truth), first=FIRST, budget=Budget(64)))
        while (ask := search.ask()) is not None:
            before = self.images
            search.tell(self.answer(ask))
            self.spent[ask.purpose] = self.spent.get(ask.purpose, 0) + self.images - before
        self.asked = len(search.evaluations)
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
        total = len(self.validation.truth)
        answer = self._judge(path, ask, spaced(total, ask.part or ask.cases))
        if ask.part and (answer.chance is None or answer.chance >= HOPELESS):
            answer = self._judge(path, ask, spaced(total, ask.cases))
        cost = clock(path, self.validation.images) if ask.timed else None
        return replace(answer, cost=cost, seconds=time.perf_counter() - began)

    def _judge(self, path: Path, ask: Ask, places: Sequence[int]) -> Answer:
        """Divergence of these slices and, where it is asked for, how their mean Dice stands to the limit."""
        from edgeft.targets.search.divergence import divergence

        logits = self._run(path, places)
        each = {
            place: divergence({"logits": self.reference[place : place + 1]}, {"logits": logits[row : row + 1]})
            for row, place in enumerate(places)
        }
        answer = Answer(float(sum(each.values()) / len(each)), cases=len(places), each=each)
        if ask.purpose not in SCORED:
            return answer
        drops = self.scores[list(places)] - dice(logits, self.validation.truth[list(places)])
        return replace(answer, slack=self.limit - float(drops.mean()), chance=likely_within(drops, self.limit))

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
        from edgeft.record import OperatorRow
        from edgeft.targets.search.sensitivity import layer_costs, measure_noise

        layers = self.layers()
        gone = self.rewritten[path]
        places = spaced(len(self.validation.truth), cases)
        names = tuple(layer.name for layer in layers if layer.name not in gone)
        feeds = {self.feed: self.validation.images[places]}
        small = Artifact("openvino", path.parent, "")
        plain, other = (self.exporter.tensors(item, names, feeds) for item in (self.plain, small))
        found = measure_noise(plain, other, names)
        self.images += 2 * cases
        profiles = []
        for item in (self.float_path, path):
            session = load(item)
            session.run({"image": self.validation.images[:1]})
            rows = session.operators(RUNS)
            profiles.append([OperatorRow(**{key: row[key] for key in ("name", "op", "ms")}, share=0.0) for row in rows])
        extra = self.float_cost - clock(path, self.validation.images)
        costs = layer_costs(layers, profiles[0], profiles[1], extra)
        return {name: replace(item, cost=costs.get(name, 0.0)) for name, item in found.items()}

    def score(self, path: Path, cases: int) -> Any:
        """Dice of each slice; not counted."""
        return dice(answers(path, self.validation.images[:cases]), self.validation.truth[:cases])

    def _run(self, path: Path, places: Sequence[int]) -> Any:
        """Logits of these slices; those that were not run before are, and are counted."""
        import numpy as np

        ran = self.ran.setdefault(path, {})
        new = [place for place in places if place not in ran]
        self.images += len(new)
        if new:
            ran.update(zip(new, answers(path, self.validation.images[new]), strict=True))
        return np.stack([ran[place] for place in places])


def likely_within(drops: Any, limit: float) -> float:
    """Chance that the mean drop is within the limit, by Student's t on the drops of single slices."""
    from scipy.special import stdtr

    spread = float(drops.std(ddof=1)) / len(drops) ** 0.5
    gap = limit - float(drops.mean())
    return float(stdtr(len(drops) - 1, gap / spread)) if spread > 0 else float(gap >= 0)


def load(path: Path) -> Any:
    from edgeft.runtimes import ov

    return ov.load(str(path), ONE)


def answers(path: Path, images: Any) -> Any:
    import numpy as np

    session = load(path)
    return np.concatenate([next(iter(session.run({"image": image[None]}).values())) for image in images])


def clock(path: Path, images: Any) -> float:
    """Milliseconds of a run, the least of some after as many to warm up: what other work on the machine moves least."""
    session, times = load(path), []
    for index in range(2 * RUNS):
        began = time.perf_counter()
        session.run({"image": images[index % len(images)][None]})
        times.append((time.perf_counter() - began) * 1000)
    return min(times[RUNS:])
