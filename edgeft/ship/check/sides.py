"""Candidate and baseline, opened: a bundle with its own preprocessing, or a bare model that borrows one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from edgeft import plugins
from edgeft.artifact import SIGNATURE, Signature, TensorSpec
from edgeft.canonical import digest_file, digest_json, walk_files
from edgeft.device.profile import Device
from edgeft.errors import RecipeError
from edgeft.ship.archive import is_archive, opened
from edgeft.ship.bundle import Bundle, has_bundle, open_bundle
from edgeft.ship.check.record import SideRow, shown
from edgeft.ship.postprocess import POSTPROCESS, read_thresholds
from edgeft.ship.verify import NOT_SHIPPED
from edgeft.targets.profile.differences import match_tensors, tell_tensors
from edgeft.targets.profile.model import Model, inspect_model, open_model, require_runtime
from edgeft.task import SelfSupervisedTask, Task, declared_inputs

Role = Literal["candidate", "baseline"]
LOGITS = "logits"
WHOLE = frozenset({"text", "file"})
"""Feeds beside those that preprocess.json declares: the raw case, for artefacts that hold their own preprocessing."""
PREPROCESSING = ("preprocess.json", "tokenizer.json")


@dataclass(frozen=True)
class Reading:
    """What turns raw cases into feeds and outputs into answers. folder: preprocess.json and what it names, and
    postprocess.json where there is one. said: whose it is."""

    task: Task
    folder: Path
    labels: tuple[str, ...]
    said: str

    @property
    def thresholds(self) -> dict[str, float]:
        """Label -> least probability at which it is the answer, as the bundle froze them."""
        return read_thresholds(self.folder)

    @property
    def digest(self) -> str:
        """Of everything that decides feeds and answers."""
        return digest_json([self.prepared, self._digests(POSTPROCESS)])

    @property
    def prepared(self) -> str:
        """Of everything that decides feeds, and what the outputs are of."""
        return digest_json([self.task.name, list(self.labels), self._digests(*PREPROCESSING)])

    def _digests(self, *names: str) -> list[str]:
        return [digest_file(self.folder / name) for name in names if (self.folder / name).is_file()]


@dataclass(frozen=True)
class Contender:
    """One side. bundle, reading: None for a bare model that nothing says how to feed. signer: id of the trusted key
    that signed the bundle; empty where none was named."""

    role: Role
    path: Path
    model: Model
    bundle: Bundle | None
    reading: Reading | None
    signer: str = ""

    @property
    def gated(self) -> str:
        """What the bundle says of its own gates."""
        if self.bundle is None:
            return ""
        status = str(self.bundle.manifest.get("status", "unknown"))
        rejected = (self.bundle.folder / NOT_SHIPPED).exists()
        return "rejected" if rejected and status == "passed" else status

    def row(self) -> SideRow:
        """For the record."""
        return SideRow(
            path=shown(self.path),
            form="bundle" if self.bundle else "model",
            runtime=self.model.runtime,
            bytes=self.model.bytes,
            sha256=content_digest(self.model),
            task=self.reading.task.name if self.reading else "",
            gated=self.gated,
            signer=self.signer,
            preprocessing=self.reading.said if self.reading else "",
        )


@contextmanager
def open_side(role: Role, path: Path) -> Iterator[Contender]:
    """A bundle (its files checked against its manifest), as a folder or an archive, or a model file. RecipeError or
    BundleError."""
    if not path.exists():
        raise RecipeError("there is no such file or folder", where=f"{role} {path}")
    with opened(path) if is_archive(path) else nullcontext(path) as root:
        bundle = open_bundle(root) if root.is_dir() and has_bundle(root) else None
        reading, place, runtime = None, root, None
        if bundle is not None:
            manifest = bundle.manifest
            place, runtime = bundle.folder / str(manifest["model"]), str(manifest["runtime"])
            task: Task = plugins.load("tasks", manifest["task"])()
            reading = Reading(task, bundle.folder, tuple(manifest["labels"]), "its own")
        with open_model(place, runtime) as model:
            yield Contender(role, path, replace(model, label=str(path)), bundle, reading)


def share_reading(sides: tuple[Contender, Contender], stated: Reading | None) -> tuple[Contender, Contender]:
    """Bare models take the recipe's preprocessing, else that of the bundle on the other side. RecipeError where the two
    sides do different things."""
    candidate, baseline = sides
    given = stated
    for side in (baseline, candidate):
        if given is None and side.reading is not None:
            given = replace(side.reading, said=f"that of the {side.role}'s bundle")
    found = tuple(side if side.reading else replace(side, reading=given) for side in sides)
    ours, theirs = found[0].reading, found[1].reading
    if ours is None or theirs is None:
        return candidate, baseline
    if ours.task.name != theirs.task.name:
        what = f"the candidate does {ours.task.name}, the baseline {theirs.task.name}"
        raise RecipeError(what, where="--baseline", hint="name a baseline of the same task")
    _require_same_labels(ours.labels, theirs.labels)
    if isinstance(ours.task, SelfSupervisedTask) and ours.prepared != theirs.prepared:
        what = "the sides have different tokenizers or lengths: what one is asked for is not what the other is"
        raise RecipeError(
            what, where="--baseline", hint="name a baseline with the same tokenizer.json and serve.length"
        )
    return found[0], found[1]


def label_order(candidate: Reading, baseline: Reading) -> list[int] | None:
    """Where each label of the baseline stands among the candidate's; None: at the same places."""
    if candidate.labels == baseline.labels:
        return None
    return [candidate.labels.index(label) for label in baseline.labels]


