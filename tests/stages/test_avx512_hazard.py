"""bitsandbytes repacks 4-bit weights in eval mode on AVX512-BF16 CPUs; these tests fail if that is let happen."""

from __future__ import annotations

import pytest

from tests.stages.world import LABELS, World, make_world

pytestmark = pytest.mark.ml


@pytest.fixture(autouse=True)
def _needs_the_flag() -> None:
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("this CPU has no AVX512-BF16, so bitsandbytes never repacks here")


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> World:
    """No dropout: evaluation draws from the random generator, and may change nothing else."""
    return make_world(tmp_path_factory.mktemp("still"), hidden=64, dropout=0.0)


def test_evaluation_does_not_touch_the_weights(still: World) -> None:
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    from edgeft.models.load import load_model

    module = load_model(still.base, labels=LABELS, quantise="nf4", compute_dtype="bfloat16", new_head=True)
    layers = [child for child in module.modules() if isinstance(child, Linear4bit)]
    assert len(layers) == 12
    before = [dequantize_4bit(layer.weight.data, layer.weight.quant_state).clone() for layer in layers]
    with torch.no_grad():
        module(input_ids=torch.ones(2, 8, dtype=torch.int64))
    after = [dequantize_4bit(layer.weight.data, layer.weight.quant_state) for layer in layers]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_training_with_evaluation_is_training_without(still: World) -> None:
    """Same steps, same data, no dropout: evaluating every step or only at the end gives the same last adapter."""
    options = {
        "method": "qlora", "max_steps": 12, "batch_size": 8, "learning_rate": 5e-3, "dropout": 0.0,
        "compute_dtype": "bfloat16", "checkpoint_steps": 100,
    }  # fmt: skip
    weights = []
    for name, every in (("often", 1), ("seldom", 12)):
        still.run(options | {"eval_steps": every}, name)
        weights.append(
            (still.root / "scratch" / name / "checkpoints" / "step-12" / "adapter_model.safetensors").read_bytes()
        )
    assert weights[0] == weights[1]


def test_merge_after_evaluation_is_faithful(still: World) -> None:
    options = {"method": "qlora", "max_steps": 12, "batch_size": 8, "eval_steps": 3, "compute_dtype": "bfloat16"}
    adapter = still.run(options | {"learning_rate": 5e-3}, "to-merge")
    row = still.merge(adapter).facts["merge"]
    quantised = next(item for item in row["candidates"] if item["base"] == "quantised")
    assert quantised["kl"] < 1e-4
