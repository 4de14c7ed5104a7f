"""The distilled recipe's student against its teacher and against the same student taught by the labels alone.

Accuracy on the whole search split, in torch float32; then the int8 artefacts of three and of six layers, interleaved.
Trains twice; cached after that.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench.build import Built, build

RECIPE, WHOLE = "edgeft:text/distilled", "edgeft:text/quickstart"
ALONE = """
name: alone
extends: edgeft:text/distilled
model: {{path: {folder}}}
steps:
  - finetune: {{method: full, max_steps: {max_steps}, batch_size: {batch_size}, group_by_length: true,
      learning_rate: {learning_rate}, eval_steps: {eval_steps}, metric: accuracy}}
"""
"""The student's own steps, rate and schedule, without a teacher."""
CANDIDATE = "onnx/int8-dynamic"


def main() -> None:
    """Print accuracies, the test between the two students, and the latency ratio."""
    built = build(RECIPE)
    with tempfile.TemporaryDirectory() as folder:
        alone = build_alone(built, Path(folder))
    from edgeft.evaluate.statistics import mcnemar_exact
    from edgeft.recipe.load import load_recipe

    base = Path(load_recipe(RECIPE).recipe.model.path or "")
    teacher = right(built, base, built.place("finetune"))
    taught, untaught = right(built, built.place("distill")), right(built, alone.place("finetune"))

    gained, lost = int((taught & ~untaught).sum()), int((untaught & ~taught).sum())
    print(
        f"search split, {len(teacher)} cases: teacher (6 layers) {teacher.mean():.2%}, student of 3 layers distilled "
        f"{taught.mean():.2%}, same student on labels alone {untaught.mean():.2%}; distilled is right where the other "
        f"is wrong in {gained} cases, the reverse in {lost} (exact McNemar p {mcnemar_exact(lost, gained):.3f})",
        flush=True,
    )
    print_latency(built)


def build_alone(built: Built, folder: Path) -> Built:
    """The distilled recipe's student from the same layers, fine-tuned for as many steps without a teacher."""
    from edgeft.recipe.load import load_recipe

    step: Any = load_recipe(RECIPE).recipe.steps[-1]
    student = folder / "student"
    save_student(built.place("merge"), step.student_layers, labels(built), student)
    text = ALONE.format(
        folder=student, **step.model_dump(include={"max_steps", "batch_size", "learning_rate", "eval_steps"})
    )
    (folder / "alone.yaml").write_text(text, encoding="utf-8")
    return build(str(folder / "alone.yaml"), "--to", "finetune")


def save_student(merged: Path, layers: int, names: tuple[str, ...], out: Path) -> None:
    """What `student_layers` trains, before it trains."""
    from edgeft.artifact import Artifact
    from edgeft.models.depth import keep_layers
    from edgeft.models.load import load_model
    from edgeft.models.save import save_model
    from edgeft.pipeline.noise import to_log

    given = Artifact("torch-model", merged, "", {"form": "transformers"})
    out.mkdir()
    with to_log(out.parent / "log.txt"):
        module = load_model(given, labels=names)
        keep_layers(module, layers, "bench")
        save_model(module, given, out)
    for path in merged.glob("*token*"):
        (out / path.name).write_bytes(path.read_bytes())


def labels(built: Built) -> tuple[str, ...]:
    """Their order."""
    return tuple(built.record["data"]["labels"])


def right(built: Built, model: Path, adapter: Path | None = None) -> Any:
    """(n,) bool of the search split: where a torch model, or a base with its adapter, is right."""
    from edgeft.artifact import Artifact
    from edgeft.models.load import load_model
    from edgeft.models.predict import predict_logits
    from edgeft.pipeline.noise import to_log

    whole = Artifact("torch-model", model, "", {"form": "transformers"})
    added = Artifact("peft-adapter", adapter, "") if adapter else None
    with tempfile.TemporaryDirectory() as folder, to_log(Path(folder) / "log.txt"):
        logits = predict_logits(load_model(whole, adapter=added, labels=labels(built)), built.feeds())
    return logits.argmax(axis=1) == built.rows().column("label").to_numpy()


def print_latency(built: Built) -> None:
    """int8 of the student against int8 of the six layers it comes from, on this machine."""
    from edgeft.device.profile import load_device
    from edgeft.targets.compare import compare_sides

    whole, device, feeds = build(WHOLE), load_device("local-cpu"), built.feeds(64)
    sides = (item.side("local-cpu", CANDIDATE, feeds) for item in (whole, built))
    found = compare_sides(device, *sides, seconds=20.0)
    low, high = found.interval
    bytes_ = [
        next(r["bytes"] for r in item.record["targets"][0]["candidates"] if r["name"] == CANDIDATE)
        for item in (whole, built)
    ]
    print(
        f"{CANDIDATE}: 3 layers {found.b_ms:.2f} ms and {bytes_[1] / 1e6:.1f} MB, 6 layers {found.a_ms:.2f} ms and "
        f"{bytes_[0] / 1e6:.1f} MB, {found.ratio:.2f} times faster (95% {low:.2f} to {high:.2f}, "
        f"{found.blocks} blocks, {found.how}){'; INVALID: ' + '; '.join(found.reasons) if found.reasons else ''}"
    )
