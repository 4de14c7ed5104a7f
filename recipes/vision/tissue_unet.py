"""U-Nets (Ronneberger et al. 2015) in plain torch: batch normalisation, nearest-neighbour upsampling."""

import torch
from torch import nn

SMALL, WIDE = (8, 16, 32), (16, 32, 64)
"""Channels at full, half and quarter resolution."""


def block(given: int, made: int) -> nn.Sequential:
    """Two 3 x 3 convolutions."""
    layers = []
    for channels in (given, made):
        layers += [nn.Conv2d(channels, made, 3, padding=1, bias=False), nn.BatchNorm2d(made), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """float32 (n, 1, height, width) to logits (n, num_labels, height, width); sides are multiples of 4."""

    def __init__(self, num_labels: int, widths: tuple[int, int, int] = SMALL) -> None:
        super().__init__()
        first, second, third = widths
        self.down1, self.down2, self.bottom = block(1, first), block(first, second), block(second, third)
        self.up2, self.up1 = block(third + second, second), block(second + first, first)
        self.pool = nn.MaxPool2d(2)
        self.grow = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = nn.Conv2d(first, num_labels, 1)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        first = self.down1(pixel_values)
        second = self.down2(self.pool(first))
        x = self.bottom(self.pool(second))
        x = self.up2(torch.cat([self.grow(x), second], dim=1))
        x = self.up1(torch.cat([self.grow(x), first], dim=1))
        return self.head(x)


def build(num_labels: int) -> nn.Module:
    """Called by edgeft with the number of labels."""
    return UNet(num_labels)


def build_wide(num_labels: int) -> nn.Module:
    """The same with twice the channels, four times the products."""
    return UNet(num_labels, WIDE)
