"""The artefact that the quickstart picks against optimum's int8 ONNX of the same merged model.

`EDGEFT_PEER=/path/to/python python -m bench peer`: that interpreter has optimum-onnx (0.1 wants transformers 4.57, so
it has an environment of its own). optimum exports and quantises (`avx512_vnni`, dynamic, per channel) by its defaults;
both artefacts then run in this environment, on one thread, interleaved, on the same cases.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from bench.build import build

RECIPE = "edgeft:text/quickstart"
EXPORT = """
import sys
from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig
source, target = sys.argv[1:]
model = ORTModelForSequenceClassification.from_pretrained(source, export=True)
model.save_pretrained(target + "/float")
config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
ORTQuantizer.from_pretrained(target + "/float").quantize(save_dir=target + "/int8", quantization_config=config)
"""


def main() -> None:
    """Print accuracy of both and the ratio of their times."""
    python = os.environ.get("EDGEFT_PEER")
    if not python:
        print("peer: not run; EDGEFT_PEER names no interpreter with optimum-onnx")
        return
    from edgeft.device.profile import load_device
    from edgeft.targets.compare import compare_sides

    built, device = build(RECIPE), load_device("local-cpu")
    target = built.record["targets"][0]
    feeds = built.feeds(64)
    with tempfile.TemporaryDirectory() as folder:
        peer = export(python, built.place("merge"), Path(folder), feeds)
        ours = built.side("local-cpu", target["chosen"], feeds)
        found = compare_sides(device, peer, ours, seconds=20.0)
        answers = {"optimum int8": accuracy(built, device, peer), target["chosen"]: accuracy(built, device, ours)}
        answers["float"] = accuracy(built, device, built.side("local-cpu", "onnx/float", feeds))
    low, high = found.interval
    print(
        f"{target['chosen']}: {found.b_ms:.2f} ms against {found.a_ms:.2f} ms of optimum's int8, {found.ratio:.2f} "
        f"times faster (95% {low:.2f} to {high:.2f}, {found.blocks} blocks, {found.how})"
    )
    print("accuracy on the search set: " + ", ".join(f"{name} {value:.2%}" for name, value in answers.items()))


def export(python: str, model: Path, folder: Path, feeds: Any) -> Any:
    """optimum's int8 model as one side of a comparison."""
    from edgeft import plugins
    from edgeft.artifact import Artifact
    from edgeft.targets.compare import Side

    source = folder / "source"
    shutil.copytree(model, source)  # optimum also looks for a tokenizer there and writes beside it
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([python, "-c", EXPORT, str(source), str(folder)], check=True, env=environment, capture_output=True)
    exporter = plugins.load("exporters", "onnx")()
    artifact = Artifact("onnx", next((folder / "int8").glob("*.onnx")), "peer")
    return Side(exporter.runtime, artifact, exporter.signature(artifact), feeds)


def accuracy(built: Any, device: Any, side: Any) -> float:
    """Over the whole search set."""
    from edgeft.targets.measure import run_outputs

    outputs = run_outputs(device, side.runtime, side.artifact, side.signature, built.feeds(), batch=1)
    return float((outputs["logits"].argmax(1) == built.rows().column("label").to_numpy()).mean())


if __name__ == "__main__":
    main()
