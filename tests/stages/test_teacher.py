"""Learning from a teacher: the losses, their place in the shared training loop, and what a person is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edgeft.artifact import Artifact
from edgeft.errors import StepError
from edgeft.stages.distill import Distill
from edgeft.stages.distilling.pairs import choose_heads, uniform_map
from edgeft.stages.distilling.teaching import Teaching
from tests.stages.test_memory import RELATIVE, assert_same
from tests.stages.test_resume import killed, scratch
from tests.stages.world import LABELS, World, make_world, write_base

pytestmark = pytest.mark.ml

ALL: dict[str, Any] = {"hidden_weight": 0.5, "attention_weight": 0.5}
QUICK: dict[str, Any] = {"max_steps": 4, "batch_size": 8, **ALL}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world with a trained teacher (4 layers, 64 wide), and a narrower, shallower student; no dropout."""
    world = make_world(tmp_path_factory.mktemp("taught"), hidden=64, train=300, dropout=0.0)
    shutil.rmtree(world.root / "base")
    write_base(world.root / "base", 64, 0.0, layers=4)
    write_base(world.root / "small", 32, 0.0, seed=5)
    made = world.run({"method": "full", "epochs": 6, "batch_size": 16, "learning_rate": 2e-3}, "teacher-run")
    assert made.facts["training"]["best_metric"] > 0.9
    shutil.copytree(made.path, world.root / "teacher")
    return world


def test_logits_loss_is_hintons() -> None:
    import torch
    from scipy.special import log_softmax, softmax

    from edgeft.stages.distilling.losses import logits_loss

    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 5, 3)) * 3
    for temperature in (1.0, 4.0):
        p, q = softmax(theirs / temperature, axis=1), log_softmax(ours / temperature, axis=1)
        expected = temperature**2 * (p * (np.log(p) - q)).sum(axis=1)
        found = logits_loss(torch.tensor(ours), torch.tensor(theirs), temperature)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    pixels = [torch.tensor(rng.normal(size=(2, 3, 4, 6))) for _ in range(2)]
    each = [logits_loss(*(p[:, :, row, column] for p in pixels), 2.0) for row in range(4) for column in range(6)]
    torch.testing.assert_close(logits_loss(pixels[0], pixels[1], 2.0), torch.stack(each).mean(dim=0))


@pytest.mark.parametrize("kind", ["mse", "cosine"])
def test_padding_does_not_count(kind: Any) -> None:
    """A padded batch has the losses of its rows cut to their real length, whatever stands in the padding."""
    import torch

    from edgeft.stages.distilling.losses import hidden_loss, relation_loss

    torch.manual_seed(0)
    ours, theirs, mask = torch.randn(3, 7, 8), torch.randn(3, 7, 8), torch.ones(3, 7, dtype=torch.int64)
    mask[0, 4:], mask[1, 1:] = 0, 0
    hidden, relation = hidden_loss(ours, theirs, mask, kind), relation_loss(ours, theirs, 2, mask)
    for row, length in enumerate((4, 1, 7)):
        cut = (ours[row : row + 1, :length], theirs[row : row + 1, :length])
        torch.testing.assert_close(hidden[row : row + 1], hidden_loss(*cut, None, kind))
        torch.testing.assert_close(relation[row : row + 1], relation_loss(*cut, 2, None))
    assert float(hidden_loss(ours, ours, mask, kind).max()) < 1e-6 > float(relation_loss(ours, ours, 2, mask).max())


def test_layers_are_evenly_spaced() -> None:
    assert uniform_map(4, 7) == (0, 2, 4, 6)
    assert uniform_map(7, 7) == tuple(range(7))
    assert uniform_map(3, 13) == (0, 6, 12)
    assert uniform_map(5, 4) == (0, 1, 2, 2, 3)
    assert uniform_map(1, 4) == (3,)


def test_relation_heads_divide_both_widths() -> None:
    assert choose_heads(32, 64, 4, stated=False, where="") == 4
    assert choose_heads(288, 384, 12, stated=False, where="") == 12
    assert choose_heads(30, 64, 4, stated=False, where="") == 2
    with pytest.raises(StepError, match="does not divide the widths of the projections, 30 and 64"):
        choose_heads(30, 64, 4, stated=True, where="")


