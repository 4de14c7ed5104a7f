"""How far another run may be from the golden outputs: by arithmetic, never so far that nothing could fail."""

from __future__ import annotations

import numpy as np
import pytest

from edgeft.exporter import Variant
from edgeft.pipeline.golden.tolerances import tolerance

OUTPUTS = np.array([[0.5, -20.0], [3.0, 1.0]], np.float32)


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("", 1e-3), ("fp16", 2e-2), ("f16", 2e-2), ("bf16", 2e-2), ("int8-dynamic", 0.1), ("int4-weights", 0.1), ("a16w8-qnn", 0.1),
    ],
)  # fmt: skip
def test_each_arithmetic_has_its_own_share_of_the_largest_output(name: str, share: float) -> None:
    found = tolerance(Variant(name) if name else None, OUTPUTS)
    assert found["same_processor"]["atol"] == pytest.approx(20 * 1e-5)
    assert found["other_processor"]["atol"] == pytest.approx(20 * share)


def test_outputs_of_zeros_are_allowed_the_least() -> None:
    found = tolerance(None, np.zeros((2, 3), np.float32))
    assert {row["atol"] for row in found.values()} == {1e-6}
