"""Rows to answers: which cases a step sees, the source model's logits, and outputs on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft import plugins
from edgeft.artifact import Artifact, Signature
from edgeft.canonical import Facts
from edgeft.device.profile import Device
from edgeft.device.protocol import ArtefactRefused, OnProgress
from edgeft.errors import StepError
from edgeft.exporter import Unsupported
from edgeft.pipeline.steps.windowed import volumes_here, volumes_on_device
from edgeft.stage import Context
from edgeft.targets.search.asking import spaced
from edgeft.task import WindowedTask, case_rows, cases_per_chunk, keep_answers

SOURCE_DEVICE = "local-cpu"
"""Where a source that is an ONNX file runs: this machine's CPU, by the same worker as any candidate."""


def logits_of(
    model: Artifact, adapter: Artifact | None, ctx: Context, whose: str = "the model", cases: int | None = None
) -> Callable[[Mapping[str, Any]], Any]:
    """Canonical feeds -> logits (n, classes) float32 of a torch model, with or without adapter, or of an ONNX file.

    Where a torch model's are not finite, the function raises StepError with the layer. whose: the model in words.
    cases: of all calls together, which progress is told of; default: each call for itself.
    """
    before = 0

    def tell(done: float, total: float) -> None:
        ctx.progress(done if cases is None else before + done, cases or total, "case")

    if model.kind == "onnx":

        def ask(feeds: Mapping[str, Any]) -> Any:
            nonlocal before
            logits = _answers_of_onnx(model, feeds, tell)
            before += len(logits)
            return logits

        return ask
    from edgeft.models.broken_layer import refuse_broken_logits
    from edgeft.models.load import load_source
    from edgeft.models.predict import predict_logits
    from edgeft.models.served import plain_module

    prepared = prepared_of(ctx)
    module = plain_module(load_source(model, adapter, ctx), prepared)

    def plain(part: Mapping[str, Any]) -> Mapping[str, Any]:
        return ctx.task.plain(part, prepared)

    def answer(feeds: Mapping[str, Any]) -> Any:
        nonlocal before
        logits = predict_logits(module, feeds, batch_size=32, plain=plain, progress=tell)
        before += len(logits)
        refuse_broken_logits(module, feeds, logits, plain, whose, f"step {ctx.step}")
        return logits

    return answer


def artefact_outputs(
    device: Device, runtime: str, artifact: Artifact, signature: Signature, rows: Any, ctx: Context, *,
    batch: int, every: bool = False, check: Callable[[Mapping[str, Any]], None] = lambda outputs: None,
) -> dict[str, Any]:  # fmt: skip
    """What the task keeps of an artefact's answers to all rows, run on its device.

    every: windows that may be skipped are run, too. check: raises for outputs that are of no use.
    """
    from edgeft.targets.measure import run_outputs

    if isinstance(ctx.task, WindowedTask):
        found = volumes_on_device(
            device, runtime, artifact, signature, rows, ctx.task, prepared_of(ctx), batch,
            lambda done, total: ctx.progress(done, total, "volume"), every=every,
        )  # fmt: skip
        check(found)
        return dict(ctx.task.keep(found)) if found else {}

    def answer(feeds: Mapping[str, Any], before: int) -> Mapping[str, Any]:
        outputs = run_outputs(
            device, runtime, artifact, signature, feeds, batch=batch,
            on_progress=lambda done, _: ctx.progress(before + done, rows.num_rows, "case"),
        )  # fmt: skip
        check(outputs)
        return outputs

    return answer_in_chunks(answer, rows, ctx)


def sample_feeds(ctx: Context, split: str, cases: int) -> dict[str, Any]:
    """Feeds of at most `cases` rows of a split, evenly spaced; of their windows where the network sees those."""
    rows = case_rows(ctx.task, read_cases(ctx, split, cases), prepared_of(ctx))
    return dict(ctx.task.feeds(thin(rows, cases), prepared_of(ctx)))


def _answers_of_onnx(model: Artifact, feeds: Mapping[str, Any], on_progress: OnProgress) -> Any:
    """Logits of the user's own ONNX file."""
    from edgeft.targets.measure import run_outputs

    with _own_file(model) as (device, exporter):
        signature = exporter.signature(model)
        outputs = run_outputs(device, exporter.runtime, model, signature, feeds, batch=1, on_progress=on_progress)
    return outputs["logits"]


@contextmanager
def _own_file(model: Artifact) -> Iterator[tuple[Device, Any]]:
    """What runs the user's own ONNX file. There is no other candidate to fall back on: StepError with its path."""
    from edgeft.device.profile import load_device

    exporter = plugins.load("exporters", "onnx")()
    try:
        yield load_device(SOURCE_DEVICE), exporter
    except Unsupported as error:
        raise StepError(error.reason, where=str(model.path), hint="export the model again, or copy it whole") from error
    except (ArtefactRefused, StepError) as error:
        hint = error.hint or f"it must run in the {exporter.runtime} that `edgeft doctor` names; export it for that one"
        raise StepError(error.what, where=error.where or str(model.path), hint=hint, excerpt=error.excerpt) from error


