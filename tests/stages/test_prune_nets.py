"""Vision networks at module level: what is coupled is cut together, answers follow, and edits replay on a fresh network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft.artifact import Artifact
from edgeft.models.surgery import replay, surgery_of
from edgeft.record import WidthRow
from edgeft.stage import Context

pytestmark = pytest.mark.ml


class Blank:
    """Stands in for a task: these tests score nothing."""

    name, headline = "image-classification", "accuracy"


def vit() -> Any:
    from transformers import ViTConfig, ViTForImageClassification

    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return ViTForImageClassification(ViTConfig(**shape, image_size=32, patch_size=8, num_labels=3))


def segformer() -> Any:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        hidden_sizes=[16, 32], depths=[2, 1], num_encoder_blocks=2, num_attention_heads=[2, 4], sr_ratios=[4, 2],
        patch_sizes=[7, 3], strides=[4, 2], mlp_ratios=[2, 2], decoder_hidden_size=24, num_labels=3,
    )  # fmt: skip
    return SegformerForSemanticSegmentation(config)


def unet() -> Any:
    from monai.networks.nets import UNet

    return UNet(2, 3, 2, channels=(8, 16, 32), strides=(2, 2), num_res_units=2)


def residual() -> Any:
    import torch

    class Block(torch.nn.Module):
        """Two convolutions and a shortcut: conv2's outputs and the stem's stand and fall together."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 16, 3, padding=1)
            self.conv1 = torch.nn.Conv2d(16, 24, 3, padding=1, bias=False)
            self.norm1 = torch.nn.BatchNorm2d(24)
            self.depthwise = torch.nn.Conv2d(24, 24, 3, padding=1, groups=24)
            self.conv2 = torch.nn.Conv2d(24, 16, 1)
            self.norm2 = torch.nn.GroupNorm(4, 16)
            self.head = torch.nn.Linear(16, 3)

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            x = self.stem(pixel_values)
            y = self.depthwise(torch.relu(self.norm1(self.conv1(x))))
            z: torch.Tensor = self.head(torch.relu(self.norm2(self.conv2(y) + x)).mean((2, 3)))
            return z

    return Block()


NETS: dict[str, Callable[[], Any]] = {"vit": vit, "segformer": segformer, "unet": unet, "residual": residual}


def cut(module: Any, folder: Path, size: int = 32, **options: Any) -> list[WidthRow]:
    """One round of structured pruning on random pictures."""
    import numpy as np
    import pyarrow as pa

    from edgeft.models.predict import accepted_feeds
    from edgeft.stages.prune.structured import Structured
    from edgeft.stages.prune.subject import Subject

    name = next(name for name in ("pixel_values", "x") if name in accepted_feeds(module))
    pictures = np.random.default_rng(0).standard_normal((2, 3, size, size)).astype("float32")
    ctx = Context("prune", 0, folder, Blank())  # type: ignore[arg-type]
    subject = Subject(
        module, Artifact("torch-model", folder, ""), ctx, {name: pictures}, pa.table({"id": ["a", "b"]}), False
    )
    return Structured(**options).cut(subject, 0, ctx).widths


def answer(module: Any, size: int = 32) -> Any:
    import torch

    with torch.no_grad():
        found = module(torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1)))
    return getattr(found, "logits", found)


