"""Perform steps through the store: cached, or run in a locked scratch folder and committed; no failure is cached."""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgeft.artifact import Artifact
from edgeft.canonical import Facts
from edgeft.errors import EdgeftError, StepError, StoreError
from edgeft.exporter import Unsupported
from edgeft.pipeline import interrupt
from edgeft.pipeline.noise import to_log
from edgeft.pipeline.progress import Events
from edgeft.pipeline.spec import Spec, material
from edgeft.record import StepRow
from edgeft.stage import Context, Progress, Split
from edgeft.store import CorruptObject, StepResult, Store, explain_change, step_key
from edgeft.task import Score, Task

EVIDENCE = ("outputs", "record")
"""Kinds of what a step found out on this machine, as against what it made."""
_DISK_FULL = frozenset(code for name in ("ENOSPC", "EDQUOT") if (code := getattr(errno, name, None)) is not None)


@dataclass
class Executor:
    """Runs the specs of one build. `done` holds what each id gave; `rows` is the report's step table.

    pins: step id -> key of an imported result (`--from`), accepted when only tools or host differ. Evidence (answers,
    parity, latency) is never accepted: it is of the machine it was taken on, and this build's verdicts are of this one.
    current: the step being looked for or run; empty between steps.
    remeasure: run measuring steps even when a record exists.
    """

    store: Store
    recipe: str
    seed: int
    task: Task
    events: Events
    threads: int
    offline: bool = False
    remeasure: bool = False
    pins: Mapping[str, str] = field(default_factory=dict)
    done: dict[str, Artifact] = field(default_factory=dict)
    rows: dict[str, StepRow] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    scored: dict[tuple[Any, ...], Score] = field(default_factory=dict)
    """What candidates are compared with, scored once and not for each of them; see judging/scoring.py."""
    dataset: Artifact | None = None
    prepared: Artifact | None = None
    current: str = ""

    def perform(self, spec: Spec) -> Artifact:
        """The spec's artefact, from the store or freshly made. Raises EdgeftError; nothing partial is kept."""
        interrupt.check()
        self.current = spec.id
        inputs = self.inputs_of(spec)
        key, content = self.address(spec)
        self.keys[spec.id] = key
        found = self.find(spec, key, content)
        if found is None:
            with self.store.claim(key, on_wait=lambda text: self.events.note(spec.id, text)) as claim:
                found = self.find(spec, key, content)
                if found is None:
                    return self._run(spec, inputs, key, content, claim.scratch)
        self.keys[spec.id] = found.key
        self.store.remember_latest(self.recipe, spec.id, found.key, content)
        self.rows[spec.id] = StepRow(
            id=spec.id,
            title=spec.title,
            state="cached",
            seconds=found.seconds,
            key=found.key,
            digest=found.digest,
            bytes=found.bytes,
            warnings=list(found.warnings),
        )
        self.events.cached(spec.id, spec.title)
        return self.keep(spec, self.store.artifact(found))

    def inputs_of(self, spec: Spec) -> dict[str, Artifact]:
        """Role -> artefact; every needed step must be done already."""
        return {**spec.given, **{role: self.done[name] for role, name in spec.needs.items()}}

    def address(self, spec: Spec) -> tuple[str, dict[str, Any]]:
        """(key, what the key is the digest of) of a step whose needs are done."""
        content = material(spec, self.inputs_of(spec), self.dataset.facts if self.dataset else None)
        return step_key(content), content

    def find(self, spec: Spec, key: str, content: Mapping[str, Any]) -> StepResult | None:
        """A finished result that may stand for this step; a damaged one is told of, set aside and does not count."""
        if self.remeasure and spec.measures:
            return None
        try:
            found = self.store.find(key)
            if found is None and spec.id in self.pins and spec.makes not in EVIDENCE:
                found = self._pinned(self.pins[spec.id], content)
        except CorruptObject as error:
            self.events.warn(spec.id, f"{error.what}; it is set aside and the step runs again")
            self.store.discard(key)
            return None
        return found

    def _pinned(self, key: str, content: Mapping[str, Any]) -> StepResult | None:
        """An imported result stands when it differs only in what another machine must differ in."""
        found = self.store.find(key)
        if found is None:
            return None
        free = ("tools", "host")
        same = {k: v for k, v in found.material.items() if k not in free} == {
            k: v for k, v in content.items() if k not in free
        }
        return found if same else None

    def _run(
        self, spec: Spec, inputs: Mapping[str, Artifact], key: str, content: Mapping[str, Any], scratch: Path
    ) -> Artifact:
        why = explain_change(self.store.latest(self.recipe, spec.id), content)
        self.events.started(spec.id, spec.title, why)
        warnings: list[str] = []
        context = self.context(spec, scratch, warnings)
        started = time.monotonic()
        row = StepRow(id=spec.id, title=spec.title, state="failed", why=why, key=key)
        self.rows[spec.id] = row
        try:
            with self.store.workspace() as out:
                facts = self._call(spec, inputs, out, context)
                seconds = time.monotonic() - started
                result = self.store.commit(key, content, spec.makes, out, facts, seconds, tuple(warnings))
        finally:
            row.seconds, row.warnings = time.monotonic() - started, warnings
        self.store.remember_latest(self.recipe, spec.id, key, content)
        self.store.finish_scratch(key)
        row.state, row.digest, row.bytes, row.seconds = "ran", result.digest, result.bytes, result.seconds
        self.events.finished(spec.id, spec.title, row.seconds)
        return self.keep(spec, self.store.artifact(result))

    def _call(self, spec: Spec, inputs: Mapping[str, Artifact], out: Path, context: Context) -> Facts:
        log = context.scratch / "log.txt"
        try:
            with to_log(log):
                try:
                    return spec.run(inputs, out, context)
                except (EdgeftError, KeyboardInterrupt, Unsupported):
                    raise
                except BaseException:
                    traceback.print_exc()
                    raise
        except (EdgeftError, KeyboardInterrupt, Unsupported):
            raise
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise StoreError(
                    f"disk full while this step wrote {error.filename or 'its files'}",
                    where=f"step {spec.id}",
                    hint="make room with `edgeft gc --keep 20GB`, or move the store: EDGEFT_STORE=/larger/disk",
                ) from error
            raise self._unexpected(spec, error, log) from error
        except (Exception, SystemExit) as error:  # a user's sys.exit(0) must not end a build as if it had passed
            raise self._unexpected(spec, error, log) from error

    def _unexpected(self, spec: Spec, error: BaseException, log: Path) -> StepError:
        text = next((line for line in str(error).splitlines() if line.strip()), "no message")
        return StepError(
            f"{type(error).__name__}: {text[:300]}", where=f"step {spec.id}", hint=f"the whole story is in {log}"
        )

    def context(self, spec: Spec, scratch: Path, warnings: list[str]) -> Context:
        """What the step may use; its warnings are added to the list."""
        facts: Facts = self.dataset.facts if self.dataset else {}
        splits = {}
        if self.dataset:
            for name in spec.reads:
                if name in facts["splits"]:
                    about = facts["splits"][name]
                    splits[name] = Split(name, self.dataset.path / f"{name}.parquet", about["n"], about["digest"])

        def warn(text: str) -> None:
            warnings.append(text)
            self.events.warn(spec.id, text)

        return Context(
            step=spec.id,
            seed=self.seed,
            scratch=scratch,
            task=self.task,
            labels=tuple(facts.get("labels", ())),
            splits=splits,
            prepared=self.prepared.path if self.prepared else None,
            threads=self.threads,
            offline=self.offline,
            on_progress=self._progress,
            on_warning=warn,
        )

    def _progress(self, event: Progress) -> None:
        interrupt.check()
        self.events.progress(event)

    def leave_out(self, why: str, state: Literal["skipped", "failed"] = "skipped") -> None:
        """The current step belongs to a candidate that is out; the build goes on without it."""
        row = self.rows.get(self.current)
        if row is not None:
            row.state, row.why = state, why
            self.events.note(self.current, why)
        self.current = ""

    def keep(self, spec: Spec, artifact: Artifact) -> Artifact:
        """Remember what a step gave; later steps find data and preprocessing there."""
        self.done[spec.id] = artifact
        self.current = ""
        if spec.id == "data":
            self.dataset = artifact
        elif spec.id == "prepare":
            self.prepared = artifact
        return artifact
