"""The contract of a runtime module: one file, importable on the target with stdlib, numpy and its runtime only.

A runtime is a *module* (edgeft/runtimes/ort.py) because that one file is what travels to the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from edgeft.task import Arrays


class Session(Protocol):
    """A loaded artefact."""

    def run(self, feeds: Arrays) -> dict[str, Any]:
        """Runtime input name -> array in, runtime output name -> array out."""
        ...

    def placement(self) -> Mapping[str, int]:
        """Execution provider or backend -> number of nodes it really runs."""
        ...

    def close(self) -> None:
        """Release memory and files."""
        ...


class Runtime(Protocol):
    """What each file in edgeft/runtimes/ defines at module level."""

    NAME: str
    DISTRIBUTIONS: tuple[str, ...]

    def load(self, path: str, options: Mapping[str, Any]) -> Session:
        """Open the artefact; options: {threads: int, providers: [...]}"""
        ...

    def describe(self) -> dict[str, str]:
        """Versions and build facts of the runtime on this machine."""
        ...
