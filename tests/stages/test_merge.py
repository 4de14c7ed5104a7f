"""Merging: both bases measured, a wrong merge refused, every kind of adapter merged faithfully or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.artifact import Artifact
from edgeft.canonical import digest_tree
from edgeft.errors import StepError
from edgeft.models.adapter import adapter_about
from edgeft.models.load import load_model
from edgeft.models.predict import predict_logits
from tests.stages.world import LABELS, World, write_base

pytestmark = pytest.mark.ml

TRAINED: dict[str, Any] = {"epochs": 6, "batch_size": 16, "learning_rate": 5e-3}


@pytest.fixture(scope="module")
def qlora(learned: World) -> Artifact:
    return learned.run({"method": "qlora", "compute_dtype": "float32", **TRAINED}, "merge-qlora")


@pytest.fixture(scope="module")
def lora(learned: World) -> Artifact:
    return learned.run({"method": "lora", **TRAINED}, "merge-lora")


def logits_of(world: World, model: Artifact, adapter: Artifact | None = None) -> np.ndarray:
    import pyarrow.parquet as pq

    ctx = world.context("predict")
    rows = pq.read_table(ctx.splits["validation"].path)
    module = load_model(model, adapter=adapter, labels=LABELS)
    return predict_logits(module, ctx.task.feeds(rows, ctx.prepared))


def test_both_bases_are_measured_and_one_is_taken(learned: World, qlora: Artifact) -> None:
    row = learned.merge(qlora).facts["merge"]
    original, quantised = row["candidates"]
    assert (original["base"], quantised["base"]) == ("original", "quantised")
    assert sum(item["taken"] for item in row["candidates"]) == 1
    assert row["unmerged_value"] > 0.8 and row["n"] == 48 and row["why"]
    # The quantised base is what training saw: only float32 rounding is between them. The original one differs for real.
    assert quantised["kl"] < 1e-8 < original["kl"]
    assert quantised["max_logit_difference"] < 1e-4 < original["max_logit_difference"]


@pytest.mark.parametrize("base", ["original", "quantised"])
def test_the_recipe_may_decide(learned: World, qlora: Artifact, base: str) -> None:
    merged = learned.merge(qlora, base=base)
    taken = [item for item in merged.facts["merge"]["candidates"] if item["taken"]]
    assert [item["base"] for item in taken] == [base]
    difference = np.abs(logits_of(learned, merged) - logits_of(learned, learned.base, qlora)).max()
    assert difference == pytest.approx(taken[0]["max_logit_difference"], abs=1e-5)


def test_a_tie_goes_to_the_closer_one(learned: World, qlora: Artifact) -> None:
    row = learned.merge(qlora).facts["merge"]
    values = {item["metric_value"] for item in row["candidates"]}
    if len(values) == 1:
        assert row["candidates"][1]["taken"] and "closer" in row["why"]
    else:
        assert next(item for item in row["candidates"] if item["taken"])["metric_value"] == max(values)


def test_quantised_base_needs_a_quantised_adapter(learned: World, lora: Artifact) -> None:
    with pytest.raises(StepError, match="not known to have been trained on a 4-bit base"):
        learned.merge(lora, base="quantised")


def negate(weight: Any) -> None:
    weight.mul_(-1)


def double(weight: Any) -> None:
    weight.mul_(2)


def lose(weight: Any) -> None:
    weight.zero_()


@pytest.mark.parametrize("damage", [negate, double, lose])
@pytest.mark.parametrize("kind", ["qlora", "lora"])
def test_one_wrong_delta_of_twelve_fails_the_step(
    learned: World,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Any], None],
    kind: str,
) -> None:
    """One layer's delta is damaged on the merging side alone, as the repacking hazard would."""
    from edgeft.stages import merging

    attach = merging.attach_adapter

    def damaged(module: Any, folder: Path) -> Any:
        wrapped = attach(module, folder)
        name = next(name for name, _ in wrapped.named_parameters() if "layer.1.output.dense.lora_B" in name)
        damage(dict(wrapped.named_parameters())[name].data)
        return wrapped

    monkeypatch.setattr(merging, "attach_adapter", damaged)
    with pytest.raises(StepError, match="does not answer as the unmerged one"):
        learned.merge(request.getfixturevalue(kind))


