"""Which model the gates compare with: the last fine-tuned one that nothing has made smaller yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipeline.conftest import Workbench

pytestmark = pytest.mark.ml
STEP = "  - finetune: {method: lora, epochs: 2, batch_size: 16, learning_rate: 0.01, eval_steps: 10, checkpoint_steps: 5}\n"
TUNE, AGAIN = "  - finetune: {method: lora}\n", "  - finetune: {method: full, id: again}\n"
PRUNE = "  - prune: {method: depth, drop: 1}\n"
DISTIL = "  - distill: {student_layers: 1}\n"


@pytest.mark.parametrize(
    ("steps", "source"),
    [
        (TUNE, {"base": "given", "adapter": "finetune"}),
        (TUNE + AGAIN, {"model": "again"}),
        (PRUNE + TUNE, {"base": "prune", "adapter": "finetune"}),
        (TUNE + PRUNE, {"base": "given", "adapter": "finetune"}),
        (TUNE + PRUNE + AGAIN, {"base": "given", "adapter": "finetune"}),
        (TUNE + DISTIL + AGAIN, {"base": "given", "adapter": "finetune"}),
    ],
    ids=["tuned", "tuned twice", "pruned, then tuned", "pruned", "healed by a finetune step", "distilled and tuned"],
)
def test_what_gates_compare_with(workbench: Callable[..., Workbench], steps: str, source: dict[str, str]) -> None:
    """A pruned model that is trained again may not be its own yardstick."""
    from edgeft.pipeline.given.inputs import resolve_inputs
    from edgeft.pipeline.steps.trunk import plan_trunk
    from edgeft.recipe.load import load_recipe
    from edgeft.store import Store

    bench = workbench(replace=[(STEP, steps)])
    loaded, store = load_recipe(str(Path(bench.folder) / "recipe.yaml")), Store(bench.store)
    found = plan_trunk(loaded, resolve_inputs(loaded, store, offline=True), store).source
    assert {role: ref if isinstance(ref, str) else "given" for role, ref in found.items()} == source
