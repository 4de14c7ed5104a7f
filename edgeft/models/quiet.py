"""Third-party loading chatter (progress bars, load reports) kept off the screen while one of our calls runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Errors only and no progress bars from transformers inside the block; the caller's settings come back.

    What a load report would say (missing head, unexpected weights) is checked by `load_model` and raised as an error.
    """
    from transformers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
