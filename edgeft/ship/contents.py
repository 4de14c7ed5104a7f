"""What goes into a bundle besides the model and its preprocessing: one object in, files out; the manifest follows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edgeft import plugins
from edgeft.artifact import Artifact, Signature
from edgeft.canonical import canonical_json, walk_files
from edgeft.pipeline.build import Build
from edgeft.pipeline.golden.steps import INDEX, golden_id
from edgeft.pipeline.judging.gatekeeping import gates_for
from edgeft.pipeline.judging.scoring import frozen_thresholds
from edgeft.pipeline.judging.trial import Trial
from edgeft.record import RunRecord, TargetRow
from edgeft.ship import environment, evidence, licences, provenance
from edgeft.ship.bundle import copy_files
from edgeft.ship.integration import Integration, write_integration
from edgeft.ship.postprocess import postprocess_json
from edgeft.ship.reproduce import reproduce_json
from edgeft.ship.sbom import write_sbom
from edgeft.ship.scrub import Places, places_of, scrub, scrub_record
from edgeft.targets.preprocessing import reference_files

REFERENCE = "preprocess"
"""Folder of a medical bundle with the numpy files that made the pixels of training."""


@dataclass(frozen=True)
class Renderers:
    """The report floor's pure functions, handed down because this floor may not import that one."""

    html: Callable[[RunRecord], str]
    json: Callable[[RunRecord], bytes]
    card: Callable[[RunRecord, TargetRow, tuple[str, str]], str]


@dataclass(frozen=True)
class Contents:
    """All that a passed target's bundle is made from. record: as it is, with the builder's own paths."""

    build: Build
    record: RunRecord
    row: TargetRow
    trial: Trial
    artifact: Artifact
    prepared: Artifact
    render: Renderers

    @cached_property
    def signature(self) -> Signature:
        """The artefact's own names, dtypes and shapes."""
        return self.trial.candidate.exporter.signature(self.artifact)

    @cached_property
    def places(self) -> Places:
        """What of the builder's machine no file of the bundle may say."""
        return places_of(self.build.loaded, self.build.executor.store.root)

    @cached_property
    def salt(self) -> bytes:
        """Hides names; every row of the data set is read for it."""
        return provenance.split_salt(self.dataset)

    @cached_property
    def licence(self) -> tuple[str, str]:
        """The base model's licence, and where it is stated."""
        return licences.licence_of_model(self.build.plan.inputs.model.path)

    @property
    def dataset(self) -> Artifact:
        """The data set. ValueError where the data step has not run."""
        if self.build.executor.dataset is None:
            raise ValueError("the data step has not run")
        return self.build.executor.dataset

    @cached_property
    def needed(self) -> list[str]:
        """Distributions that a Python receiver must have: the runtime's, and what turns raw input into feeds."""
        runtime = plugins.load("runtimes", self.trial.candidate.exporter.runtime)
        names = [environment.normal(name) for name in runtime.DISTRIBUTIONS]
        taken = set(self.signature.inputs)
        if taken & {"text", "file"}:
            names.append("onnxruntime-extensions")
        elif "input_ids" in taken:
            names.append("tokenizers")
        return names

    @cached_property
    def versions(self) -> dict[str, str]:
        """Distribution -> version that the steps used; of the runtime, the one on the device that was gated."""
        found = environment.with_needs(environment.used_tools(self.build))
        device = {name: self.row.conditions[name] for name in self.needed if name in self.row.conditions}
        return dict(sorted({**found, **device}.items()))


def write_contents(folder: Path, contents: Contents) -> None:
    """Write the rest into `folder`, which holds the model, its preprocessing and the card; the manifest comes after."""
    record = scrub_record(contents.record, contents.places, contents.build.loaded.recipe)
    row = next(item for item in record.targets if item.device == contents.row.device)
    _write_use(folder, contents)
    _write_evidence(folder, contents, record, row)
    _write_origin(folder, contents)
    _write_parts(folder, contents)
    listed = [name for name, _ in walk_files(folder)]
    _json(folder / "reproduce.json", reproduce_json([*listed, "reproduce.json"]))


