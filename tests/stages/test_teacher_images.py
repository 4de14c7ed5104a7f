"""Teachers and students over images: feature maps, classes per pixel, attention with fewer keys than queries."""

from __future__ import annotations

from typing import Any

import pytest

from edgeft.errors import StepError
from edgeft.stages.distilling.teacher import PROJECTIONS, Teacher
from edgeft.stages.distilling.teaching import Teaching

pytestmark = pytest.mark.ml

EVERYTHING = Teaching(hidden_weight=1.0, attention_weight=1.0)


def segformer(widths: tuple[int, ...], seed: int) -> Any:
    import torch
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(seed)
    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[4, 2], hidden_sizes=list(widths), patch_sizes=[7, 3], strides=[4, 2],
        num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, num_labels=3,
    )  # fmt: skip
    return SegformerForSemanticSegmentation(config)


def vit(width: int, layers: int, seed: int, patch: int = 8) -> Any:
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(seed)
    shape = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 2 * width,
    }
    return ViTForImageClassification(ViTConfig(image_size=32, patch_size=patch, num_labels=3, **shape))


def feeds() -> dict[str, Any]:
    import torch

    torch.manual_seed(7)
    return {"pixel_values": torch.randn(4, 3, 32, 32)}


def trained(student: Any, teacher: Teacher, steps: int = 30) -> list[dict[str, float]]:
    """The distances after each step of plain descent on them."""
    import torch

    optimiser, seen = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=3e-3), []
    for _ in range(steps):
        _, parts = teacher.compare(student, feeds())
        loss = torch.stack(list(parts.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append({name: float(part.detach().mean()) for name, part in parts.items()})
    return seen


def test_segmentation_net_learns_by_every_loss() -> None:
    import torch

    student, teacher = segformer((8, 16), 0), Teacher(segformer((16, 32), 1), EVERYTHING, "step x")
    teacher.meet(student.train(), feeds())
    about = teacher.describe()
    assert (
        about["layer_map"] == [[0, 0], [1, 1]] and about["projected"] == [0, 1] and about["relation_heads"] == [2, 2, 2]
    )
    logits, parts = teacher.compare(student, feeds())
    assert logits.shape == (4, 3, 8, 8) and {name: part.shape for name, part in parts.items()} == {
        name: torch.Size([4]) for name in ("logits", "hidden", "attention")
    }
    seen = trained(student, teacher)
    for name in ("logits", "hidden", "attention"):
        assert seen[-1][name] < 0.8 * seen[0][name], name
    teacher.release(student)
    assert not hasattr(student, PROJECTIONS)


def test_vision_transformers_of_two_depths() -> None:
    student, teacher = vit(16, 2, 0), Teacher(vit(32, 4, 1), EVERYTHING, "step x")
    teacher.meet(student, feeds())
    assert teacher.describe()["layer_map"] == [[0, 0], [1, 2], [2, 4]]
    seen = trained(student, teacher)
    assert seen[-1]["hidden"] < 0.8 * seen[0]["hidden"] and seen[-1]["attention"] < 0.8 * seen[0]["attention"]


def test_patches_of_another_size_do_not_line_up() -> None:
    teacher = Teacher(vit(32, 4, 1, patch=16), Teaching(hidden_weight=1.0), "step x")
    with pytest.raises(StepError, match="hidden state 0 of the student has 17 positions, the teacher's 0 has 5"):
        teacher.meet(vit(16, 2, 0), feeds())


def test_maps_of_another_stride_are_compared_at_the_students() -> None:
    import torch

    student = torch.nn.Conv2d(3, 3, 3, stride=4, padding=1)
    teacher = Teacher(torch.nn.Conv2d(3, 3, 3, stride=2, padding=1), Teaching(), "step x")
    teacher.meet(student, feeds())
    logits, parts = teacher.compare(student, feeds())
    assert logits.shape == (4, 3, 8, 8) and parts["logits"].shape == (4,)
    other = Teacher(torch.nn.Conv2d(3, 5, 3, stride=4, padding=1), Teaching(), "step x")
    with pytest.raises(StepError, match=r"the student answers with logits \(3, 8, 8\), the teacher with \(5, 8, 8\)"):
        other.meet(student, feeds())