@pytest.mark.parametrize("name", list(NETS))
def test_cutting_shrinks_every_part_and_replays_on_a_fresh_network(name: str, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    module = NETS[name]().eval()
    before, shape = sum(p.numel() for p in module.parameters()), answer(module).shape
    widths = cut(module, tmp_path, ratio=0.5)
    assert widths and all(row.after * 2 == row.before for row in widths)
    assert answer(module).shape == shape
    assert sum(p.numel() for p in module.parameters()) < 0.8 * before
    fresh = NETS[name]().eval()
    replay(fresh, surgery_of(module).edits)
    fresh.load_state_dict(module.state_dict(), strict=True)
    assert torch.equal(answer(fresh), answer(module))


@pytest.mark.parametrize("name", list(NETS))
def test_what_was_silent_can_be_cut_without_a_trace(name: str, tmp_path: Path) -> None:
    """Units whose weights are zero wherever they are read must be the ones that go, and nothing else may change.

    A wrong coupling (the wrong half of a concatenation, a shortcut not followed) changes the answers.
    """
    import torch

    from edgeft.stages.prune.coupling import Coupling

    torch.manual_seed(0)
    module = NETS[name]().eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    examples = {"x" if name == "unet" else "pixel_values": torch.randn(2, 3, 32, 32)}
    coupling = Coupling(module, examples)
    groups = [item for item in coupling.groups() if item.part != "channels" or item.repeats == 1]
    with torch.no_grad():
        for item in groups:
            silence(coupling, item, range(item.units // 2))
    wanted = answer(module)
    silent = {item.name for item in groups}
    widths = cut(module, tmp_path, ratio=0.5, skip=[g.name for g in coupling.groups() if g.name not in silent])
    assert len(widths) == len(groups)
    # Fewer zero terms in the same sums; float32 rounding grows through normalisations: relative to the largest answer.
    assert float((answer(module) - wanted).abs().max()) < 2e-4 * max(1.0, float(wanted.abs().max()))


def silence(coupling: Any, item: Any, units: Any) -> None:
    """Zero the units' weights on both sides: where they are made, normalised and read."""
    import torch

    for dep, places in item.group:
        layer = dep.target.module
        if layer not in coupling.names or not hasattr(layer, "weight") or layer.weight is None:
            continue
        roots = {root for unit in units for root in item.channels(unit)}
        gone = [place for place, root in zip(places, roots_of(item.group, dep), strict=True) if root in roots]
        flipped = isinstance(layer, torch.nn.modules.conv._ConvTransposeNd)
        if coupling._side(dep) == "in":
            layer.weight[(gone,) if flipped else (slice(None), gone)] = 0
        elif layer.weight.ndim == 1:
            layer.weight[gone] = 0
            if getattr(layer, "bias", None) is not None:
                layer.bias[gone] = 0
        else:
            layer.weight[(slice(None), gone) if flipped else (gone,)] = 0
            if layer.bias is not None:
                layer.bias[gone] = 0


def roots_of(group: Any, dep: Any) -> list[int]:
    """Root channel of each of a member's channels."""
    found: list[int] = next(group[i].root_idxs for i in range(len(group)) if group[i].dep is dep)
    return found


def test_residual_streams_of_transformers_and_outputs_stay(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    module = vit().eval()
    cut(module, tmp_path, ratio=0.5)
    assert module.config.hidden_size == module.vit.layers[0].mlp.fc2.out_features == 32
    assert module.classifier.out_features == 3
    assert module.vit.layers[0].attention.q_proj.out_features == 16
    assert module.vit.layers[0].attention.num_attention_heads == 2


def test_a_pruned_vit_and_a_pruned_code_network_reload_through_the_loader(tmp_path: Path) -> None:
    import torch

    from edgeft.models.load import load_model
    from edgeft.models.save import save_model

    torch.manual_seed(0)
    module = vit().eval()
    cut(module, tmp_path, ratio=0.5, round_to=8)
    out = tmp_path / "vit"
    out.mkdir()
    facts = save_model(module, Artifact("torch-model", tmp_path, ""), out)
    again = load_model(Artifact("torch-model", out, "", facts), labels=("a", "b", "c"), task="image-classification")
    assert torch.equal(answer(again), answer(module))

    source = tmp_path / "net.py"
    source.write_text(
        "import torch\n\ndef build(num_labels):\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, num_labels, 3))\n"
    )
    code = {"form": "code", "code": f"{source}:build"}
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 3, 3)).eval()
    from edgeft.models.surgery import Slice, operate, spans

    operate(net, [Slice(module=n, side=s, of=16, keep=spans(range(5))) for n, s in (("0", "out"), ("2", "in"))])  # type: ignore[arg-type]
    place = tmp_path / "code"
    place.mkdir()
    facts = save_model(net, Artifact("torch-model", tmp_path, "", code), place)
    again = load_model(Artifact("torch-model", place, "", facts), labels=("a", "b", "c"))
    assert again[0].out_channels == 5 and torch.equal(answer(again), answer(net))


def test_widths_are_multiples_where_asked(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    module = unet().eval()
    widths = cut(module, tmp_path, ratio=0.4, round_to=8)
    assert {row.after % 8 for row in widths} == {0}
