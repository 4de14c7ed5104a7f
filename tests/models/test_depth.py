"""A shallower copy: which layers stay, that it reloads as it was saved, and what has no layers to leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeft.artifact import Artifact
from edgeft.errors import StepError
from edgeft.models.depth import keep_layers, spaced_layers
from edgeft.models.load import load_model
from edgeft.models.save import save_model

pytestmark = [pytest.mark.ml, pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")]

LABELS = ("a", "b", "c")


def classifier(folder: Path, kind: str, layers: int) -> Artifact:
    """A random classifier of a few narrow layers."""
    import torch
    import transformers

    torch.manual_seed(0)
    shapes: dict[str, dict[str, Any]] = {
        "Bert": {"hidden_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 24},
        "DistilBert": {"dim": 16, "n_layers": layers, "n_heads": 2, "hidden_dim": 24},
        "Albert": {"embedding_size": 8, "hidden_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 24},
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(vocab_size=60, num_labels=3, **shapes[kind])
    getattr(transformers, f"{kind}ForSequenceClassification")(config).save_pretrained(folder)
    return Artifact("torch-model", folder, "0" * 64, {"form": "transformers"})


def answers(module: Any) -> Any:
    import torch

    ids = torch.arange(5, 41).reshape(3, 12)
    with torch.no_grad():
        return module.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def test_layers_are_the_ones_that_are_compared_later() -> None:
    from edgeft.stages.distilling.pairs import uniform_map

    assert spaced_layers(3, 6) == (1, 3, 5) and spaced_layers(2, 12) == (5, 11) and spaced_layers(4, 6) == (1, 2, 4, 5)
    for count, depth in ((3, 6), (4, 6), (5, 12), (1, 4)):
        assert uniform_map(count + 1, depth + 1)[1:] == tuple(place + 1 for place in spaced_layers(count, depth))


@pytest.mark.parametrize("kind", ["Bert", "DistilBert"])
def test_copy_reloads_equal(tmp_path: Path, kind: str) -> None:
    import torch

    given = classifier(tmp_path / "whole", kind, 4)
    module = load_model(given, labels=LABELS)
    names = [name for name, child in module.named_modules() if type(child).__name__ == "ModuleList"]
    second = next(module.get_submodule(names[0])[1].parameters()).clone()
    assert keep_layers(module, 2, "step x") == (1, 3)
    assert torch.equal(next(module.get_submodule(names[0])[0].parameters()), second)
    out = tmp_path / "copy"
    out.mkdir()
    save_model(module, given, out)
    assert not (out / "surgery.json").exists(), "an ordinary model of that depth"
    again = load_model(Artifact("torch-model", out, "1" * 64, {"form": "transformers"}), labels=LABELS)
    assert torch.equal(answers(again), answers(module))
    assert len(again.get_submodule(names[0])) == 2


def test_pruned_model_takes_it_as_one_more_edit(tmp_path: Path) -> None:
    import torch

    from edgeft.models.surgery import Slice, operate, read_surgery

    given = classifier(tmp_path / "whole", "Bert", 4)
    module = load_model(given, labels=LABELS)
    inner = "bert.encoder.layer.3.intermediate.dense"
    operate(
        module,
        [
            Slice(module=inner, of=24, keep=((0, 20),), side="out"),
            Slice(module="bert.encoder.layer.3.output.dense", of=24, keep=((0, 20),), side="in"),
        ],
    )
    assert keep_layers(module, 2, "step x") == (1, 3)
    out = tmp_path / "copy"
    out.mkdir()
    save_model(module, given, out)
    assert [edit.edit for edit in read_surgery(out).edits] == ["slice", "slice", "layers"]
    again: Any = load_model(Artifact("torch-model", out, "1" * 64, {"form": "transformers"}), labels=LABELS)
    assert torch.equal(answers(again), answers(module))
    assert again.bert.encoder.layer[1].intermediate.dense.out_features == 20


def test_layers_that_are_shared_or_too_few(tmp_path: Path) -> None:
    shared = load_model(classifier(tmp_path / "shared", "Albert", 4), labels=LABELS)
    with pytest.raises(StepError, match=r"no single list of layers \(its configuration says 4\)"):
        keep_layers(shared, 2, "step x")
    few = load_model(classifier(tmp_path / "few", "Bert", 2), labels=LABELS)
    with pytest.raises(StepError, match="student_layers: 2 asked for, the model has 2 already"):
        keep_layers(few, 2, "step x")


def test_code_builds_its_own_layers() -> None:
    import torch

    with pytest.raises(StepError, match="a model given as code builds its own layers"):
        keep_layers(torch.nn.Linear(2, 2), 1, "step x")
