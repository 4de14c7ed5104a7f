"""What `target_latency_ms` times: a candidate of the target, the first that the network can be exported as."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from edgeft.pipeline.build import Options, prepare_build
from edgeft.pipeline.progress import Plain
from edgeft.pipeline.steps.trunk import plan_trunk
from edgeft.recipe.load import load_recipe
from edgeft.store import Store
from tests.pipeline.conftest import Workbench
from tests.pipeline.test_prune import IMAGES, NET, with_prune

pytestmark = pytest.mark.ml
Bench = Callable[..., Workbench]


@pytest.mark.parametrize(
    ("target", "first", "all_of_them"),
    [
        ("", "onnx/int8-dynamic", 3),
        (", candidates: [float, int8-static]", "onnx/int8-static", 2),
        (", candidates: [float]", "onnx/float", 1),
        (", search: {}, candidates: [int8-static-mse]", "onnx/int8-static-mse", 2),
    ],
)
def test_a_latency_budget_is_of_a_candidate_that_the_target_has(
    workbench: Bench, target: str, first: str, all_of_them: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = with_prune("method: structured, target_latency_ms: 5")
    bench = workbench(replace=[*step, ("export: [onnx]", f"export: [onnx]{target}")])
    monkeypatch.chdir(bench.folder)
    text = (bench.folder / "recipe.yaml").read_text()
    (bench.folder / "recipe.yaml").write_text(text.replace("{protocol: none}", "{protocol: quick}"))
    loaded = load_recipe("recipe.yaml")
    plan = prepare_build(loaded, Store(bench.folder / "store"), Options(), Plain(io.StringIO())).plan
    spec = next(spec for spec in plan.specs if spec.id == "prune/ratio")
    order = spec.config["order"]
    data_alone = plan_trunk(loaded, plan.inputs, Store(bench.folder / "store"))
    assert "prune/ratio" not in [spec.id for spec in data_alone.specs], "`edgeft inspect --recipe` reads the data alone"
    assert order[0] == first and order[-1] == "onnx/float" and len(order) == all_of_them


@pytest.mark.slow
def test_what_a_network_cannot_be_exported_as_is_not_what_a_latency_budget_times(workbench: Bench) -> None:
    """Dynamic int8 takes linear layers, and this network has convolutions alone."""
    bench = workbench()
    ratio = "ratio: 0.5, importance: taylor, spread: global, heal_steps: 30, heal_learning_rate: 0.005"
    text = IMAGES.replace(ratio, "target_latency_ms: 10000").replace("candidates: [int8-static], ", "")
    (bench.folder / "recipe.yaml").write_text(text.replace("{protocol: none}", "{protocol: quick}"))
    head = "self.head(torch.relu(x + self.outer(torch.relu(self.inner(x)))).amax((2, 3)))"
    code = NET.replace("torch.nn.Linear(16, num_labels)", "torch.nn.Conv2d(16, num_labels, 1)").replace(
        head, "self.head(torch.relu(x + self.outer(torch.relu(self.inner(x))))).amax((2, 3))"
    )
    (bench.folder / "net.py").write_text(code)
    done = bench.run("build", "recipe.yaml", "--to", "prune")
    assert done.returncode == 0, done.stderr
    assert bench.record()["pruning"][0]["search"]["candidate"] == "onnx/int8-static"
