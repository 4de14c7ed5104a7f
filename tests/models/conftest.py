"""The training tests' world serves the model tests too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stages.conftest import NOISE, learned, world

__all__ = ["learned", "world"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for text in NOISE:
                item.add_marker(pytest.mark.filterwarnings(text))
