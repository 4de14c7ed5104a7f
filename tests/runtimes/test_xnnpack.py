"""The ExecuTorch runtime file: right answers, signature, placement and profile, foreign and damaged files."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("executorch")

from edgeft.runtimes import xnnpack

pytestmark = pytest.mark.ml


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """A program edgeft did not make: a linear layer (XNNPACK's) and a cumulative sum (a portable kernel)."""
    import torch
    from edgeft_exporters.torch_capture import quiet_tools

    class Foreign(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 3)

        def forward(self, x: torch.Tensor, add: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = torch.cumsum(self.layer(x), dim=1)
            return y, add + 1

    torch.manual_seed(0)
    module = Foreign().eval()
    with quiet_tools():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        example = (torch.zeros(2, 4), torch.zeros(2, dtype=torch.int32))
        program = torch.export.export(module, example, strict=True)
        raw = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch().buffer
    path = tmp_path_factory.mktemp("pte") / "foreign.pte"
    path.write_bytes(bytes(raw))
    return path, module.layer.weight.detach().numpy(), module.layer.bias.detach().numpy()


def feeds() -> dict[str, Any]:
    return {
        "input_0": np.arange(8, dtype=np.float32).reshape(2, 4),
        "input_1": np.array([3, 4], dtype=np.int32),
    }


def test_a_foreign_program_answers(model: Any) -> None:
    path, weight, bias = model
    session = xnnpack.load(str(path), {"threads": 1})
    assert session.signature() == {
        "inputs": [
            {"name": "input_0", "dtype": "float32", "shape": [2, 4]},
            {"name": "input_1", "dtype": "int32", "shape": [2]},
        ],
        "outputs": [
            {"name": "output_0", "dtype": "float32", "shape": [2, 3]},
            {"name": "output_1", "dtype": "int32", "shape": [2]},
        ],
    }
    answer = session.run(feeds())
    assert answer["output_0"] == pytest.approx(np.cumsum(feeds()["input_0"] @ weight.T + bias, axis=1), abs=1e-5)
    assert answer["output_1"].tolist() == [4, 5]
    other = session.run({**feeds(), "input_0": np.zeros((2, 4), dtype=np.float32)})
    assert not np.array_equal(answer["output_0"], other["output_0"]), "an answer is a copy, not the program's memory"
    session.close()


def test_placement_and_profile_are_of_what_ran(model: Any) -> None:
    session = xnnpack.load(str(model[0]), {"threads": 1})
    with pytest.raises(ValueError, match="run the model once"):
        session.placement()
    session.run(feeds())
    placement = session.placement()
    assert placement["XnnpackBackend"] >= 1 and placement["portable"] >= 1
    rows = session.operators(4)
    assert sum(1 for row in rows if row["op"] != "DelegateCall") == sum(placement.values())
    by_op = {row["op"]: row for row in rows}
    assert by_op["cumsum.out"]["backend"] == "portable"
    assert any(op.startswith("Fully Connected") and by_op[op]["backend"] == "XnnpackBackend" for op in by_op)
    assert all(row["ms"] >= 0 for row in rows) and sum(row["ms"] for row in rows) > 0
    assert len({row["name"] for row in rows}) == len(rows)
    with pytest.raises(ValueError, match="at least one run"):
        session.operators(0)


def test_errors_are_short_sentences(model: Any, tmp_path: Path) -> None:
    session = xnnpack.load(str(model[0]), {})
    with pytest.raises(ValueError, match=r"takes \['input_0', 'input_1'\], got \['z'\]"):
        session.run({"z": np.zeros(1)})
    with pytest.raises(ValueError, match=r"input_0 is float32 \[2, 4\], got int64 \[2, 4\]"):
        session.run({**feeds(), "input_0": np.zeros((2, 4), dtype=np.int64)})
    with pytest.raises(ValueError, match=r".+") as caught:
        session.run({**feeds(), "input_0": np.zeros((7, 4), dtype=np.float32)})
    assert len(str(caught.value)) <= 400 and "\n" not in str(caught.value)
    assert session.run(feeds())["output_1"].tolist() == [4, 5], "a refused input leaves the session usable"


@pytest.mark.parametrize("damage", ["nothing", "text", "short", "offset"])
def test_what_is_no_program_is_refused(model: Any, tmp_path: Path, damage: str) -> None:
    raw = model[0].read_bytes()
    damaged = {
        "nothing": b"",
        "text": b"certainly not a program",
        "short": raw[:200],
        "offset": b"\xff\xff\xff\x7f" + raw[4:],
    }
    path = tmp_path / "bad.pte"
    path.write_bytes(damaged[damage])
    with pytest.raises(ValueError, match="ExecuTorch program"):
        xnnpack.load(str(path), {})


def test_what_the_runtime_lacks_is_named(model: Any) -> None:
    from executorch.extension.pybindings import _C

    plan = xnnpack.read_plan(str(model[0]))
    assert plan["name"] == "forward" and plan["delegates"] == ["XnnpackBackend"] * len(plan["calls"])
    assert "aten::cumsum.out" in plan["operators"]
    xnnpack.check_available(plan, _C)
    with pytest.raises(ValueError, match=r"no kernel for acme::fancy\.out"):
        xnnpack.check_available({**plan, "operators": ["aten::add.out", "acme::fancy.out"]}, _C)
    with pytest.raises(ValueError, match="no backend VulkanBackend"):
        xnnpack.check_available({**plan, "delegates": ["VulkanBackend"]}, _C)


def test_describe_says_what_is_here() -> None:
    about = xnnpack.describe()
    assert "XnnpackBackend" in about["executorch_backends"] and int(about["executorch_kernels"]) > 100
    assert about["executorch"] and about["executorch_imports_torch"]


def test_it_imports_only_what_a_device_has() -> None:
    tree = ast.parse(Path(xnnpack.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= {"numpy", "torch", "executorch", *sys.stdlib_module_names}
