"""A build's folder stands for its one bundle, and never for one of several."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.errors import RecipeError
from edgeft.ship.bundle import find_bundle
from tests.ship.conftest import make_bundle


def test_the_only_bundle_of_a_build_is_found(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "targets/a")
    make_bundle(tmp_path / "rejected/b", status="failed")
    assert find_bundle(tmp_path) == find_bundle(bundle) == bundle


def test_of_several_none_is_taken(tmp_path: Path) -> None:
    for name in ("b", "a"):
        make_bundle(tmp_path / f"targets/{name}")
    with pytest.raises(RecipeError, match="holds 2 bundles") as refusal:
        find_bundle(tmp_path)
    assert refusal.value.hint == f"name one: {tmp_path / 'targets/a'}, {tmp_path / 'targets/b'}"


def test_what_was_refused_is_not_taken_but_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no bundle in"):
        find_bundle(tmp_path)
    make_bundle(tmp_path / "rejected/a", status="failed")
    with pytest.raises(RecipeError, match="no bundle in") as refusal:
        find_bundle(tmp_path)
    assert str(tmp_path / "rejected/a") in refusal.value.hint