def _write_use(folder: Path, contents: Contents) -> None:
    """postprocess.json, golden/ and how to integrate."""
    executor, labels = contents.build.executor, contents.record.data.labels if contents.record.data else []
    gates = gates_for(contents.build.loaded.recipe.gates, contents.row.device)
    thresholds = frozen_thresholds(executor, gates)
    codes = {label: concept.stated for label, concept in contents.build.loaded.recipe.data.codes.items()}
    stated = postprocess_json(executor.task, labels, contents.signature, thresholds=thresholds, codes=codes)
    _json(folder / "postprocess.json", stated)
    golden = executor.done[golden_id(contents.trial.candidate)]
    copy_files(golden.path, folder / "golden")
    if files := _reference_files(json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))):
        for file in files:
            (folder / REFERENCE).mkdir(exist_ok=True)
            shutil.copyfile(file, folder / REFERENCE / file.name)
    write_integration(folder, _integration(contents, golden.path / INDEX))


def _reference_files(preprocess: Mapping[str, Any]) -> tuple[Path, ...]:
    """The numpy files that turn decoded values into feeds, and windows into answers; none where there are none."""
    found = reference_files() if "medical" in preprocess else ()
    if preprocess["kind"] != "volume":
        return found
    from edgeft.medical import sliding

    return (*found[1:], Path(str(sliding.__file__)))


def _integration(contents: Contents, index: Path) -> Integration:
    candidate = contents.trial.candidate
    return Integration(
        name=contents.record.name,
        device=contents.row.device,
        runtime=candidate.exporter.runtime,
        threads=candidate.device.threads,
        facts={name: contents.artifact.facts.get(name) for name in ("opset", "ir_version")},
        signature=contents.signature,
        needed={name: contents.versions.get(name, "") for name in contents.needed},
        index=index,
    )


def _write_evidence(folder: Path, contents: Contents, record: RunRecord, row: TargetRow) -> None:
    (folder / "report.html").write_text(contents.render.html(record), encoding="utf-8")
    _json(folder / "gates.json", evidence.gates_json(record, row))
    _json(folder / "latency.json", evidence.latency_json(row))
    cases = evidence.cases_csv(contents.build, contents.trial, contents.salt)
    if cases is not None:
        (folder / "cases.csv").write_bytes(cases.encode("utf-8", "surrogatepass"))


def _write_origin(folder: Path, contents: Contents) -> None:
    """Recipe, environment and data, without the builder's folders."""
    build, places, dataset = contents.build, contents.places, contents.dataset
    (folder / "recipe.resolved.yaml").write_text(scrub(build.loaded.resolved_yaml, places), encoding="utf-8")
    (folder / "environment.lock").write_text(environment.environment_lock(build), encoding="utf-8")
    _json(folder / "provenance.json", scrub(provenance.provenance_json(build, dataset), places))
    groups = provenance.groups_csv(dataset, contents.salt)
    (folder / provenance.GROUPS).write_bytes(groups.encode())


def _write_parts(folder: Path, contents: Contents) -> None:
    """Licences and the bill of materials."""
    build, record = contents.build, contents.record
    model = build.plan.inputs.model.path
    data = build.loaded.recipe.data.licence
    found = licences.gather(folder, record.model, model, data, contents.needed)
    about = {
        "name": record.name,
        "device": contents.row.device,
        "candidate": contents.trial.candidate.name,
        "digest": contents.artifact.digest,
        "task": record.task,
        "edgeft": record.edgeft,
    }
    shipped = [name for source in (contents.artifact, contents.prepared) for name, _ in walk_files(source.path)]
    write_sbom(folder, about, shipped, found, contents.needed, contents.versions)


def _json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_bytes(canonical_json(value, indent=1))
