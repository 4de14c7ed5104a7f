"""Released bundles that gates compare with: opened in the first second, run over the gate set on this machine's CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from edgeft import plugins
from edgeft.artifact import Artifact, Signature, TensorSpec
from edgeft.canonical import Facts, digest_file
from edgeft.errors import EdgeftError
from edgeft.gate import Gate, short_name
from edgeft.pipeline.checks.preflight import runtime_imports
from edgeft.pipeline.spec import FEED_TOOLS, Spec
from edgeft.pipeline.steps.answers import SOURCE_DEVICE, artefact_outputs, read_cases, write_outputs
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.tree import RecipePath
from edgeft.stage import Context
from edgeft.task import SelfSupervisedTask, Task, declared_inputs

PASSED = "passed"
EMBEDDED = frozenset({"text", "file"})
"""Feeds that an artefact with its own preprocessing takes besides those that preprocess.json declares."""


class Opened(Protocol):
    """A bundle whose files were checked against its manifest."""

    @property
    def folder(self) -> Path: ...
    @property
    def manifest(self) -> dict[str, Any]: ...


OpenBundle = Callable[[Path], Opened]
"""How a bundle is opened: the floor above knows its format and hands this down."""


@dataclass(frozen=True)
class Released:
    """A bundle that may be compared with. at: the place in the recipe that names it. digest: of its manifest, which
    holds the hash of every file."""

    at: RecipePath
    folder: Path
    manifest: Mapping[str, Any]
    digest: str

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of its outputs."""
        return tuple(self.manifest["labels"])


def open_released(loaded: LoadedRecipe, opener: OpenBundle | None, labels: Sequence[str] | None) -> dict[str, Released]:
    """Path as gates name it -> the bundle. labels: as far as they are known before the data are read.

    RecipeError at the gate for a bundle that is none, was refused by its own gates or answers another question.
    """
    found: dict[str, Released] = {}
    for index, gate in enumerate(loaded.recipe.gates):
        if gate.released is None or gate.released in found:
            continue
        at = ("gates", index, "no_worse_than")
        if opener is None:
            raise loaded.error(at, "released bundles cannot be opened here", "build with the `edgeft build` command")
        try:
            opened = opener(Path(gate.released))
        except EdgeftError as error:
            raise loaded.error(at, error.what, error.hint) from error
        released = Released(at, opened.folder, opened.manifest, digest_file(opened.folder / "manifest.json"))
        _check(loaded, released)
        check_labels(loaded, released, loaded.recipe.data.labels or labels)
        found[gate.released] = released
    return found


def check_labels(loaded: LoadedRecipe, released: Released, labels: Sequence[str] | None) -> None:
    """RecipeError where the bundle answers with other labels, or with the same in another order."""
    if labels is None or tuple(labels) == released.labels:
        return
    theirs, ours = (", ".join(names[:8]) for names in (released.labels, tuple(labels)))
    hint = (
        "give data.labels in its order" if set(labels) == set(released.labels) else "name a bundle of the same labels"
    )
    raise loaded.error(released.at, f"its labels are {theirs}; this recipe's are {ours}", hint)


def check_all_labels(loaded: LoadedRecipe, released: Mapping[str, Released], labels: Sequence[str]) -> None:
    """`check_labels` of every bundle, once the data have said their labels."""
    for bundle in released.values():
        check_labels(loaded, bundle, labels)


def check_all_tokens(
    loaded: LoadedRecipe, released: Mapping[str, Released], task: Task, prepared: Path
) -> None:  # fmt: skip
    """RecipeError where a task's truth lies in its feeds, and a bundle's preprocessing makes others."""
    for bundle in released.values() if isinstance(task, SelfSupervisedTask) else ():
        for name in ("tokenizer.json", "preprocess.json"):
            if digest_file(bundle.folder / name) != digest_file(prepared / name):
                what = f"its {name} is not this build's: what it is asked for is not what this model is"
                raise loaded.error(bundle.at, what, "name a bundle with the same tokenizer and serve.length")


def _check(loaded: LoadedRecipe, released: Released) -> None:
    manifest, task = released.manifest, loaded.recipe.model.task
    if manifest.get("status") != PASSED:
        what = f"that bundle did not pass its gates ({manifest.get('status', 'unknown')})"
        raise loaded.error(released.at, what, "name one from targets/ of a build that passed")
    if manifest["task"] != task:
        raise loaded.error(released.at, f"that bundle does {manifest['task']}, this recipe {task}", "name another one")
    missing = [name for name in runtime_imports(str(manifest["runtime"])) if find_spec(name) is None]
    if missing:
        what = f"{missing[0]}, which that bundle's {manifest['runtime']} needs, is not installed on this machine"
        raise loaded.error(released.at, what, "`edgeft doctor` says how to install it")
    try:
        fed = {spec.name for spec in declared_inputs(released.folder)} | EMBEDDED
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise loaded.error(released.at, "its preprocess.json cannot be read", "copy the bundle again, whole") from error
    if unfed := sorted(set(manifest["inputs"]) - fed):
        what = f"its input '{unfed[0]}' is none that its preprocessing makes"
        raise loaded.error(released.at, what, "name a bundle that edgeft built")


def released_spec(loaded: LoadedRecipe, released: Released, split: str) -> Spec:
    """Its answers on the gate or the search set, with its own preprocessing: what was shipped, as a whole."""
    recipe, runtime = loaded.recipe, str(released.manifest["runtime"])
    cases = recipe.measure.search_cases if split == "search" else None

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        from edgeft.device.profile import load_device
        from edgeft.targets.profile.model import open_model

        rows, own = read_cases(ctx, split, cases), replace(ctx, prepared=released.folder)
        signature, device = _signature(released.manifest), load_device(SOURCE_DEVICE)
        with open_model(released.folder / str(released.manifest["model"]), runtime) as model:
            outputs = artefact_outputs(device, runtime, model.artifact, signature, rows, own, batch=recipe.serve.batch)
            return write_outputs(outputs, rows, out, own)

    return Spec(
        id=released_id(released, split),
        title=f"Answers of the released {short_name(str(released.folder))} on the {split} set",
        name="released",
        version=1,
        makes="outputs",
        run=run,
        config={"batch": recipe.serve.batch, "task": recipe.model.task, **({"cases": cases} if cases else {})},
        given={"bundle": Artifact("prepared", released.folder, released.digest)},
        reads=(split,),
        tools=(*FEED_TOOLS, *plugins.load("runtimes", runtime).DISTRIBUTIONS),
        host="numeric",
    )


def released_id(released: Released, split: str) -> str:
    """Address of its step: two bundles of one name differ in their digests."""
    return f"released/{short_name(str(released.folder))}-{released.digest[:8]}/{split}"


def baseline_id(gate: Gate, released: Mapping[str, Released], split: str) -> str:
    """The step that answered for what the gate compares with."""
    return released_id(released[gate.released], split) if gate.released else f"source/{split}"


def _signature(manifest: Mapping[str, Any]) -> Signature:
    def specs(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, TensorSpec]:
        return {
            name: TensorSpec(str(row["name"]), str(row["dtype"]), tuple(row["shape"])) for name, row in rows.items()
        }

    return Signature(specs(manifest["inputs"]), specs(manifest["outputs"]))
