"""What pruning buys on pictures: int8 of the pruned network against int8 of the very network it was cut from.

The trunk is a shipped recipe's; the unpruned network is the same recipe without its pruning step, so both share one
training. Runtime and form are fixed beforehand: those in which the unpruned network's int8 is fastest. Times are
of one process and one thread, in blocks A B B A. Accuracy on the search set is
given of every point of the front; the gate set is met by the recipe's own point alone, through `edgeft build`, which
counts the opening, and the two int8 artefacts' answers to it are compared by edgeft's own gate at the recipe's margin.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.build import Built, build
from bench.unet import interleave, ratio

if TYPE_CHECKING:
    from edgeft.gate import Gate

AIM, BLOCKS = 1.4, 60
DEVICE = "local-cpu"


@dataclass(frozen=True)
class Front:
    """One task: the recipe, the candidate that is compared, and modules it needs. runs: of one in a
    block, so that a block takes some milliseconds. others: further points, as (name,
    recipe, what is set), on the search set alone."""

    recipe: str
    candidate: str
    runs: int
    needs: tuple[str, ...]
    others: tuple[tuple[str, str, tuple[str, ...]], ...]


TISSUE, DIGITS = "edgeft:vision/tissue-pruned", "edgeft:vision/digits-pruned"
DIGITS_TRAINED = (
    "{finetune: {method: full, epochs: 45, batch_size: 64, learning_rate: 0.003, eval_steps: 120,"
    " augment: {shift: 0.1, brightness: 0.2}}}"
)
LAYERS = (
    "{{prune: {{method: depth, drop: {}, heal_epochs: 30, heal_learning_rate: 0.001, heal_batch_size: 64,"
    " heal_distil: true, heal_augment: {{shift: 0.1, brightness: 0.2}}}}}}"
)
FRONTS = {
    "segmentation": Front(
        TISSUE,
        "openvino/int8-static",
        4,
        ("nilearn", "nncf", "torch_pruning"),
        (
            ("three quarters cut", TISSUE, ("prune.ratio=0.75",)),
            ("never wide: trained with half the channels", "edgeft:vision/tissue", ()),
        ),
    ),
    "image": Front(
        DIGITS,
        "litert/int8-static",
        400,
        ("sklearn", "litert_torch", "ai_edge_quantizer", "torch_pruning"),
        (
            ("the layer alone", DIGITS, (f"steps=[{DIGITS_TRAINED}, {LAYERS.format(1)}]",)),
            ("two of three layers", DIGITS, (f"steps=[{DIGITS_TRAINED}, {LAYERS.format(2)}]",)),
        ),
    ),
}


def main_segmentation() -> bool | None:
    """The front of the U-Net; whether the recipe's own point is AIM times faster and passes its gate."""
    return show(FRONTS["segmentation"])


def main_image() -> bool | None:
    """The same of the classifier of digits."""
    return show(FRONTS["image"])


def show(front: Front) -> bool | None:
    """Print the front and the verdict; a sentence, and None, where a package is missing."""
    missing = [name for name in front.needs if find_spec(name) is None]
    if missing:
        print(f"{front.recipe}: skipped, it needs {', '.join(missing)}")
        return None
    with TemporaryDirectory() as name:
        folder = Path(name)
        whole = build(str(write(folder / "whole.yaml", front, front.recipe, pruned=False)))
        thin = build(str(write(folder / "thin.yaml", front, front.recipe)))
        rest = {}
        for place, (title, recipe, sets) in enumerate(front.others):
            path = write(folder / f"other-{place}.yaml", front, recipe)
            rest[title] = build(str(path), *(word for text in sets for word in ("--set", text)), "--to", "search")
    print(f"{front.recipe}, {front.candidate}, one thread", flush=True)
    compared = Comparing(front.candidate, front.runs, whole, gates_of(front))
    fast = compared.point("the recipe", thin) >= AIM
    for title, built in rest.items():
        compared.point(title, built)
    return compared.verdict(thin) and fast


def gates_of(front: Front) -> tuple[Gate, ...]:
    """The recipe's gates that compare with the source: what "equal accuracy" is, with its margin."""
    from edgeft.recipe.load import load_recipe

    return tuple(gate for gate in load_recipe(front.recipe).recipe.gates if gate.no_worse_than)


