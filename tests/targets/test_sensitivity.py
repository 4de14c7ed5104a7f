"""Noise per layer against known answers, costs from profiles, words."""

from __future__ import annotations

import numpy as np
import pytest

from edgeft.errors import StepError
from edgeft.exporter import Layer
from edgeft.record import OperatorRow
from edgeft.targets.search.sensitivity import decibels, layer_costs, measure_noise, suggest

A, B = Layer("a", "MatMul", 100, "ta"), Layer("b", "MatMul", 300, "tb")


def batches(scale: float) -> list[dict[str, np.ndarray]]:
    draw = np.random.default_rng(0)
    return [{"a": (x := draw.normal(size=(4, 10)).astype(np.float32)) + np.float32(scale), "b": x} for _ in range(3)]


def test_noise_over_batches_is_that_of_all_values_together() -> None:
    plain, noisy = batches(0.0), batches(0.1)
    found = measure_noise(plain, noisy, ("a", "b", "absent"))
    whole = np.concatenate([batch["a"] for batch in plain])
    assert set(found) == {"a", "b"}
    assert found["a"].ratio == pytest.approx(0.01 / np.square(whole).mean(), rel=1e-4)
    assert found["b"].ratio == 0 and decibels(found["b"].ratio) is None
    assert (found["a"].low, found["a"].high) == (pytest.approx(whole.min()), pytest.approx(whole.max()))
    assert sum(found["a"].counts) == whole.size


def test_a_float_layer_that_is_not_finite_is_named() -> None:
    plain, other = batches(0.0), batches(0.0)
    plain[1]["a"][0, 0] = np.nan
    with pytest.raises(StepError, match="layer 'a' is not finite"):
        measure_noise(plain, other, ("a", "b"))


def test_a_compressed_layer_that_breaks_is_the_noisiest() -> None:
    other = batches(0.0)
    other[0]["b"] = np.full((4, 10), np.inf, np.float32)
    assert measure_noise(batches(0.0), other, ("b",))["b"].ratio == np.inf


def profile(**times: float) -> list[OperatorRow]:
    return [OperatorRow(name=name, op="MatMul", ms=ms, share=0.0) for name, ms in times.items()]


def test_costs_come_from_both_profiles_else_share_what_is_saved() -> None:
    both = layer_costs((A, B), profile(a=2.0, b=4.0), profile(a=0.5, b=1.0), extra=4.5)
    assert both == {"a": 1.5, "b": 3.0}
    shared = layer_costs((A, B), profile(a=2.0, b=4.0), profile(fused_0=1.5), extra=4.5)
    assert shared == {"a": pytest.approx(1.5), "b": pytest.approx(3.0)}
    by_weights = layer_costs((A, B), [], [], extra=4.0)
    assert by_weights == {"a": 1.0, "b": 3.0}


def test_the_suggestion_reads_as_promised() -> None:
    said = suggest(2, 74, 0.9, "0.2 ms", "accuracy")
    assert said == "Keeping 2 of 74 layers in float recovers 0.9 points of accuracy for 0.2 ms."
