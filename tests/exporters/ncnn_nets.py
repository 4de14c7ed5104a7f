"""Small convolutional nets as a user's code file: a digits classifier, a U-shaped segmenter, and one ncnn cannot run."""

from __future__ import annotations

import torch
from torch import nn


def build_digits(num_labels: int) -> nn.Module:
    """8x8 digits to classes."""

    class Digits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(24 * 16, num_labels),
            )  # fmt: skip

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.body(image)

    return Digits()


def build_segmenter(num_labels: int) -> nn.Module:
    """Down, up by transposed convolution, skip, instance norms and PReLU: the parts of a MONAI UNet."""

    def block(take: int, give: int, stride: int = 1) -> nn.Module:
        return nn.Sequential(nn.Conv2d(take, give, 3, stride, 1), nn.InstanceNorm2d(give), nn.PReLU())

    class Segmenter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.down = block(1, 8), block(8, 16, 2)
            self.up = nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1)
            self.last = nn.Conv2d(16, num_labels, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            high = self.first(image)
            return self.last(torch.cat([high, self.up(self.down(high))], dim=1))

    return Segmenter()


def build_sorted(num_labels: int) -> nn.Module:
    """Sorts its features, which ncnn has no layer for."""

    class Sorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(64, num_labels)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.out(torch.sort(image.flatten(1), dim=1)[0])

    return Sorted()
