"""Layers that a network holds twice: an adapter is refused where it would be put into one place and run in another."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeft.errors import StepError
from edgeft.stages.finetune.adapters import target_layers

pytestmark = pytest.mark.ml


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.conv(x)
        return answer


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.head = Block(), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 1)


def test_a_block_of_two_names_is_adapted() -> None:
    """As DynUNet's are: the convolution has one owner, and the adapter is found by either name."""
    net = Net()
    net.again = nn.ModuleList([net.first])
    assert target_layers(net, "all-layers", "steps[0]") == ("first.conv", "middle")
    assert target_layers(net, ["conv"], "steps[0]") == ("first.conv",)


def test_a_layer_of_two_owners_is_refused() -> None:
    """As nnU-Net's are."""
    net = Net()
    net.run = nn.Sequential(net.first.conv, nn.ReLU())
    for wanted in ("all-layers", ["conv"]):
        with pytest.raises(StepError, match=r"'first\.conv' is also 'run\.0'"):
            target_layers(net, wanted, "steps[0]")
    assert target_layers(net, ["middle"], "steps[0]") == ("middle",)