def are_identical(candidate: Contender, baseline: Contender) -> bool:
    """Whether nothing that is run or read differs: model bytes, runtime, preprocessing, thresholds, labels."""
    ours, theirs = (side.reading.digest if side.reading else "" for side in (candidate, baseline))
    return (
        candidate.model.runtime == baseline.model.runtime
        and content_digest(candidate.model) == content_digest(baseline.model)
        and ours == theirs
    )


def content_digest(model: Model) -> str:
    """SHA-256 of a model in one file, else of its files' digests; file names do not count."""
    folder = model.artifact.path.parent
    digests = sorted(digest_file(path) for name, path in walk_files(folder) if name != SIGNATURE)
    return digests[0] if len(digests) == 1 else digest_json(digests)


def read_signature_of(device: Device, side: Contender) -> tuple[Signature, str]:
    """(inputs and outputs by canonical names, a note where names were guessed). RecipeError, DeviceError."""
    require_runtime(device, side.model.runtime)
    if side.bundle is not None:
        manifest = side.bundle.manifest
        return Signature(_specs(manifest["inputs"]), _specs(manifest["outputs"])), ""
    own = inspect_model(device, side.model)
    if side.reading is None:
        return own, ""
    inputs, note = _named_inputs(own.inputs, side)
    return Signature(inputs, {LOGITS: _logits(own.outputs, side)}), note


def _named_inputs(own: Mapping[str, TensorSpec], side: Contender) -> tuple[dict[str, TensorSpec], str]:
    """A bare model's inputs under the names of the feeds: by name, else in order where kinds and ranks agree."""
    if side.reading is None:
        raise ValueError("without preprocessing there are no feeds to name")
    declared = {spec.name: spec for spec in declared_inputs(side.reading.folder)}
    if own.keys() <= declared.keys() | WHOLE:
        return dict(own), ""
    names = match_tensors(declared, own)
    if names is None:
        what = f"it takes {tell_tensors(own)}; the preprocessing makes {tell_tensors(declared)}"
        raise RecipeError(what, where=f"{side.role} {side.path}", hint="export it with the inputs that are made")
    pairs = ", ".join(f"{feed} to {name}" for name, feed in names.items())
    note = f"the {side.role}'s inputs have other names; the feeds are given in order: {pairs}"
    return {feed: own[name] for name, feed in names.items()}, note


def _logits(own: Mapping[str, TensorSpec], side: Contender) -> TensorSpec:
    """The output that is scored: `logits`, else the only one."""
    if LOGITS in own:
        return own[LOGITS]
    if len(own) == 1:
        return next(iter(own.values()))
    what = f"which of its outputs is scored is not known: {', '.join(own)}"
    raise RecipeError(what, where=f"{side.role} {side.path}", hint=f"call it '{LOGITS}'")


def _require_same_labels(ours: tuple[str, ...], theirs: tuple[str, ...]) -> None:
    if set(ours) == set(theirs) and len(ours) == len(theirs):
        return
    more, less = sorted(set(ours) - set(theirs)), sorted(set(theirs) - set(ours))
    alone = {"candidate": more, "baseline": less}
    parts = [f"only the {side} knows {_few(names)}" for side, names in alone.items() if names]
    hint = "a regression is a comparison of the same labels; what is new needs gates of its own: edgeft build"
    raise RecipeError(f"the labels differ: {'; '.join(parts) or 'one stands twice'}", where="--baseline", hint=hint)


def _few(labels: list[str]) -> str:
    return ", ".join(f"'{label}'" for label in labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")


def _specs(rows: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {name: TensorSpec(row["name"], row["dtype"], tuple(row["shape"])) for name, row in rows.items()}
