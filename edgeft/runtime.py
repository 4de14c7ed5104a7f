"""The contract of a runtime module: one file, importable on the target with stdlib, numpy and its runtime only.

A runtime is a *module* (edgeft/runtimes/ort.py) because that one file is what travels to the device. No file there has
the name of the package it imports: beside the worker it would hide it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from edgeft.task import Arrays


class Session(Protocol):
    """A loaded artefact."""

    def run(self, feeds: Arrays) -> dict[str, Any]:
        """Runtime input name -> array in, runtime output name -> array out. ValueError for what it cannot take."""
        ...

    def signature(self) -> dict[str, list[dict[str, Any]]]:
        """{"inputs": [{"name", "dtype": numpy's name, "shape": [int or symbol, ...]}], "outputs": [the same]}."""
        ...

    def placement(self) -> Mapping[str, int]:
        """Execution provider or backend -> number of nodes it really ran; after one `run`."""
        ...

    def operators(self, runs: int) -> list[dict[str, Any]]:
        """Time per operator over `runs` further runs of the last feeds, in a profiled session of its own, in order.

        [{"name", "op": type, "backend", "ms": mean of one run, "shapes": {"inputs": [[int]], "outputs": [[int]]}}];
        shapes may be missing. ValueError where the runtime has no profiler.
        """
        ...

    def close(self) -> None:
        """Release memory and files."""
        ...


class Runtime(Protocol):
    """What each file in edgeft/runtimes/ defines at module level."""

    NAME: str
    DISTRIBUTIONS: tuple[str, ...]
    """Distributions whose versions change answers or timings; the first is the runtime itself."""
    IMPORTS: tuple[str, ...]
    """Modules that must be importable on the device."""
    SUFFIXES: tuple[str, ...]
    """Of the files it opens: (".onnx", ".ort")."""

    def load(self, path: str, options: Mapping[str, Any]) -> Session:
        """Open the artefact; options: {threads: int, providers: [...], fallback: bool}. ValueError when refused.

        A provider is a name or [name, {option: value}].
        """
        ...

    def describe(self) -> dict[str, str]:
        """Versions and build facts of the runtime on this machine. ImportError where it is not installed."""
        ...
