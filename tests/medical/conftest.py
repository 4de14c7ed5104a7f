"""One reader for all tests of a module: its child process starts once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgeft.medical.limits import Limits
from edgeft.medical.read import Reader, Reading


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader(Limits(), Reading(), key=bytes(32)) as made:
        yield made


@pytest.fixture(scope="module")
def grey_reader() -> Iterator[Reader]:
    with Reader(Limits(), Reading(colour="grey"), key=bytes(32)) as made:
        yield made