def write(path: Path, front: Front, extends: str, *, pruned: bool = True) -> Path:
    """A recipe for one candidate and the gates that compare with the source; unpruned: its first step alone."""
    from edgeft.recipe.load import load_recipe

    exporter, form = front.candidate.split("/")
    changes: dict[str, Any] = {
        "name": f"bench-{path.stem}",
        "extends": extends,
        "targets": [{"device": DEVICE, "export": [exporter], "candidates": [form], "optimise": "size"}],
        "measure": {"protocol": "none"},
        "gates": [gate.model_dump(mode="json", exclude_unset=True) for gate in gates_of(front)],
    }
    if not pruned:
        first = load_recipe(extends).recipe.steps[0]
        changes["steps"] = [{first.name: first.model_dump(mode="json", exclude_unset=True)}]
    path.write_text(json.dumps(changes), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Comparing:
    """Pruned builds against the unpruned one. gates: of the recipe, those that compare."""

    candidate: str
    runs: int
    whole: Built
    gates: tuple[Gate, ...]

    def point(self, name: str, thin: Built) -> float:
        """Print a point of the front; how many times faster it is."""
        from edgeft.targets.compare import ratio_interval

        times = interleave({"whole": self.run(self.whole), "thin": self.run(thin)}, BLOCKS, self.runs)
        old, new = times["whole"], times["thin"]
        value, _ = ratio_interval(list(zip(old, new, strict=True)))
        metric, products = thin.task.headline, [f"{a / 1e6:.1f} to {b / 1e6:.1f} M MACs, " for a, b in macs(thin)]
        print(
            f"{name}: {''.join(products)}{self.bytes(self.whole) / 1000:.0f} to {self.bytes(thin) / 1000:.0f} kB, "
            f"{median(old):.2f} to {median(new):.2f} ms, {ratio(old, new)}; {metric} on the search set "
            f"{self.on_search(self.whole, metric):.4f} to {self.on_search(thin, metric):.4f}",
            flush=True,
        )
        return value

    def run(self, built: Built) -> Callable[[], Any]:
        """One run of the artefact on the first search case, on one thread."""
        from edgeft import plugins
        from edgeft.targets.artifact_jobs import model_entry, runtime_feeds

        side = built.side(DEVICE, self.candidate, built.feeds(1))
        session = plugins.load("runtimes", side.runtime).load(str(model_entry(side.artifact)), {"threads": 1})
        return partial(session.run, runtime_feeds(side.signature, side.feeds))

    def bytes(self, built: Built) -> int:
        """Size of the artefact."""
        rows: Sequence[dict[str, Any]] = built.record["targets"][0]["candidates"]
        return next(int(row["bytes"]) for row in rows if row["name"] == self.candidate)

    def on_search(self, built: Built, metric: str) -> float:
        """A metric of the artefact on the search set."""
        return float(self.score(built, "search").metrics[metric])

    def score(self, built: Built, split: str) -> Any:
        """What the artefact's stored answers to a split score."""
        from edgeft.pipeline.steps.arrays import load_arrays

        step = f"gate/{DEVICE}/{self.candidate}" if split == "gate" else f"{DEVICE}/{self.candidate}/outputs"
        outputs = load_arrays(built.place(step) / "outputs.npz")
        return built.task.score(outputs, built.rows(split=split), built.record["data"]["labels"])

    def verdict(self, thin: Built) -> bool:
        """Print what the gate set says of the pruned artefact against the source and against the unpruned artefact."""
        from edgeft.data.table import column_array
        from edgeft.evaluate.gates import decide_data_gate

        for built, name in ((self.whole, "unpruned"), (thin, "pruned")):
            for row in built.record["targets"][0]["verdicts"]:
                print(f"{name} int8 against the float source, gate set: {row['status']}: {row['why']}")
        rows, passed = thin.rows(split="gate"), True
        for gate in self.gates:
            pair = self.score(thin, "gate"), self.score(self.whole, "gate")
            units, truth = column_array(rows, "unit"), column_array(rows, "label")
            found = decide_data_gate(gate, DEVICE, *pair, units, truth=truth)
            print(f"pruned int8 against unpruned int8, gate set: {found.status}: {found.why}")
            passed = passed and found.status == "PASS"
        return passed


def macs(built: Built) -> list[tuple[int, int]]:
    """(before, after) of all pruning steps together; none where nothing was pruned."""
    rows = built.record["pruning"]
    return [(rows[0]["macs"][0], rows[-1]["macs"][1])] if rows else []