def test_student_of_another_width_and_depth(taught: World) -> None:
    from safetensors.torch import load_file

    made = taught.distil({**QUICK, "hidden_loss": "cosine"}, "shapes")
    about = made.facts["training"]["teacher"]
    assert about["layer_map"] == [[0, 0], [1, 2], [2, 4]] and about["projected"] == [0, 1, 2]
    assert about["relation_heads"] == [2, 2, 2] and about["weights"]["hidden"] == 0.5
    names = load_file(made.path / "model.safetensors")
    assert not [name for name in names if "projection" in name], "projections are no part of the student"
    assert sorted(path.name for path in made.path.iterdir()) == ["config.json", "model.safetensors"]
    kept = scratch(taught, "shapes") / "step-4" / "projections.safetensors"
    assert {tuple(tensor.shape) for tensor in load_file(kept).values()} == {(64, 32)}


def test_weight_and_temperature_of_the_recipe_are_those_compared_with() -> None:
    import torch

    from edgeft.stages.distilling.losses import logits_loss
    from edgeft.stages.distilling.teacher import Teacher
    from edgeft.stages.distilling.teaching import Teaching

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3), torch.nn.Dropout(0.5))

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.whole(pixel_values)

    torch.manual_seed(0)
    student, net, x = Net().eval(), Net(), torch.randn(5, 3, 2, 2)
    teacher = Teacher(net, Teaching(temperature=3.0, task_weight=0.75, logits_weight=0.25), "here")
    assert not any(part.requires_grad for part in net.parameters()), "a teacher does not train"
    ours, parts = teacher.compare(student, {"pixel_values": x})
    expected = 0.25 * logits_loss(ours, net.eval()(x), 3.0)
    torch.testing.assert_close(parts["logits"], expected, msg="with dropout off in the teacher")
    plain = 0.25 * logits_loss(ours, net(x), 1.0)
    assert float((plain - expected).abs().max().detach()) > 1e-3, "temperature makes a difference here"


@pytest.mark.parametrize("what", ["logits", "hidden", "attention"])
def test_each_loss_pulls_towards_the_teacher(taught: World, what: str) -> None:
    """With the labels' loss off, each distance falls on its own: it is measured on the student that training left."""
    weights = {f"{name}_weight": float(name == what) for name in ("task", "logits", "hidden", "attention")}
    options = {
        **weights,
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "schedule": "constant",
        "metric": "loss",
    }
    curve = taught.distil(options, f"pulls-{what}").facts["training"]["curve"]
    first, last = (np.mean([p["loss"] for p in part]) for part in (curve[:5], curve[-5:]))
    assert last < 0.8 * first


class Step:
    """One optimiser step of a student with a teacher; the student runs out of memory above a number of rows."""

    def __init__(self, world: World, name: str, *, above: int | None = None) -> None:
        import torch

        from edgeft.stages.finetune.data import read_examples
        from edgeft.stages.finetune.train import build_trainer, run_length

        stage = Distill(batch_size=8, max_steps=2, clip=0, **ALL)
        ctx = world.context(name)
        self.module = stage.build(world.at("small"), ctx, "cpu")
        self.teacher: Any = stage.load_teacher({"teacher": world.at("teacher")}, ctx, "cpu")
        self.examples = read_examples(ctx, "train", self.module, self.teacher.module)
        root = ctx.scratch / "checkpoints"
        root.mkdir(parents=True)
        self.trainer = build_trainer(
            self.module, stage, ctx, "cpu", self.examples, run_length(stage, 300), root, {}, self.teacher
        )
        self.failures = 0

        def fail(_: Any, args: Any) -> None:
            if above is not None and len(args[0]) > above:
                self.failures += 1
                raise torch.OutOfMemoryError("injected")

        self.teacher.module.bert.encoder.layer[3].register_forward_pre_hook(fail)

    def gradients(self, sizes: tuple[int, ...]) -> dict[str, Any]:
        start, total = 0, sum(sizes)
        for size in sizes:
            self.loss = self.trainer.training_step(
                self.module, self.examples.__getitems__(range(start, start + size)), total
            )
            start += size
        return {name: p.grad for name, p in self.module.named_parameters() if p.grad is not None}


