"""The quickstart's int8 artefacts against its float export: interleaved latency in one process, and accuracy.

Builds the quickstart first (cached after that); reads the artefacts from the store by the digests of its record.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RECIPE = "edgeft:text/quickstart"


def main() -> None:
    """Print one line per int8 candidate."""
    from edgeft_exporters.onnx import OnnxExporter

    from edgeft.artifact import Artifact
    from edgeft.device.profile import load_device
    from edgeft.store import Store
    from edgeft.targets.compare import compare_latency

    with tempfile.TemporaryDirectory() as out:
        subprocess.run(
            [sys.executable, "-m", "edgeft", "build", RECIPE, "--quiet", "--out", out],
            check=False,
            stdout=subprocess.DEVNULL,
        )
        record: dict[str, Any] = json.loads((Path(out) / "quickstart/record.json").read_text())
    store, exporter, device = Store(), OnnxExporter(), load_device("local-cpu")
    digests = {row["id"]: row["digest"] for row in record["steps"]}

    def artefact(name: str) -> tuple[Artifact, Any]:
        digest = digests[f"local-cpu/onnx/{name}"]
        found = Artifact("onnx", store.layout.object(digest), digest)
        return found, exporter.signature(found)

    feeds = search_feeds(store.layout.object(digests["data"]), store.layout.object(digests["prepare"]))
    plain = artefact("float")
    accuracy = {row["name"]: metric(row, "accuracy") for row in record["targets"][0]["candidates"]}
    for name in ("int8-dynamic", "int8-static"):
        found = compare_latency(device, exporter.runtime, plain, artefact(name), feeds, seconds=20.0)
        low, high = found.interval
        lost = 100 * (accuracy["onnx/float"] - accuracy[f"onnx/{name}"])
        print(
            f"{name}: {found.b_ms:.2f} ms against {found.a_ms:.2f} ms float, {found.ratio:.2f} times faster "
            f"(95% {low:.2f} to {high:.2f}, {found.blocks} blocks), {lost:+.2f} points of search-set accuracy lost"
        )


def search_feeds(dataset: Path, prepared: Path) -> Any:
    """Sixty-four real cases in the serve shape."""
    from edgeft.data.table import read_split
    from edgeft.tasks.text_classification import TextClassification

    return TextClassification().feeds(read_split(dataset / "search.parquet").slice(0, 64), prepared)


def metric(row: dict[str, Any], name: str) -> float:
    """A candidate's search-set metric."""
    return next(float(item["value"]) for item in row["metrics"] if item["metric"] == name)


if __name__ == "__main__":
    main()
