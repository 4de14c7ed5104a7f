"""Ctrl-C that a library swallows still ends the build.

In a process of its own: a signal raised beside other tests can come up in one of them where a library holds it back.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

SWALLOWED = """\
import signal
from edgeft.pipeline import interrupt

interrupt.watch()
interrupt.check()
try:
    signal.raise_signal({number})
except BaseException as error:
    assert isinstance(error, KeyboardInterrupt), error
    print("swallowed", flush=True)
try:
    interrupt.check()
except KeyboardInterrupt:
    print("raised again", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_swallowed_interrupt_comes_back_at_the_next_check(number: signal.Signals) -> None:
    code = SWALLOWED.format(number=int(number))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split("\n")) == (0, ["swallowed", "raised again", ""]), done.stderr