def source_outputs(inputs: Mapping[str, Artifact], rows: Any, ctx: Context) -> dict[str, Any]:
    """What is kept of the answers of the unmerged fine-tuned model, or of the given float model or ONNX file."""
    model = inputs.get("model") or inputs["base"]
    if model.kind == "onnx" and isinstance(ctx.task, WindowedTask):
        with _own_file(model) as (device, exporter):
            return artefact_outputs(
                device, exporter.runtime, model, exporter.signature(model), rows, ctx, batch=1, every=True
            )
    cases = None if isinstance(ctx.task, WindowedTask) else rows.num_rows
    logits = logits_of(model, inputs.get("adapter"), ctx, "the source model", cases)
    if isinstance(ctx.task, WindowedTask):
        found = volumes_here(
            logits, rows, ctx.task, prepared_of(ctx), lambda done, total: ctx.progress(done, total, "volume")
        )
        return dict(ctx.task.keep(found))
    return answer_in_chunks(lambda feeds, _: {"logits": logits(feeds)}, rows, ctx)


def answer_in_chunks(
    answer: Callable[[Mapping[str, Any], int], Mapping[str, Any]], rows: Any, ctx: Context
) -> dict[str, Any]:
    """What the task keeps of all rows' outputs; no more than a chunk of feeds and their outputs are in memory.

    answer: (feeds of a chunk, rows before it) -> its outputs.
    """
    import numpy as np

    size = cases_per_chunk(prepared_of(ctx))
    parts = []
    for start in range(0, rows.num_rows, size):
        feeds = ctx.task.feeds(rows.slice(start, size), prepared_of(ctx))
        parts.append(keep_answers(ctx.task, answer(feeds, start), feeds))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def prepared_of(ctx: Context) -> Path:
    """The preprocessing folder; StepError in a step that runs before it exists."""
    if ctx.prepared is None:
        raise StepError("the preprocessing is not there yet", where=f"step {ctx.step}")
    return ctx.prepared


def thin_index(total: int, cases: int | None) -> list[int] | None:
    """Which of `total` rows are taken when at most `cases` are wanted, evenly spaced; None: all of them."""
    return None if cases is None or total <= cases else spaced(total, cases)


@dataclass(frozen=True)
class KnownAnswers:
    """Answers of an earlier, shorter run. rows: place among the wanted rows -> its row in `arrays`; missing: the places
    that have no answer yet."""

    rows: Mapping[int, int]
    missing: Sequence[int]
    arrays: Mapping[str, Any]

    def join(self, fresh: Mapping[str, Any]) -> dict[str, Any]:
        """Both, in the order of the wanted rows. fresh: answers to the missing ones, in their order."""
        import numpy as np

        order = np.argsort([*self.rows, *self.missing], kind="stable")
        taken = list(self.rows.values())
        return {
            name: np.concatenate([array[taken], *([fresh[name]] if name in fresh else [])])[order]
            for name, array in self.arrays.items()
        }

    def complete(self, rows: Any, answer: Callable[[Any], Mapping[str, Any]]) -> dict[str, Any]:
        """Answers to all of rows, of which `answer` is asked for the missing ones alone, and not at all for none."""
        return self.join(answer(rows.take(self.missing)) if self.missing else {})


def known_answers(outputs: Artifact, total: int, wanted: int | None) -> KnownAnswers:
    """What the outputs, of cases evenly spaced in `total` rows, already answer of `wanted` such cases; None: of all."""
    from edgeft.pipeline.steps.arrays import load_arrays

    have = {row: index for index, row in enumerate(spaced(total, int(outputs.facts["n"])))}
    places = thin_index(total, wanted) or range(total)
    rows = {place: have[row] for place, row in enumerate(places) if row in have}
    missing = [place for place in range(len(places)) if place not in rows]
    return KnownAnswers(rows, missing, load_arrays(outputs.path / "outputs.npz"))


def thin(rows: Any, cases: int | None) -> Any:
    """At most `cases` rows, evenly spaced, the same ones every time."""
    index = thin_index(rows.num_rows, cases)
    return rows if index is None else rows.take(index)


def read_cases(ctx: Context, split: str, cases: int | None) -> Any:
    """Rows of a split this step declared, thinned to `cases`. StepError where the data has no such split."""
    from edgeft.data.table import read_split

    if split not in ctx.splits:
        raise StepError(f"the {split} split is empty", where=f"step {ctx.step}", hint=f"raise data.fractions.{split}")
    return thin(read_split(ctx.splits[split].path), cases)


def refuse_broken(outputs: Mapping[str, Any]) -> None:
    """ArtefactRefused where an answer is not a finite number: such a candidate is out, the others go on."""
    import numpy as np

    for name, array in outputs.items():
        broken = int((~np.isfinite(array)).reshape(len(array), -1).any(axis=1).sum())
        if broken:
            raise ArtefactRefused(f"{name} of {broken} of {len(array)} cases are NaN or infinite")


def write_outputs(outputs: Mapping[str, Any], rows: Any, out: Path, ctx: Context) -> Facts:
    """outputs.npz as canonical bytes, and the scores as facts."""
    from edgeft.pipeline.steps.arrays import save_arrays

    save_arrays(out / "outputs.npz", outputs)
    score = ctx.task.score(outputs, rows, ctx.labels)
    return {"metrics": dict(score.metrics), "n": rows.num_rows}
