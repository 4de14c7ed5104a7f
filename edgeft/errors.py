"""Errors a user can act on: where, what, what to do next, and the exit code they lead to."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command; `worst` gives the one that a mixed outcome reports."""

    OK = 0
    GATE_FAILED = 1
    USAGE = 2
    STEP_FAILED = 3
    DEVICE = 4
    INCONCLUSIVE = 5
    INTERRUPTED = 130


_PRECEDENCE = (
    Exit.INTERRUPTED,
    Exit.USAGE,
    Exit.STEP_FAILED,
    Exit.DEVICE,
    Exit.GATE_FAILED,
    Exit.INCONCLUSIVE,
    Exit.OK,
)


def worst(*codes: Exit) -> Exit:
    """The code that wins when several apply: 130 > 2 > 3 > 4 > 1 > 5 > 0."""
    return min((Exit(code) for code in codes), key=_PRECEDENCE.index, default=Exit.OK)


class EdgeftError(Exception):
    """A failure with a place, a sentence and a remedy; printed without a traceback.

    what: one sentence. where: file:line:column, a step name or a path. hint: what to do next.
    excerpt: lines of the user's own file, already laid out.
    """

    exit_code: Exit = Exit.STEP_FAILED

    def __init__(self, what: str, *, where: str = "", hint: str = "", excerpt: str = "") -> None:
        super().__init__(f"{where}: {what}" if where else what)
        self.what, self.where, self.hint, self.excerpt = what, where, hint, excerpt

    def render(self) -> str:
        """`error:` line, excerpt and `hint:` line, as the terminal and the report show them."""
        lines = [f"error: {self.where}: {self.what}" if self.where else f"error: {self.what}"]
        if self.excerpt:
            lines.append(self.excerpt.rstrip("\n"))
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


class RecipeError(EdgeftError):
    """The recipe or the command line is wrong."""

    exit_code = Exit.USAGE


class StepError(EdgeftError):
    """A step of the build could not be completed."""


class StoreError(EdgeftError):
    """The store cannot be read or written: disk full, a corrupted object, no permission."""


class DeviceError(EdgeftError):
    """A device cannot be reached, or lacks what the build needs of it."""

    exit_code = Exit.DEVICE
