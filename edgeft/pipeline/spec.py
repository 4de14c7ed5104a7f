"""A step before it runs: what it needs, what enters its key, and the function that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgeft.artifact import Artifact, Kind
from edgeft.canonical import Facts
from edgeft.pipeline.host import measuring_host, numeric_host, tool_version
from edgeft.stage import Context

Run = Callable[[Mapping[str, Artifact], Path, Context], Facts]
Host = Literal["any", "numeric", "measuring"]
Ref = str | Artifact
"""An earlier step's id, or an artefact that exists."""
FEED_TOOLS = ("tokenizers",)
"""Distributions that turn rows into feeds: another version may make other feeds of the same frozen files."""


@dataclass(frozen=True)
class Spec:
    """One store step.

    id: its address in this recipe (`finetune`, `local-cpu/onnx/int8-dynamic`); not part of the key, so that equal work
    under another name is found. needs: role -> id of an earlier step. given: role -> artefact that exists already.
    config: JSON with every default filled in. reads: splits whose digests enter the key and which alone it may open.
    host: `numeric` adds the instruction set to the key, `measuring` the machine itself. measures: times something, so
    that `--remeasure` runs it again.
    """

    id: str
    title: str
    name: str
    version: int
    makes: Kind
    run: Run
    config: Mapping[str, Any] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, Artifact] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    """Columns of these splits that it reads besides the task's own; their content enters the key, too."""
    tools: tuple[str, ...] = ()
    host: Host = "any"
    measures: bool = False
    seed: int | None = None
    estimate: Callable[[Mapping[str, int], int], Mapping[str, Any]] | None = None
    together: bool = False
    """All processes of a multi-GPU launch run it at once."""
    sources: tuple[str, ...] = ()
    """Local paths or hub names it will read or download: what `plan` says about downloads."""


def material(spec: Spec, inputs: Mapping[str, Artifact], dataset: Facts | None) -> dict[str, Any]:
    """Everything the result depends on, as JSON; the key is its digest.

    Raises KeyError when a split the step reads is not in the dataset: the planner checks that before.
    """
    host: dict[str, object] = {}
    if spec.host == "numeric":
        host = numeric_host()
    elif spec.host == "measuring":
        host = measuring_host()
    content: dict[str, Any] = {
        "step": spec.name,
        "version": spec.version,
        "config": dict(spec.config),
        "inputs": {role: artifact.digest for role, artifact in sorted(inputs.items())},
        "tools": {tool: tool_version(tool) for tool in spec.tools},
    }
    if spec.reads:
        facts = dataset or {}
        content["splits"] = {name: facts["splits"][name]["digest"] for name in spec.reads if name in facts["splits"]}
        content["labels"] = list(facts["labels"])
        if spec.columns:
            content["columns"] = {
                name: {column: facts["splits"][name]["columns"][column] for column in spec.columns}
                for name in content["splits"]
            }
    if spec.seed is not None:
        content["seed"] = spec.seed
    if host:
        content["host"] = host
    return content


def split_refs(refs: Mapping[str, Ref]) -> tuple[dict[str, str], dict[str, Artifact]]:
    """Refs as (needs, given) of a Spec."""
    needs = {role: ref for role, ref in refs.items() if isinstance(ref, str)}
    given = {role: ref for role, ref in refs.items() if isinstance(ref, Artifact)}
    return needs, given
