"""What is left to try where no candidate can pass: the next rung, from what costs nothing to what needs training."""

from __future__ import annotations

from edgeft.metric_names import LATENCY_METRICS, RESOURCE_METRICS
from edgeft.recipe.schema import Recipe, Target

SMALLER = ("prune", "distill")
AGAIN = "next: the same with --remeasure while the device does nothing else"


def next_rung(recipe: Recipe, target: Target, missed: str) -> str:
    """A sentence on the next thing to try, empty where the recipe tries all edgeft has or nothing was missed.

    missed: metric of the gate that the nearest candidate misses. Quality: a search, which costs no training, then
    quantisation-aware fine-tuning. Latency or size: a smaller network.
    """
    trains = recipe.model.onnx is None
    names = {stage.name for stage in recipe.steps}
    if not missed:
        return ""
    if missed not in RESOURCE_METRICS:
        if not target.searches:
            return "next: `search: {}` under this target, which tries more forms and leaves layers in float"
        if trains and not any(getattr(stage, "method", "") == "qat" for stage in recipe.steps):
            return "next: a last step `finetune: {id: rounded, method: qat}`, which trains under the rounding"
        return ""
    if trains and not names & set(SMALLER):
        other = "prune" if missed in LATENCY_METRICS else "distill"
        budget = ", to a latency with target_latency_ms" if other == "prune" else ""
        return f"next: a smaller network by a step `{other}`{budget}; docs/compress.md has both ways"
    return ""
