"""An ONNX file that is quantised already: nothing can be compressed again, and its answers hang on the batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeft.recipe.load import LoadedRecipe
from edgeft.targets.inspect.run import QUANTISED


def refuse_quantised(loaded: LoadedRecipe, file: Path) -> None:
    """RecipeError at `model.onnx` with the operators. A file that cannot be read is left to the step that opens it."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

    try:
        graph = onnx.load(str(file), load_external_data=False).graph
    except (DecodeError, ValueError, OSError):
        return
    found = Counter(kind for kind in _operators(graph) if kind in QUANTISED)
    if found:
        said = ", ".join(f"{count} {name}" for name, count in sorted(found.items()))
        raise loaded.error(
            ("model", "onnx"),
            f"{file.name} is already quantised: {said}",
            f"give the float model that it was made from; `edgeft profile {file}` times it as it is",
        )


def _operators(graph: Any) -> Iterator[str]:
    """Operator types of a graph and of its sub-graphs."""
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _operators(inner)
