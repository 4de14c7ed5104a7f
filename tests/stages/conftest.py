"""Worlds shared by the training tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stages.world import World, make_world

NOISE = (
    # torch and its libraries among themselves; nothing of ours can avoid them.
    "ignore:.*torch.jit.*:DeprecationWarning",
    "ignore:.*is_gradient_checkpointing.*:FutureWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for text in NOISE:
                item.add_marker(pytest.mark.filterwarnings(text))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A fresh small world."""
    return make_world(tmp_path)


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world where training learns something in seconds; shared, so tests only add to it."""
    return make_world(tmp_path_factory.mktemp("learned"), hidden=64, train=300)
