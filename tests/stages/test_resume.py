"""A killed run goes on to the very result of an uninterrupted one, or from further back, never to another."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeft.artifact import Artifact
from tests.stages.world import World, make_world

pytestmark = pytest.mark.ml

OPTIONS: dict[str, Any] = {
    "method": "qlora",
    "max_steps": 24,
    "batch_size": 8,
    "eval_steps": 4,
    "checkpoint_steps": 5,
    "learning_rate": 5e-3,
    "accumulation": 2,
    "compute_dtype": "bfloat16",
}
"""96 rows: an epoch is 6 steps, so checkpoints fall inside and on the edges of epochs, before and after evaluations."""
REPOSITORY = Path(__file__).parents[2]


def killed(world: World, name: str, options: dict[str, Any], point: str) -> None:
    """Run in a child process until it is killed at `point`."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.stages.train_child",
        str(world.root),
        name,
        json.dumps(options),
        point,
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]


def scratch(world: World, name: str) -> Path:
    return world.root / "scratch" / name / "checkpoints"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def whole(world: World) -> Artifact:
    """The uninterrupted run."""
    return world.run(OPTIONS, "whole")


@pytest.mark.parametrize("point", ["step:3", "step:13", "seal:19"])
def test_killed_run_resumes_to_the_same_digest(world: World, whole: Artifact, point: str) -> None:
    name = f"killed-{point.replace(':', '-')}"
    killed(world, name, OPTIONS, point)
    resumed = world.run(OPTIONS, name)
    assert resumed.digest == whole.digest
    assert resumed.facts["training"]["best_step"] == whole.facts["training"]["best_step"]
    assert resumed.facts["training"]["resumed"] == (0 if point == "step:3" else 1)
    losses = [point["eval_loss"] for point in resumed.facts["training"]["curve"]]
    assert losses == [point["eval_loss"] for point in whole.facts["training"]["curve"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", [f"step:{step}" for step in (5, 6, 10, 12, 18, 20, 23, 24)] + [f"seal:{n}" for n in (1, 8, 9, 16, 27, 40)]
)
def test_many_kill_points(world: World, whole: Artifact, point: str) -> None:
    name = f"many-{point.replace(':', '-')}"
    killed(world, name, OPTIONS, point)
    assert world.run(OPTIONS, name).digest == whole.digest


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_other_methods_resume_too(world: World, method: str) -> None:
    options = {key: value for key, value in OPTIONS.items() if key != "compute_dtype"} | {"method": method}
    killed(world, f"{method}-killed", options, "step:13")
    assert world.run(options, f"{method}-killed").digest == world.run(options, f"{method}-whole").digest


@pytest.mark.parametrize("point", ["step:8", "step:13"])
def test_rows_grouped_by_length_resume_too(world: World, whole: Artifact, point: str) -> None:
    options = OPTIONS | {"group_by_length": True}
    name = f"grouped-{point.replace(':', '-')}"
    killed(world, name, options, point)
    resumed = world.run(options, name)
    assert resumed.digest == world.run(options, f"{name}-whole").digest
    assert resumed.digest != whole.digest


def test_killed_twice(world: World, whole: Artifact) -> None:
    killed(world, "twice", OPTIONS, "step:8")
    killed(world, "twice", OPTIONS, "step:17")
    resumed = world.run(OPTIONS, "twice")
    assert resumed.digest == whole.digest
    assert resumed.facts["training"]["resumed"] == 2


@pytest.fixture(scope="module")
def at_seventeen(world: World) -> Path:
    """Scratch of a run killed at step 17: checkpoints 10 and 15."""
    killed(world, "seventeen", OPTIONS, "step:17")
    folder = scratch(world, "seventeen")
    assert sorted(path.name for path in folder.glob("step-*")) == ["step-10", "step-15"]
    return folder


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


EXPECTED = [
    "adapter_config.json", "adapter_model.safetensors", "best.safetensors", "complete.json", "optimizer.pt", "rng_state.pth",
    "sampler.json", "scheduler.pt", "trainer_state.json",
]  # fmt: skip


def test_checkpoint_holds_what_the_next_test_removes(at_seventeen: Path) -> None:
    assert files_of(at_seventeen / "step-15") == EXPECTED


@pytest.mark.parametrize("name", EXPECTED)
def test_any_file_removed_means_the_checkpoint_before(
    world: World, whole: Artifact, at_seventeen: Path, name: str
) -> None:
    copy = f"without-{name}"
    shutil.copytree(at_seventeen, scratch(world, copy))
    (scratch(world, copy) / "step-15" / name).unlink()
    world.warnings.clear()
    resumed = world.run(OPTIONS, copy)
    assert resumed.digest == whole.digest
    missing = "has no marker" if name == "complete.json" else f"{name} is missing"
    assert [text for text in world.warnings if "step-15" in text and missing in text]
    assert not [text for text in world.warnings if "step-10" in text]


def test_a_changed_byte_is_noticed(world: World, whole: Artifact, at_seventeen: Path) -> None:
    shutil.copytree(at_seventeen, scratch(world, "changed"))
    victim = scratch(world, "changed") / "step-15" / "optimizer.pt"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))
    world.warnings.clear()
    assert world.run(OPTIONS, "changed").digest == whole.digest
    assert any("optimizer.pt has changed" in text for text in world.warnings)


def test_no_whole_checkpoint_starts_anew(world: World, whole: Artifact, at_seventeen: Path) -> None:
    shutil.copytree(at_seventeen, scratch(world, "none"))
    for step in ("step-10", "step-15"):
        (scratch(world, "none") / step / "rng_state.pth").unlink()
    world.warnings.clear()
    resumed = world.run(OPTIONS, "none")
    assert resumed.digest == whole.digest
    assert resumed.facts["training"]["resumed"] == 0
    assert len([text for text in world.warnings if "rng_state.pth is missing" in text]) == 2


def test_a_finished_run_is_not_trained_again(world: World, whole: Artifact) -> None:
    """Killed between the last checkpoint and the commit: the Trainer, asked to resume, would take a step too many."""
    shutil.copytree(scratch(world, "whole"), scratch(world, "finished"))
    world.progress.clear()
    again = world.run(OPTIONS, "finished")
    assert again.digest == whole.digest
    assert not world.progress
    assert again.facts["training"]["steps"] == 24


def test_early_stop_survives_a_kill(world: World) -> None:
    options = OPTIONS | {"patience": 1, "metric": "loss", "learning_rate": 0.05, "max_steps": 60}
    whole = world.run(options, "early-whole")
    training = whole.facts["training"]
    assert training["stopped_early"] and training["steps"] < 60
    shutil.copytree(scratch(world, "early-whole"), scratch(world, "early-again"))
    again = world.run(options, "early-again")
    assert again.digest == whole.digest
    assert again.facts["training"]["steps"] == training["steps"]


def test_checkpoint_of_another_batch_size_is_refused(world: World, at_seventeen: Path) -> None:
    shutil.copytree(at_seventeen, scratch(world, "other"))
    world.warnings.clear()
    result = world.run(OPTIONS | {"batch_size": 4}, "other")
    assert any("another batch_size (8, now 4)" in text for text in world.warnings)
    assert result.facts["training"]["resumed"] == 0
