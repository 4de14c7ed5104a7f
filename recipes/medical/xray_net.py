"""A small residual network (He et al. 2016) for grey images in plain torch: 0.3 million parameters."""

import torch
from torch import nn

WIDTHS = (16, 32, 64, 96)


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a 1 x 1 one; halves both sides."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(given, made, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(made, made, 3, padding=1, bias=False)
        self.beside = nn.Conv2d(given, made, 1, stride=2, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(made) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, given, rows, columns) to (n, made, rows / 2, columns / 2)."""
        inner = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(self.norms[1](self.second(inner)) + self.norms[2](self.beside(x)))


class XrayNet(nn.Module):
    """float32 (n, 1, height, width) to logits (n, num_labels); any height and width from 32."""

    def __init__(self, num_labels: int) -> None:
        super().__init__()
        pairs = zip((1, *WIDTHS), WIDTHS, strict=False)
        self.blocks = nn.Sequential(*(Block(given, made) for given, made in pairs))
        self.head = nn.Linear(WIDTHS[-1], num_labels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mean over what is left of both sides, then one linear layer."""
        return self.head(self.blocks(x).mean(dim=(2, 3)))


def build(num_labels: int) -> nn.Module:
    """Random weights; edgeft seeds them."""
    return XrayNet(num_labels)
