"""Runs as a process of its own: `python child.py model.onnx OUT PLATFORM REPORT`.

onnxruntime's converter and usability checker print, configure the root logger and change sys.path when imported; here
that ends with the process. Writes OUT/model.ort and OUT/*.config, and to REPORT what the checker says, as JSON.
ONNX Runtime's telemetry is off: the caller sets ORT_DISABLE_TELEMETRY.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any


def convert(model: Path, out: Path, platform: str) -> None:
    """model.ort with all optimisations baked in ("fixed" style), and the operators and types a minimal build needs."""
    from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort

    convert_onnx_models_to_ort(
        model,
        out,
        optimization_styles=[OptimizationStyle.Fixed],
        target_platform=platform or None,
        enable_type_reduction=True,
    )


def check_usability(model: Path, fixed_shapes: bool) -> dict[str, Any]:
    """Accelerator -> {verdict: no|maybe|yes, nodes, supported, partitions, unsupported} as onnxruntime's checker says.

    It goes by operator names and ranks on the graph after basic optimisation, as its command does. fixed_shapes: count
    nodes as if the app fixed the shapes, which NNAPI needs. Not measured: no accelerator is asked.
    """
    from onnxruntime.tools.mobile_helpers import usability_checker as checker
    from onnxruntime.tools.onnx_model_utils import ModelProtoWithShapeInfo

    graph = ModelProtoWithShapeInfo(model).model_with_shape_info
    dynamic = not fixed_shapes
    found = {
        "NNAPI": checker.check_nnapi_partitions(graph, dynamic),
        "CoreML NeuralNetwork": checker.check_coreml_partitions(
            graph, dynamic, "coreml_supported_neuralnetwork_ops.md"
        ),
        "CoreML MLProgram": checker.check_coreml_partitions(graph, dynamic, "coreml_supported_mlprogram_ops.md"),
    }
    return {
        name: {
            "verdict": info.suitability().name.lower(),
            "nodes": info.num_nodes,
            "supported": info.num_supported_nodes,
            "partitions": info.num_partitions,
            "unsupported": sorted({op.rpartition(":")[2] for op in info.unsupported_ops}),
        }
        for name, info in found.items()
    }


def main(argv: list[str]) -> int:
    """Exit code 0 with a report, or 3 with {"error": sentence} in it."""
    from onnxruntime.tools.onnx_model_utils import optimize_model

    model, out, platform, report = Path(argv[1]), Path(argv[2]), argv[3], Path(argv[4])
    logging.disable(logging.WARNING)
    try:
        convert(model, out, platform)
        plain = report.with_name("basic.onnx")
        optimize_model(model, plain, use_external_initializers=True)
        result: dict[str, Any] = {"as_is": check_usability(plain, False), "fixed_shapes": check_usability(plain, True)}
    except Exception as error:  # noqa: BLE001  whatever the converter raises goes to the parent as a sentence
        result = {"error": " ".join(str(error).split())[:400] or type(error).__name__}
    report.write_text(json.dumps(result), encoding="utf-8")
    return 3 if "error" in result else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
