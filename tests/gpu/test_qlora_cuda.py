"""QLoRA on a CUDA GPU: paged optimiser, bf16 compute, tokens per second and peak memory printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeft.artifact import Artifact
from tests.stages.world import LENGTH, World, make_world

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.ml,
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


@pytest.fixture(autouse=True)
def _needs_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA GPU")


@pytest.fixture(scope="module")
def cuda_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("cuda"), hidden=256, train=512)


def report(made: Artifact) -> None:
    training: dict[str, Any] = made.facts["training"]
    print(
        f"\n{training['method']} on {training['device']}: {training['examples_per_second'] * LENGTH:.0f} tokens/s, "
        f"peak memory {training['peak_memory_mb']:.0f} MB"
    )


@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
def test_trains_and_merges(cuda_world: World, method: str) -> None:
    rate = 1e-3 if method == "full" else 3e-3
    made = cuda_world.run(
        {"method": method, "epochs": 6, "batch_size": 32, "learning_rate": rate, "device": "cuda"}, f"cuda-{method}"
    )
    report(made)
    training = made.facts["training"]
    assert training["device"].startswith("cuda") and training["peak_memory_mb"] > 0
    assert training["best_metric"] > 0.8
    if method != "full":
        assert cuda_world.merge(made).facts["merge"]["candidates"][-1]["kl"] < 1e-3


def test_paged_optimiser_and_bf16(cuda_world: World) -> None:
    import torch

    from edgeft.stages.finetune.qlora import QLora

    stage = QLora(method="qlora")
    assert stage.optimiser("cuda:0") == "paged_adamw_32bit"
    assert stage.compute("cuda:0") == ("bfloat16" if torch.cuda.is_bf16_supported() else "float16")


def test_real_out_of_memory_is_split(cuda_world: World) -> None:
    """A limit on the process's share of memory makes the real allocator fail; training goes on with less."""
    import torch

    options = {"method": "full", "max_steps": 3, "batch_size": 512, "device": "cuda"}
    torch.cuda.reset_peak_memory_stats()
    whole = cuda_world.run(options, "cuda-roomy").facts["training"]
    assert whole["micro_batch"] == 512
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.7 * whole["peak_memory_mb"] * 2**20 / total)
    try:
        tight = cuda_world.run(options, "cuda-tight").facts["training"]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert tight["steps"] == 3 and tight["micro_batch"] < 512


def test_resumes(cuda_world: World) -> None:
    """Bit-equality is promised on CPU only; on a GPU the run goes on from its checkpoint."""
    import shutil

    options = {"method": "qlora", "max_steps": 20, "batch_size": 16, "checkpoint_steps": 10, "device": "cuda"}
    cuda_world.run(options, "cuda-whole")
    root = cuda_world.root / "scratch"
    shutil.copytree(root / "cuda-whole", root / "cuda-half")
    shutil.rmtree(Path(root / "cuda-half" / "checkpoints" / "step-20"))
    assert cuda_world.run(options, "cuda-half").facts["training"]["resumed"] == 1


def test_the_host_holds_the_weights_as_stored(cuda_world: World, tmp_path: Path) -> None:
    """A bfloat16 checkpoint is loaded as such and quantised layer by layer; the answer is that of float32 loading."""
    import torch

    from edgeft.canonical import digest_tree
    from edgeft.models.load import load_model
    from tests.stages.world import LABELS

    load_model(cuda_world.base, labels=LABELS, new_head=True).to(torch.bfloat16).save_pretrained(tmp_path)
    stored = Artifact("torch-model", tmp_path, digest_tree(tmp_path), {"form": "transformers"})
    options = {"labels": LABELS, "quantise": "nf4", "compute_dtype": "bfloat16"}
    gpu, cpu = (load_model(stored, device=device, **options) for device in ("cuda", "cpu"))  # type: ignore[arg-type]
    ours, theirs = ({**dict(module.named_parameters()), **dict(module.named_buffers())} for module in (gpu, cpu))
    assert ours.keys() == theirs.keys()
    for name, parameter in ours.items():
        assert parameter.device.type == "cuda" and parameter.dtype == theirs[name].dtype, name
        if parameter.is_floating_point():
            assert torch.equal(parameter.cpu(), theirs[name]), name
