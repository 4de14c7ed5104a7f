"""Ctrl-C that a library swallows still ends the build."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from edgeft.pipeline import interrupt


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    interrupt.watch()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_swallowed_interrupt_comes_back_at_the_next_check(number: signal.Signals) -> None:
    interrupt.watch()
    interrupt.check()
    try:
        signal.raise_signal(number)
    except BaseException as error:
        assert isinstance(error, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        interrupt.check()