def test_gradient_does_not_depend_on_how_the_batch_is_cut(taught: World) -> None:
    """Memory that runs out in the teacher, and accumulation of unequal micro-batches, leave the gradient as it is."""
    whole, parts, gathered = Step(taught, "whole"), Step(taught, "parts", above=3), Step(taught, "gathered")
    expected = whole.gradients((8,))
    assert {name for name in expected if "teacher_projections" in name}, "projections train with the student"
    assert_same(parts.gradients((8,)), expected)
    assert parts.failures > 0 and parts.trainer.micro.limit == 2
    assert float(parts.loss) == pytest.approx(float(whole.loss), rel=RELATIVE)
    assert_same(gathered.gradients((5, 3)), expected)
    sums = {name: value / 8 for name, value in whole.trainer.parts.items()}
    assert set(sums) == {"task", "logits", "hidden", "attention"} and min(sums.values()) > 0
    assert sum(sums.values()) == pytest.approx(float(whole.loss), rel=RELATIVE)


def test_teacher_stays_as_it_is(taught: World) -> None:
    step = Step(taught, "frozen")
    before = {name: tensor.clone() for name, tensor in step.teacher.module.state_dict().items()}
    step.gradients((8,))
    assert all((tensor == before[name]).all() for name, tensor in step.teacher.module.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in step.teacher.module.parameters())
    assert not step.teacher.module.training and step.module.training
    step.teacher.release(step.module)
    assert not [name for name in step.module.state_dict() if "teacher" in name]


RESUMED: dict[str, Any] = {
    **ALL, "max_steps": 24, "batch_size": 8, "eval_steps": 4, "checkpoint_steps": 5, "accumulation": 2, "learning_rate": 1e-3,
}  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(taught: World) -> Artifact:
    return taught.distil(RESUMED, "uninterrupted")


@pytest.mark.parametrize("removed", [None, "projections.safetensors"])
def test_killed_run_resumes_to_the_same_digest(taught: World, uninterrupted: Artifact, removed: str | None) -> None:
    """Killed after checkpoints 10 and 15; without dropout, weights, moments and projections alone carry the run."""
    name = f"killed-{removed}"
    if removed is None:
        killed(taught, name, RESUMED, "step:17")
        shutil.copytree(scratch(taught, name), taught.root / "stopped")
    else:
        shutil.copytree(taught.root / "stopped", scratch(taught, name))
        (scratch(taught, name) / "step-15" / removed).unlink()
    taught.warnings.clear()
    resumed = taught.distil(RESUMED, name)
    assert resumed.digest == uninterrupted.digest and resumed.facts["training"]["resumed"] == 1
    missing = [text for text in taught.warnings if "step-15" in text and "projections.safetensors is missing" in text]
    assert len(missing) == (removed is not None) == len(taught.warnings)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["step:3", "step:10", "step:20", "step:24", "seal:8", "seal:21", "seal:30"])
def test_many_kill_points(taught: World, uninterrupted: Artifact, point: str) -> None:
    name = f"many-{point.replace(':', '-')}"
    killed(taught, name, RESUMED, point)
    assert taught.distil(RESUMED, name).digest == uninterrupted.digest


