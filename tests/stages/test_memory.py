"""Out of memory: the micro-batch shrinks, the gradient does not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeft.errors import StepError
from tests.stages.world import World, make_world

pytestmark = pytest.mark.ml

RELATIVE = 1e-5
"""float32 sums of a few thousand terms in another order: the relative error is about sqrt(n) * 6e-8, under 1e-5."""


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> World:
    """No dropout: halves draw other random numbers than the whole, so only without dropout can gradients be equal."""
    return make_world(tmp_path_factory.mktemp("memory"), dropout=0.0)


class Limited:
    """A trainer whose model runs out of memory above a number of rows, in its forward or backward pass."""

    def __init__(
        self, world: World, name: str, *, above: int | None = None, phase: str = "forward", accumulation: int = 1
    ) -> None:
        import torch

        from edgeft.stages.finetune import stage_for
        from edgeft.stages.finetune.data import read_examples
        from edgeft.stages.finetune.train import build_trainer, run_length

        options: dict[str, Any] = {
            "method": "full",
            "batch_size": 8,
            "accumulation": accumulation,
            "max_steps": 2,
            "clip": 0,
        }
        stage: Any = stage_for(options)(**options)
        ctx = world.context(name)
        self.module = stage.build(world.base, ctx, "cpu")
        self.failures, self.sizes = 0, []
        self.examples = read_examples(ctx, "train", self.module)
        root = ctx.scratch / "checkpoints"
        root.mkdir(parents=True)
        self.trainer = build_trainer(self.module, stage, ctx, "cpu", self.examples, run_length(stage, 96), root, {})
        if above is None:
            return

        def fail(rows: int) -> None:
            self.sizes.append(rows)
            if rows > above:
                self.failures += 1
                raise torch.OutOfMemoryError("injected")

        layer = self.module.bert.encoder.layer[0]
        if phase == "forward":
            layer.register_forward_pre_hook(lambda _, args: fail(len(args[0])))
        else:
            layer.register_full_backward_hook(lambda _, given, __: fail(len(given[0])))

    def gradients(self, batches: int = 1) -> dict[str, Any]:
        """Gradients of one optimiser step over `batches` micro-batches of 8 rows."""
        for index in range(batches):
            batch = self.examples.__getitems__(range(8 * index, 8 * index + 8))
            self.loss = self.trainer.training_step(self.module, batch, 8 * batches)
        return {
            name: parameter.grad for name, parameter in self.module.named_parameters() if parameter.grad is not None
        }


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    import torch

    assert ours.keys() == theirs.keys() and len(ours) > 30
    scale = max(float(tensor.abs().max()) for tensor in theirs.values())
    assert scale > 1e-3
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=RELATIVE, atol=RELATIVE * scale, msg=name)


@pytest.mark.parametrize("phase", ["forward", "backward"])
@pytest.mark.parametrize(("above", "limit"), [(4, 4), (1, 1), (2, 2)])
def test_gradient_is_equal(still: World, tmp_path: Path, phase: str, above: int, limit: int) -> None:
    whole = Limited(still, f"whole-{phase}-{above}")
    parts = Limited(still, f"parts-{phase}-{above}", above=above, phase=phase)
    assert_same(parts.gradients(), whole.gradients())
    assert float(parts.loss) == pytest.approx(float(whole.loss), rel=RELATIVE)
    assert parts.trainer.micro.limit == limit and parts.failures > 0


@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_gradient_is_equal_with_accumulation(still: World, phase: str) -> None:
    """The failed attempt comes when gradients of an earlier micro-batch are there already: they are kept, once."""
    whole = Limited(still, f"whole-acc-{phase}", accumulation=3)
    parts = Limited(still, f"parts-acc-{phase}", above=4, phase=phase, accumulation=3)
    whole_gradients = whole.gradients(3)
    parts.gradients(1)
    for parameter in parts.module.parameters():
        parameter.grad = None
    parts.trainer.micro.limit = None
    assert_same(parts.gradients(3), whole_gradients)


def test_the_smaller_size_is_remembered(still: World) -> None:
    parts = Limited(still, "remembered", above=4)
    parts.gradients()
    assert parts.failures == 1
    parts.gradients()
    assert parts.failures == 1
    assert parts.sizes == [8, 4, 4, 4, 4]


def test_a_single_row_that_does_not_fit_is_an_error_with_a_remedy(still: World) -> None:
    with pytest.raises(StepError, match="single example") as caught:
        Limited(still, "single", above=0).gradients()
    assert "qlora" in caught.value.hint


def test_no_splitting_under_data_parallelism(still: World) -> None:
    parts = Limited(still, "parallel", above=4)
    parts.trainer.micro.splittable = False
    with pytest.raises(StepError, match="data parallelism"):
        parts.gradients()


def test_other_errors_pass_through(still: World) -> None:
    broken = Limited(still, "broken")

    def fail(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    broken.module.bert.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        broken.gradients()


def test_accumulation_is_a_larger_batch(still: World) -> None:
    """4 micro-batches of 8 rows and 1 of 32 give the same weights up to rounding: the loss is scaled once."""
    import torch
    from safetensors.torch import load_file

    common = {
        "method": "full",
        "max_steps": 3,
        "learning_rate": 1e-3,
        "eval_steps": 3,
        "schedule": "constant",
        "warmup": 0.0,
    }
    small = still.run({**common, "batch_size": 8, "accumulation": 4}, "small")
    large = still.run({**common, "batch_size": 32}, "large")
    ours, theirs = (load_file(item.path / "model.safetensors") for item in (small, large))
    # AdamW divides by the gradient's own size: where that is near zero, rounding decides the sign of a step of 1e-3.
    moved = [float((ours[name] - theirs[name]).abs().mean()) for name in ours]
    assert max(moved) < 1e-4
    assert torch.equal(
        ours["bert.embeddings.token_type_embeddings.weight"][1],
        theirs["bert.embeddings.token_type_embeddings.weight"][1],
    )


def test_gradient_checkpointing_changes_nothing_but_memory(still: World) -> None:
    plain = still.run(
        {"method": "lora", "max_steps": 4, "batch_size": 8, "dropout": 0.0, "gradient_checkpointing": False}, "plain"
    )
    saved = still.run(
        {"method": "lora", "max_steps": 4, "batch_size": 8, "dropout": 0.0, "gradient_checkpointing": True}, "saved"
    )
    assert plain.digest == saved.digest
