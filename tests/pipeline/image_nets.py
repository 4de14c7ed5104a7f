"""Small image data and networks for the build tests: real digits as PNG folders, drawn shapes with masks."""

from __future__ import annotations

from pathlib import Path

DIGITS = """\
data:
  source: image-folder
  path: images
  fractions: {train: 0.45, validation: 0.1, calibration: 0.05, search: 0.15, gate: 0.25}
serve: {batch: 1, height: 16, width: 16}
seed: 3
"""
"""How a recipe says data and serving of `write_digits`."""
CONV = """\
import torch


class Conv(torch.nn.Module):
    def __init__(self, num_labels):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), torch.nn.ReLU(),
            torch.nn.Conv2d(8, 16, 3, stride=2, padding=1), torch.nn.ReLU(),
        )
        self.head = torch.nn.Linear(16 * 4 * 4, num_labels)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


def build(num_labels):
    return Conv(num_labels)
"""

UNET = '''\
import torch


def block(given, made):
    return torch.nn.Sequential(torch.nn.Conv2d(given, made, 3, padding=1), torch.nn.ReLU())


class Net(torch.nn.Module):
    """One level of a U-Net; answers at half size, which is brought to full size in what is served."""

    def __init__(self, num_labels):
        super().__init__()
        self.first, self.second = block(3, 8), block(8, 16)
        self.up = torch.nn.ConvTranspose2d(16, 8, 2, 2)
        self.out = torch.nn.Conv2d(16, num_labels, 1)

    def forward(self, x):
        first = self.first(x)
        second = self.second(torch.nn.functional.max_pool2d(first, 2))
        whole = torch.cat([first, self.up(second)], 1)
        return torch.nn.functional.avg_pool2d(self.out(whole), 2)


def build(num_labels):
    return Net(num_labels)
'''


def write_digits(root: Path, labels: int = 3, each: int = 110, skip: int = 0) -> None:
    """`root/<digit>/NNNN.png`: scikit-learn's digits 0..labels-1, enlarged to 16 x 16, the image-folder layout.

    Of each digit the first `skip` are left out, then `each` are taken.
    """
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    for label in range(labels):
        (root / str(label)).mkdir(parents=True)
        for place in np.flatnonzero(found.target == label)[skip : skip + each]:
            grey = Image.fromarray((found.images[place] * 15.9).astype(np.uint8))
            grey.resize((16, 16), Image.Resampling.BILINEAR).save(root / str(label) / f"{place:04d}.png")


def write_shapes(root: Path, cases: int = 120, size: int = 24) -> None:
    """`root/images` and `root/masks`: a bright square (1) and a dim disc (2) on noise; cases.csv groups them in pairs."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(5)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    lines = ["image,patient"]
    rows, columns = np.mgrid[:size, :size]
    for case in range(cases):
        image, mask = random.integers(0, 40, (size, size, 3)), np.zeros((size, size), np.uint8)
        top, left = random.integers(0, size - 8, 2)
        square = (rows >= top) & (rows < top + 8) & (columns >= left) & (columns < left + 8)
        y, x = random.integers(4, size - 4, 2)
        disc = ((rows - y) ** 2 + (columns - x) ** 2 < 16) & ~square
        image[square] += 190
        image[disc] += 90
        mask[square], mask[disc] = 1, 2
        Image.fromarray(image.astype(np.uint8)).save(root / "images" / f"case{case:03d}.png")
        Image.fromarray(mask).save(root / "masks" / f"case{case:03d}.png")
        lines.append(f"case{case:03d},p{case // 2}")
    (root / "cases.csv").write_text("\n".join(lines) + "\n")
