"""reproduce.json: which files of a bundle a second build of the same recipe makes byte for byte."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

DIFFERS = {
    "latency.json": "times are measured anew",
    "gates.json": "it holds measured times, and how often the gate set was opened",
    "report.html": "it shows measured times and when the build ran",
    "model_card.md": "it shows measured times",
}
"""Files of a build that hold what is measured; the manifest follows, for it hashes them, and so does a signature."""
SEALS = {"manifest.json": "it holds hashes of the files above", "manifest.sig": "it signs the manifest"}
CONDITIONS = (
    "the same recipe, data and seed",
    "the versions of environment.lock",
    "a CPU with the same flags, and as many threads; a GPU may sum in another order",
    "the same choice among candidates: where times decide, `edgeft build --locked` with the first build's choice.lock",
)


def reproduce_json(files: Iterable[str]) -> dict[str, Any]:
    """`same`: equal bytes are promised under `conditions`. `differs`: file -> why it may not be equal."""
    names = sorted(files)
    return {
        "conditions": list(CONDITIONS),
        "same": [name for name in names if name not in DIFFERS],
        "differs": {name: why for name, why in {**DIFFERS, **SEALS}.items() if name in names or name in SEALS},
    }