def test_merged_model_stands_alone(learned: World, qlora: Artifact) -> None:
    merged = learned.merge(qlora)
    assert sorted(path.name for path in merged.path.iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((merged.path / "config.json").read_text())
    assert config["id2label"] == {"0": "cold", "1": "hot", "2": "wet"}
    assert str(learned.root) not in (merged.path / "config.json").read_text()
    assert merged.facts["form"] == "transformers"


def test_merging_twice_gives_the_same_bytes(learned: World, qlora: Artifact) -> None:
    assert learned.merge(qlora).digest == learned.merge(qlora).digest


def test_tokenizer_files_travel(learned: World, qlora: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(learned.base.path, folder)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "secrets.txt").write_text("no")
    base = Artifact("torch-model", folder, learned.base.digest, learned.base.facts)
    names = {path.name for path in learned.merge(qlora, given=base).path.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json"}


@pytest.mark.parametrize(
    "options",
    [
        {"method": "lora", "rslora": True, "alpha": 4},
        {"method": "lora", "dora": True},
        {"method": "qlora", "dora": True, "compute_dtype": "float32"},
        {"method": "qlora", "double_quant": False, "compute_dtype": "float32"},
        {"method": "lora", "target_modules": ["query", "word_embeddings"]},
        {"method": "qlora", "compute_dtype": "bfloat16"},
        {"method": "lora", "init": "orthogonal"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_every_option_merges_faithfully(learned: World, options: dict[str, Any]) -> None:
    adapter = learned.run(
        {**TRAINED, "max_steps": 20, **options}, "-".join(map(str, options.values())).replace("'", "")
    )
    row = learned.merge(adapter).facts["merge"]
    faithful = row["candidates"][-1]
    # bfloat16 products round at 2**-9 relative; float32 ones agree to rounding.
    assert faithful["kl"] < (1e-5 if options.get("compute_dtype") == "bfloat16" else 1e-9)


def test_a_16_bit_base_stays_16_bit(learned: World, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "base"
    shutil.copytree(learned.base.path, folder)
    state = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor.bfloat16() for name, tensor in state.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    base = Artifact("torch-model", folder, digest_tree(folder), {"form": "transformers"})
    adapter = learned.run({"method": "lora", **TRAINED}, "sixteen", base=base)
    merged = learned.merge(adapter, given=base)
    written = load_file(merged.path / "model.safetensors")
    assert {str(tensor.dtype) for tensor in written.values()} == {"torch.bfloat16"}
    assert merged.facts["merge"]["candidates"][0]["kl"] < 1e-3


# Adapters from elsewhere: written by PEFT itself, known to nobody.


def foreign_adapter(world: World, folder: Path, *, config: Any = None) -> Artifact:
    """An adapter as PEFT's save_pretrained writes it, with a delta that is not zero."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(5)
    module = load_model(world.base, labels=LABELS, new_head=True)
    wrapped = get_peft_model(module, config or LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]))
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    wrapped.save_pretrained(folder)
    return Artifact(
        "peft-adapter",
        folder,
        digest_tree(folder),
        {"base": {"path": "", "digest": world.base.digest}, "quantised": None},
    )


def test_an_adapter_from_elsewhere(learned: World, tmp_path: Path) -> None:
    adapter = foreign_adapter(learned, tmp_path / "adapter")
    merged = learned.merge(adapter)
    assert [item["base"] for item in merged.facts["merge"]["candidates"]] == ["original"]
    assert np.abs(logits_of(learned, merged) - logits_of(learned, learned.base, adapter)).max() < 1e-5
    assert (
        np.abs(
            logits_of(learned, merged) - logits_of(learned, learned.merge(foreign_adapter(learned, tmp_path / "same")))
        ).max()
        == 0
    )


def test_an_adapter_with_edgeft_json_beside_it(learned: World, qlora: Artifact) -> None:
    bare = Artifact("peft-adapter", qlora.path, qlora.digest, {})
    assert adapter_about(bare)["quantised"] == "nf4"
    assert len(learned.merge(bare).facts["merge"]["candidates"]) == 2


def test_ia3_merges_too(learned: World, tmp_path: Path) -> None:
    from peft import IA3Config

    config = IA3Config(task_type="SEQ_CLS", target_modules=["key", "value"], feedforward_modules=[])
    row = learned.merge(foreign_adapter(learned, tmp_path / "ia3", config=config)).facts["merge"]
    assert row["candidates"][0]["kl"] < 1e-9


def test_prompt_tuning_cannot_merge(learned: World, tmp_path: Path) -> None:
    from peft import PromptTuningConfig

    adapter = foreign_adapter(
        learned, tmp_path / "prompt", config=PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2)
    )
    with pytest.raises(StepError, match="PROMPT_TUNING cannot be merged"):
        learned.merge(adapter)


def edit_config(adapter: Artifact, **changes: Any) -> None:
    path = adapter.path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "loftq", "olora"])
def test_adapters_of_a_changed_base_are_refused(learned: World, tmp_path: Path, start: str) -> None:
    adapter = foreign_adapter(learned, tmp_path / "adapter")
    edit_config(adapter, init_lora_weights=start)
    with pytest.raises(StepError, match="changes the base weights"):
        learned.merge(adapter)


def test_a_config_that_names_a_module_to_import_is_refused(learned: World, tmp_path: Path) -> None:
    adapter = foreign_adapter(learned, tmp_path / "adapter")
    edit_config(adapter, megatron_config={"a": 1}, megatron_core="os")
    with pytest.raises(StepError, match="megatron_config"):
        learned.merge(adapter)


def test_missing_weights_are_named(learned: World, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    adapter = foreign_adapter(learned, tmp_path / "adapter")
    path = adapter.path / "adapter_model.safetensors"
    state = load_file(path)
    gone = next(name for name in state if "layer.1.attention.self.query.lora_B" in name)
    save_file({name: tensor for name, tensor in state.items() if name != gone}, path)
    with pytest.raises(StepError, match=r"missing 1: .*layer\.1\.attention\.self\.query\.lora_B"):
        learned.merge(adapter)


def test_an_adapter_without_a_head_on_a_base_without_one(learned: World, tmp_path: Path) -> None:
    from peft import LoraConfig

    adapter = foreign_adapter(learned, tmp_path / "adapter", config=LoraConfig(r=4, target_modules=["query"]))
    with pytest.raises(StepError, match="no trained head for 3 labels"):
        learned.merge(adapter)


def test_another_base_is_refused(learned: World, qlora: Artifact, tmp_path: Path) -> None:
    write_base(tmp_path / "other", 64, 0.1, seed=9)
    other = Artifact("torch-model", tmp_path / "other", digest_tree(tmp_path / "other"), {"form": "transformers"})
    with pytest.raises(StepError, match="not on"):
        learned.merge(qlora, given=other)


def test_a_base_of_another_width_is_an_error_not_a_traceback(learned: World, qlora: Artifact, tmp_path: Path) -> None:
    write_base(tmp_path / "narrow", 32, 0.1)
    narrow = Artifact("torch-model", tmp_path / "narrow", "x", {"form": "transformers"})
    with pytest.raises(StepError, match="does not fit this base model: size mismatch for"):
        learned.merge(Artifact("peft-adapter", qlora.path, qlora.digest, {}), given=narrow)


def test_no_validation_rows(learned: World, qlora: Artifact, tmp_path: Path) -> None:
    from edgeft.stages.merge import Merge

    ctx = learned.context("merge")
    ctx.splits = {}
    with pytest.raises(StepError, match="validation split"):
        Merge().run({"base": learned.base, "model": qlora}, tmp_path, ctx)


def test_kl_is_the_textbook_one() -> None:
    from edgeft.stages.merging import mean_kl

    ours = np.log(np.array([[0.5, 0.5], [0.9, 0.1]], dtype=np.float32))
    theirs = np.log(np.array([[0.25, 0.75], [0.9, 0.1]], dtype=np.float32))
    expected = (0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)) / 2
    assert mean_kl(ours, theirs) == pytest.approx(expected, abs=1e-7)
