"""Rewrites before LiteRT's converter keep every answer, and its messages are read for the operator's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from edgeft_exporters.litert.legal import crop_transposed_convolutions
from edgeft_exporters.litert.process import died, explain
from edgeft_exporters.litert.quantise import spread_cases
from edgeft_exporters.litert.rows import skip_unread_rows

from edgeft.errors import StepError

pytestmark = pytest.mark.ml

ROUNDING = 1e-5
"""The same products summed in another order, on values of order 1."""


class Block(torch.nn.Module):
    """A transformer block of 6 rows of 8 features, then `read`."""

    def __init__(self, read: Callable[[Any], Any], mix: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.read, self.mix = read, mix
        self.qkv = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(3))
        self.up, self.down, self.norm = torch.nn.Linear(8, 16), torch.nn.Linear(16, 8), torch.nn.LayerNorm(8)
        self.across = torch.nn.Conv1d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        q, k, v = (part(x).view(2, 6, 2, 4).transpose(1, 2) for part in self.qkv)
        scores = (q @ k.transpose(2, 3) / 2.0 + mask).softmax(-1)
        x = self.norm(x + (scores @ v).permute(0, 2, 1, 3).reshape(2, 6, 8))
        x = x + self.down(torch.nn.functional.gelu(self.up(x)))
        if self.mix:
            x = self.across(x.transpose(1, 2)).transpose(1, 2)
        return self.read(torch.tanh(x))


def feeds() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.zeros(2, 1, 1, 6)
    mask[1, ..., 4:] = -1e4
    return torch.randn(2, 6, 8), mask


@pytest.mark.parametrize(
    ("read", "mix", "least", "most"),
    [
        (lambda x: x[:, 0], False, 12, 30),
        (lambda x: x[:, -2], False, 12, 30),
        (lambda x: x[:, 1:3].mean(1), False, 12, 30),
        (lambda x: x[:, 0] + x[:, 1], False, 0, 0),
        (lambda x: x.mean(1), False, 0, 0),
        (lambda x: x[..., 0], False, 1, 3),
        (lambda x: x[0], False, 5, 12),
        (lambda x: x[:, 0], True, 2, 3),
    ],
    ids=["first", "negative", "slice", "two-rows", "mean", "feature", "case", "convolution-between"],
)
def test_unread_rows_are_skipped_and_answers_stay(read: Callable[[Any], Any], mix: bool, least: int, most: int) -> None:
    module = Block(read, mix).eval()
    with torch.no_grad():
        graph: Any = torch.export.export(module, feeds()).module()
        skipped = skip_unread_rows(graph)
        ours, theirs = graph(*feeds()), module(*feeds())
    assert ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= ROUNDING
    assert least <= skipped <= most


@pytest.mark.parametrize(
    ("options", "cropped"),
    [
        ({"stride": 2, "padding": 1, "output_padding": 1}, 1),
        ({"stride": 2, "padding": 1}, 1),
        ({"stride": 3, "padding": (1, 0), "groups": 2, "bias": False}, 1),
        ({"stride": 2}, 0),
        ({"stride": 2, "output_padding": 1}, 0),
        ({"stride": 2, "padding": (1, 0), "output_padding": (0, 1)}, 0),
    ],
)
def test_padded_transposed_convolutions_are_cropped(options: dict[str, Any], cropped: int) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.ConvTranspose2d(4, 6, 3, **options), torch.nn.ReLU()).eval()
    x = torch.randn(2, 4, 5, 7)
    with torch.no_grad():
        graph: Any = torch.export.export(module, (x,)).module()
        assert crop_transposed_convolutions(graph) == cropped
        ours, theirs = graph(x), module(x)
    assert ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= ROUNDING


@pytest.mark.parametrize(
    ("message", "op", "reason"),
    [
        (
            "Failed to run converter passes: /home/me/venv/lib/conv.py:1198:0: error: failed to legalize operation "
            "'mhlo.convolution' that was explicitly marked illegal: %14 = <{lhs_dilation = dense<2> : tensor<2xi64>}>",
            "conv_transpose",
            "transposed convolutions",
        ),
        (
            "error: failed to legalize operation 'mhlo.convolution' <{lhs_dilation = dense<1> : tensor<2xi64>}>",
            "mhlo.convolution",
            "no form of mhlo.convolution",
        ),
        ("Lowering not found: aten.linalg_qr.default\n\nWhile executing", "aten.linalg_qr.default", "no translation"),
        (
            "Abstract tracer value at /home/me/x.py:158\nWhile executing %nonzero : [num_users=2] = "
            "call_function[target=torch.ops.aten.nonzero.default](args = (%x,), kwargs = {})",
            "aten.nonzero.default",
            "Abstract tracer value",
        ),
        ("something else", "", "cannot convert this model: something else"),
    ],
)
def test_the_operator_is_read_from_the_message(message: str, op: str, reason: str) -> None:
    said, found = explain(message)
    assert found == op and reason in said and "/home/me" not in said


def test_a_child_without_its_packages_says_what_to_install() -> None:
    error = died(1, "Traceback ...\nModuleNotFoundError: No module named 'litert_torch'\n")
    assert isinstance(error, StepError) and "litert_torch" in error.what and "edgeft[litert]" in error.hint


def test_calibration_cases_are_spread_and_filled() -> None:
    arrays = {"x": np.arange(100)[:, None]}
    groups = [group["x"][:, 0].tolist() for group in spread_cases(arrays, 5, 2)]
    assert groups == [[0, 20], [40, 60], [80, 80]]
    assert [group["x"][0, 0] for group in spread_cases(arrays, 1000)] == list(range(100))
