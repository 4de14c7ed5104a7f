"""The loaded recipe: places, the resolved text, shipped recipes, plug-in stages, and what loading does not import."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from edgeft import plugins
from edgeft.errors import RecipeError
from edgeft.recipe.catalogue import shipped_recipes
from edgeft.recipe.dump import dump_recipe, scalar
from edgeft.recipe.load import load_recipe
from edgeft.recipe.parse import parse_yaml
from edgeft.recipe.tree import Source, plain
from edgeft.stage import Stage
from tests.recipe.conftest import Write
from tests.recipe.mistakes import GOOD

LOAD_SECONDS = 0.15
"""The budget of one load once modules are imported; it is part of `edgeft plan`'s half second."""
TEMPLATES = ("text/finetuned", "text/adapter", "text/onnx", "text/searched")


class Prune(Stage):
    """Remove channels."""

    name: ClassVar[str] = "prune"
    ratio: float = Field(gt=0, lt=1, description="0.25 removes a quarter of the channels.")
    keep: frozenset[str] = Field(frozenset(), description="Layers to leave alone.")
    method: str = Field("structured", description="How.")


@pytest.fixture
def with_prune(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stage from another package, as an entry point would bring it."""
    real: Callable[[str], dict[str, Any]] = plugins._table.__wrapped__
    entry = EntryPoint("prune", "tests.recipe.test_load:Prune", "edgeft.stages")
    monkeypatch.setattr(plugins, "_table", lambda group: real(group) | ({"prune": entry} if group == "stages" else {}))
    plugins.load.cache_clear()
    yield
    plugins.load.cache_clear()


def test_stage_of_another_package(with_prune: None, write: Write) -> None:
    text = GOOD.replace("  - merge\n", "  - merge\n  - prune: {ratio: 0.25, keep: [b, a]}\n")
    loaded = load_recipe(write(text=text))
    assert isinstance(loaded.recipe.steps[2], Prune)
    assert loaded.recipe.steps[2].keep == {"a", "b"}
    assert load_recipe(write("again.yaml", loaded.resolved_yaml)).recipe == loaded.recipe


def test_design_example(with_prune: None, write: Write) -> None:
    text = GOOD.replace("  - merge\n", "  - prune: {ratio: 1.4}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(text=text))
    assert caught.value.render() == (
        "error: demo.yaml:7:20 steps[1].prune.ratio: must be below 1, got 1.4\n"
        "  7 |   - prune: {ratio: 1.4}\n"
        "    |                    ^\n"
        "hint: ratio: 0.25 removes a quarter of the channels."
    )


@pytest.mark.parametrize("written", ["- merge", "- merge:", "- merge: {}"])
def test_step_without_options(write: Write, written: str) -> None:
    loaded = load_recipe(write(text=GOOD.replace("- merge", written)))
    assert loaded.recipe == load_recipe(write("plain.yaml")).recipe


def test_default_method_is_qlora(write: Write) -> None:
    recipe = load_recipe(write(text=GOOD.replace("method: qlora, ", ""))).recipe
    assert recipe.steps[0].method == "qlora"  # type: ignore[attr-defined]


def test_where_finds_values_defaults_and_sections(write: Write) -> None:
    loaded = load_recipe(write(), ["seed=3"])
    assert loaded.where(("gates", 0, "margin")) == "demo.yaml:11:55 gates[0].margin"
    assert loaded.where(("steps", 0, "rank")) == "demo.yaml:6:37 steps[0].finetune.rank"
    assert loaded.where(("steps", 0, "finetune", "rank")) == "demo.yaml:6:37 steps[0].finetune.rank"
    assert loaded.where(("steps", 0, "dropout")) == "demo.yaml:6:5 steps[0].finetune.dropout"
    assert loaded.where(("data", "fractions", "gate")) == "demo.yaml:3:1 data.fractions.gate"
    assert loaded.where(("measure",)) == "demo.yaml:1:1 measure"
    assert loaded.where(("seed",)) == "--set seed"
    assert loaded.where(()) == "demo.yaml:1:1"


def test_error_carries_excerpt_and_hint(write: Write) -> None:
    error = load_recipe(write()).error(("gates", 0, "margin"), "cannot pass", "widen it")
    assert isinstance(error, RecipeError)
    assert error.render().splitlines() == [
        "error: demo.yaml:11:55 gates[0].margin: cannot pass",
        "  11 |   - {metric: accuracy, no_worse_than: source, margin: 0.02}",
        "     |                                                       ^",
        "hint: widen it",
    ]


def test_resolved_recipe_is_whole_and_loads_to_an_equal_one(write: Write) -> None:
    write("base.yaml")
    path = write(text="name: top\nextends: base.yaml\nenv: [N]\nserve:\n  length: ${N}\n")
    loaded = load_recipe(path, ["data.labels=['no', 'yes', '1', '']", "finetune.rank=2"], {"N": "32"})
    again = load_recipe(write("other/resolved.yaml", loaded.resolved_yaml), environ={})
    assert again.recipe == loaded.recipe
    assert again.resolved_yaml == loaded.resolved_yaml
    assert "extends" not in loaded.resolved_yaml
    assert "confidence: 0.95" in loaded.resolved_yaml
    assert "learning_rate: 0.0003" in loaded.resolved_yaml


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff\ufffe\uffff"), max_size=12)
    | st.sampled_from(
        ["yes", "~", "null", "1", "1e3", ".nan", "0x1", "", " a", "a: b", "# c", "${X}", "- a", "\u2028"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab:-# ", max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(options=st.dictionaries(st.text("abc", min_size=1, max_size=3), VALUES, max_size=3))
def test_any_options_survive_the_resolved_text(write: Write, options: dict[str, Any]) -> None:
    path = write(text=GOOD.replace("source: csv, path: train.csv", "source: python, path: 'net.py:rows'"))
    recipe = load_recipe(path).recipe
    changed = recipe.model_copy(update={"data": recipe.data.model_copy(update={"options": options})})
    assert load_recipe(write("again.yaml", dump_recipe(changed)), environ={}).recipe == changed


@pytest.mark.parametrize("text", ["\x7f", "a\x85b", "\ufeffx", "\U0001f600", "tab\there", "two\nlines", "$${X}", "'\""])
def test_odd_text_survives(text: str) -> None:
    line = f"a: {scalar(text)}"
    try:
        read = plain(parse_yaml(line, Source("x", shipped_recipes()["text/base"].parent)))
    except RecipeError as error:
        # What no recipe may hold is written so that it is refused, never so that it reads as something else.
        assert "unprintable" in str(error)
    else:
        assert read == {"a": text.replace("${", "$${")}


def test_quickstart_loads_fast_and_says_what_it_does() -> None:
    load_recipe("edgeft:text/quickstart")
    began = time.perf_counter()
    loaded = load_recipe("edgeft:text/quickstart")
    assert time.perf_counter() - began < LOAD_SECONDS
    assert [stage.name for stage in loaded.recipe.steps] == ["finetune", "merge"]
    assert [path.name for path in loaded.files] == ["quickstart.yaml", "base.yaml"]
    assert loaded.recipe.description


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_loads_with_its_variables(write: Write, project: Any, name: str) -> None:
    onnx = name.endswith("onnx")
    values = {
        "MODEL": "net.onnx" if onnx else "./model",
        "ADAPTER": "adapter",
        "TOKENIZER": "model",
        "DATA": "train.csv",
    }
    loaded = load_recipe(f"edgeft:{name}", environ=values)
    assert (loaded.recipe.model.onnx or loaded.recipe.model.path) == str(project / values["MODEL"].removeprefix("./"))
    with pytest.raises(RecipeError) as caught:
        load_recipe(f"edgeft:{name}", environ={})
    assert caught.value.what == "the environment variable MODEL is not set"


def test_docs_router_tries_every_runtime_and_asks_only_accuracy_of_the_emulated_core() -> None:
    here, arm = load_recipe("edgeft:text/docs-router").recipe.targets
    assert here.export == ("onnx", "ort", "litert", "openvino", "executorch", "ncnn")
    assert here.candidates is None
    assert (arm.device, arm.optimise) == ("cortex-a76-emulated", "size")
    assert arm.export == ("onnx", "litert")


@pytest.mark.ml
def test_the_plan_of_docs_router_has_these_candidates_and_times_none_on_the_emulated_core() -> None:
    """Float and int8 of every runtime here, fp16 of ncnn, which has no int8; two forms of two runtimes on the Arm core."""
    from edgeft.device.profile import load_device
    from edgeft.pipeline.steps.candidates import plan_candidates

    loaded = load_recipe("edgeft:text/docs-router")
    devices = {target.device: load_device(target.device) for target in loaded.recipe.targets}
    planned = plan_candidates(loaded, devices, {})
    int8 = ("float", "int8-dynamic", "int8-static")
    forms = dict.fromkeys(("onnx", "ort", "litert", "executorch"), int8)
    forms |= {"openvino": ("float", "int8-weights", "int8-static"), "ncnn": ("float", "fp16")}
    here = {f"local-cpu/{name}/{form}" for name, found in forms.items() for form in found}
    arm = {f"cortex-a76-emulated/{name}/{form}" for name in ("onnx", "litert") for form in int8[:2]}
    halves = {f"local-cpu/openvino/{form}" for form in ("bf16", "fp16")}  # where this CPU computes in them
    assert {candidate.id for candidate in planned} - halves == here | arm
    assert {candidate.id for candidate in planned if candidate.is_timed(loaded.recipe)} - halves == here


def test_the_pruned_recipe_fine_tunes_as_the_quickstart_does_then_prunes() -> None:
    recipe, quick = load_recipe("edgeft:text/pruned").recipe, load_recipe("edgeft:text/quickstart").recipe
    assert recipe.steps[:2] == quick.steps
    assert [(stage.method, stage.heal_steps) for stage in recipe.steps[2:]] == [("depth", 100)]  # type: ignore[attr-defined]
    assert recipe.data == quick.data


def test_the_distilled_recipe_fine_tunes_as_the_quickstart_does_then_halves_the_layers() -> None:
    recipe, quick = load_recipe("edgeft:text/distilled").recipe, load_recipe("edgeft:text/quickstart").recipe
    assert recipe.steps[:2] == quick.steps and recipe.data == quick.data
    step = recipe.steps[2]
    assert (step.name, step.student_layers, step.hidden_weight) == ("distill", 3, 0.5)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "then"),
    [("smallest", ["vocabulary", "qat"]), ("sparse", ["wanda"]), ("thinner", ["structured", "distill"])],
)
def test_recipes_that_compress_start_as_the_quickstart_does(name: str, then: list[str]) -> None:
    recipe, quick = load_recipe(f"edgeft:text/{name}").recipe, load_recipe("edgeft:text/quickstart").recipe
    assert recipe.steps[:2] == quick.steps and recipe.data == quick.data
    assert [getattr(stage, "method", stage.name) for stage in recipe.steps[2:]] == then


def test_every_shipped_recipe_is_covered_here() -> None:
    started = {"text/pruned", "text/distilled", "text/smallest", "text/sparse", "text/thinner"}
    covered = {"text/base", "text/quickstart", "text/docs-router", *started, *TEMPLATES}
    assert {name for name in shipped_recipes() if name.startswith("text/")} == covered


def test_loading_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'pyarrow', 'transformers', 'onnx', 'onnxruntime', 'rich', 'datasets', 'peft'}"
    code = (
        "import sys; from edgeft.recipe.load import load_recipe; load_recipe('edgeft:text/quickstart');"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_empty_name_is_no_folder() -> None:
    with pytest.raises(RecipeError, match="no recipe is named"):
        load_recipe("")
