"""A side may be of any runtime: LiteRT, OpenVINO and ExecuTorch files of the same weights against an ONNX bundle."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from edgeft_exporters.torch_capture import quiet_tools

from tests.check import kit
from tests.check.conftest import Ask
from tests.check.test_check import verdict

pytestmark = pytest.mark.ml


def torch_model(weights: Any) -> tuple[Any, tuple[Any, Any]]:
    """`kit.text_model` as a module, and what it is traced on: one case."""
    import torch

    class Sum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding.from_pretrained(torch.tensor(weights))

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return (self.table(input_ids) * attention_mask.unsqueeze(2)).sum(dim=1)

    # Two tensors: of one given twice the converters make one input.
    ids, mask = (torch.ones(1, kit.LENGTH, dtype=torch.int64) for _ in range(2))
    return Sum().eval(), (ids, mask)


def to_tflite(path: Path, weights: Any) -> None:
    """By litert-torch, which names inputs args_0 and args_1."""
    with quiet_tools():
        import litert_torch

        module, example = torch_model(weights)
        litert_torch.convert(module, example).export(str(path))


def to_xml(path: Path, weights: Any) -> None:
    """By OpenVINO, from ONNX: .xml with its .bin."""
    import openvino

    onnx = kit.text_model(path.with_suffix(".onnx"), weights)
    openvino.save_model(openvino.convert_model(onnx), path, compress_to_fp16=False)
    onnx.unlink()


def to_pte(path: Path, weights: Any) -> None:
    """By ExecuTorch, which names inputs by their place."""
    with quiet_tools():
        import torch
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        module, example = torch_model(weights)
        program = torch.export.export(module, example, strict=True)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        path.write_bytes(bytes(lowered.to_executorch().buffer))


@pytest.mark.parametrize(
    ("suffix", "package", "write"),
    [(".tflite", "litert_torch", to_tflite), (".xml", "openvino", to_xml), (".pte", "executorch", to_pte)],
)
def test_a_file_of_another_runtime_is_a_side(
    world: Path,
    texts: kit.Texts,
    ask: Ask,
    capsys: pytest.CaptureFixture[str],
    suffix: str,
    package: str,
    write: Callable[[Path, Any], None],
) -> None:
    """As the candidate and as the baseline; and one whose answers are worse is seen to be."""
    if find_spec(package) is None:
        pytest.skip(f"needs {package}")
    write(world / f"same{suffix}", texts.weights)
    write(world / f"bad{suffix}", kit.worse(texts.weights, 0.3))
    capsys.readouterr()  # what converters print
    code, record = ask(f"same{suffix} --baseline base --data test.csv --no-latency --no-size")
    accuracy = verdict(record, "accuracy")
    assert code == 0, (accuracy["why"], record["notes"])
    assert accuracy["n"] == 480 and "0 lost, 0 gained" in accuracy["why"]
    assert record["candidate"]["runtime"] != record["baseline"]["runtime"] == "onnxruntime"
    code, record = ask(f"bad{suffix} --baseline base --data test.csv --no-latency --no-size")
    assert code == 1 and verdict(record, "accuracy")["status"] == "FAIL"
    code, record = ask(f"base --baseline same{suffix} --data test.csv --no-latency --no-size")
    assert code == 0 and record["baseline"]["form"] == "model"
