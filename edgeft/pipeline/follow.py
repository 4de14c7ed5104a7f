"""The other processes of a multi-GPU build: they train beside the first one and leave everything else to it.

`accelerate launch -m edgeft build recipe.yaml` (or torchrun) starts the same command once per GPU. The process of
rank 0 builds as always. The others wait until it has made what training needs, take their part in each fine-tuning
step, and end.
"""

from __future__ import annotations

import os
import time

from edgeft.errors import StepError
from edgeft.pipeline.build import Build
from edgeft.pipeline.execute import Executor
from edgeft.pipeline.noise import to_log
from edgeft.pipeline.spec import Spec

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 24 * 3600.0
"""The launcher ends all processes when one fails; this only bounds what a launcher that does not would leave behind."""


def rank() -> int:
    """This process's number in a multi-process run, as accelerate and torchrun announce it; 0 when alone."""
    value = os.environ.get("RANK", "0")
    alone = os.environ.get("WORLD_SIZE", "1") in ("", "0", "1")
    return int(value) if value.isdigit() and not alone else 0


def follow(build: Build) -> None:
    """Take part in every step that trains, then return: the rest of the build is rank 0's. Raises StepError."""
    specs = _until(build.plan.trunk.specs, build.options.to)
    last = max((index for index, spec in enumerate(specs) if trains(spec)), default=-1)
    for spec in specs[: last + 1]:
        _await(build.executor, spec, join=trains(spec))


def _until(specs: list[Spec], to: str | None) -> list[Spec]:
    """The trunk as far as rank 0 goes: it stops after the step that `--to` names."""
    ids = [spec.id for spec in specs]
    return specs[: ids.index(to) + 1] if to in ids else specs


def trains(spec: Spec) -> bool:
    """True for steps that all processes run together."""
    return spec.together


def _await(executor: Executor, spec: Spec, *, join: bool) -> None:
    """Keep the result of a step once rank 0 has committed it, after training along where that is asked for."""
    key, content = executor.address(spec)
    if join and executor.find(spec, key, content) is None:
        _train_along(executor, spec, key)
    until = time.monotonic() + PATIENCE_SECONDS
    while (found := executor.find(spec, key, content)) is None:
        if time.monotonic() > until:
            raise StepError(f"rank 0 has not finished {spec.id}", where=f"rank {rank()}", hint="see the log of rank 0")
        time.sleep(POLL_SECONDS)
    executor.keep(spec, executor.store.artifact(found))


def _train_along(executor: Executor, spec: Spec, key: str) -> None:
    scratch = executor.store.layout.scratch_of(key)
    scratch.mkdir(parents=True, exist_ok=True)
    with executor.store.workspace() as out, to_log(scratch / f"log.rank{rank()}.txt"):
        spec.run(executor.inputs_of(spec), out, executor.context(spec, scratch, []))