def test_adapters_learn_from_a_teacher_and_resume(taught: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any method can be taught; an adapter's checkpoint holds the projections too, and its result does not."""
    from safetensors.torch import load_file

    from edgeft.stages.distilling.teacher import load_teacher
    from edgeft.stages.finetune.callbacks import Keeper
    from edgeft.stages.finetune.lora import Lora

    teaching = Teaching(**ALL)
    monkeypatch.setattr(
        Lora,
        "load_teacher",
        lambda self, _, ctx, device: load_teacher(taught.at("teacher"), None, teaching, ctx, device),
    )
    options = {"method": "lora", "max_steps": 20, "batch_size": 8, "checkpoint_steps": 5, "eval_steps": 5}
    whole = taught.run(options, "lora-whole", base=taught.at("small"))
    assert not [name for name in load_file(whole.path / "adapter_model.safetensors") if "projection" in name]
    seals, on_save = [0], Keeper.on_save

    def save_and_stop(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        on_save(self, args, state, control, **rest)
        seals[0] += 1
        if seals[0] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Keeper, "on_save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        taught.run(options, "lora-stopped", base=taught.at("small"))
    assert (scratch(taught, "lora-stopped") / "step-10" / "projections.safetensors").is_file()
    resumed = taught.run(options, "lora-stopped", base=taught.at("small"))
    assert resumed.digest == whole.digest and resumed.facts["training"]["resumed"] == 1


def test_a_loss_that_is_no_number_stops_the_run(taught: World, tmp_path: Path) -> None:
    """A teacher with an infinite weight: the student must not follow it."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(taught.root / "teacher", tmp_path / "broken")
    state = load_file(tmp_path / "broken" / "model.safetensors")
    state["classifier.weight"][0, 0] = float("inf")
    save_file(state, tmp_path / "broken" / "model.safetensors", metadata={"format": "pt"})
    broken = Artifact("torch-model", tmp_path / "broken", "0" * 64, {"form": "transformers"})
    with pytest.raises(StepError, match="the loss is nan at training step 1; its batch"):
        taught.distil({"max_steps": 2, "batch_size": 8}, "nan", teacher=broken)
    assert (taught.root / "scratch" / "nan" / "nan-batch" / "batch.npz").is_file()


def test_four_bit_teacher_stays_in_four_bits(taught: World) -> None:
    adapter = taught.run({"method": "qlora", "max_steps": 4, "batch_size": 8}, "quantised")
    ctx = taught.context("four")
    teacher: Any = Distill().load_teacher({"teacher": taught.base, "teacher_adapter": adapter}, ctx, "cpu")
    kinds = [type(child).__name__ for name, child in teacher.module.named_modules() if name.endswith("base_layer")]
    assert kinds == ["Linear4bit"] * 24
    made = taught.distil(QUICK, "four", teacher=taught.base, teacher_adapter=adapter)
    assert made.facts["training"]["teacher"]["layer_map"] == [[0, 0], [1, 2], [2, 4]]


CODE = """
import torch
class Net(torch.nn.Module):
    def __init__(self, n):
        super().__init__()
        self.table, self.out = torch.nn.Embedding(64, 8), torch.nn.Linear(8, n)
    def forward(self, input_ids, attention_mask):
        states = self.table(input_ids)
        logits = self.out((states * attention_mask[..., None]).mean(1))
        return {"logits": logits, "hidden_states": (states,)} if EXPOSES else logits
def build(num_labels):
    return Net(num_labels)
"""


def code_student(folder: Path, exposes: bool) -> Artifact:
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    (folder / "net.py").write_text(CODE.replace("EXPOSES", str(exposes)))
    scope: dict[str, Any] = {}
    exec(CODE.replace("EXPOSES", str(exposes)), scope)
    torch.manual_seed(0)
    save_file(scope["build"](len(LABELS)).state_dict(), folder / "model.safetensors")
    return Artifact("torch-model", folder, "c" * 64, {"form": "code", "code": "net.py:build"})


def test_plain_torch_student_learns_by_logits(taught: World, tmp_path: Path) -> None:
    student = code_student(tmp_path / "plain", exposes=False)
    made = taught.distil({"max_steps": 4, "batch_size": 8}, "plain", student=student)
    assert (made.path / "net.py").is_file() and made.facts["form"] == "code"
    with pytest.raises(StepError, match="hidden_weight: the student exposes no hidden states") as caught:
        taught.distil({"max_steps": 4, "hidden_weight": 1.0}, "no-hidden", student=student)
    assert "'hidden_states'" in caught.value.hint
    with pytest.raises(StepError, match="the student has no attention layer with separate query, key and value"):
        taught.distil({"max_steps": 4, "attention_weight": 1.0}, "no-attention", student=student)


def test_plain_torch_student_that_exposes_hidden_states(taught: World, tmp_path: Path) -> None:
    student = code_student(tmp_path / "open", exposes=True)
    made = taught.distil({"max_steps": 4, "batch_size": 8, "hidden_weight": 1.0}, "open", student=student)
    assert made.facts["training"]["teacher"]["layer_map"] == [[0, 4]]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"layer_map": [0, 4], "hidden_weight": 1.0},
            "layer_map has 2 entries up to 4: the student has 3 hidden states",
        ),
        ({"layer_map": [0, 4, 5], "hidden_weight": 1.0}, "the teacher 5"),
        ({"relation_heads": 5, "attention_weight": 1.0}, "relation_heads: 5 does not divide the widths"),
    ],
)
def test_what_does_not_fit_is_said_before_training(taught: World, options: dict[str, Any], text: str) -> None:
    with pytest.raises(StepError, match=text):
        taught.distil({"max_steps": 2, **options}, "refused")


@pytest.mark.parametrize(
    "options",
    [
        {"logits_weight": 0},
        {"layer_map": [0, 1, 2]},
        {"temperature": 0},
        {"hidden_weight": -1},
        {"hidden_loss": "l1", "hidden_weight": 1},
        {"teacher_weight": 1},
    ],
    ids=str,
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Distill(**options)
