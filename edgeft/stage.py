"""The contract of a trunk stage: torch model in, torch model out, options typed and documented by its fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from edgeft.artifact import Artifact, Kind
from edgeft.canonical import Facts

if TYPE_CHECKING:
    from edgeft.task import Task

SPLITS = ("train", "validation", "calibration", "search", "gate")


@dataclass(frozen=True)
class Split:
    """One split on disk: a parquet file (columns id, group, unit, label and the task's own), n rows, digest."""

    name: str
    path: Path
    n: int
    digest: str


@dataclass(frozen=True)
class Progress:
    """done of total units so far; total 0 means unknown. note: a short figure such as `loss 0.41`."""

    step: str
    done: float
    total: float
    unit: str = ""
    note: str = ""


@dataclass
class Context:
    """What a running step may use besides its inputs; nothing in it is part of the cache key unless said.

    seed, task, labels and the declared splits are part of the key; scratch, threads and callbacks are not
    (threads enters through the host part of the key of numeric steps).
    scratch: a folder of this step key alone, exclusively locked, that survives a kill: checkpoints, logs.
    prepared: folder with preprocess.json and tokenizer files, None before that step.
    """

    step: str
    seed: int
    scratch: Path
    task: Task
    labels: tuple[str, ...] = ()
    splits: Mapping[str, Split] = field(default_factory=dict)
    prepared: Path | None = None
    threads: int = 1
    offline: bool = False
    on_progress: Callable[[Progress], None] = lambda event: None
    on_warning: Callable[[str], None] = lambda text: None

    def progress(self, done: float, total: float, unit: str = "", note: str = "") -> None:
        """Tell the terminal how far this step is."""
        self.on_progress(Progress(self.step, done, total, unit, note))

    def warn(self, text: str) -> None:
        """Something the report must show although the step goes on."""
        self.on_warning(text)


class Stage(BaseModel):
    """A trunk step. Its fields are the recipe's keys; its class variables say what it takes and makes.

    takes: input role -> artifact kinds accepted, in order of preference; role `model` is the previous step, `base` the
    model under an adapter, `teacher` the fine-tuned model (with `teacher_adapter` where it is a base and an adapter).
    models: fields that name a further model as `model.path` does, each with a field NAME_revision beside it; what is
    found there is the input of that role.
    makes: the kind it writes. reads: splits it may see, whose digests enter its key. tools: distributions
    whose versions enter its key. numeric: the host's instruction set and threads enter its key.
    together: all processes of a multi-GPU launch run it at once. keeps_source: what it makes stands for the
    fine-tuned model before it, so gates go on comparing with that one, whatever is trained later. zeroes: it sets
    weights to zero, which training after it should leave alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    id: str | None = Field(
        None, description="Name of this step when the recipe has two of a kind.", pattern=r"^[a-z][a-z0-9-]*$"
    )

    name: ClassVar[str]
    version: ClassVar[int] = 1
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"model": ("torch-model",)}
    models: ClassVar[tuple[str, ...]] = ()
    makes: ClassVar[Kind] = "torch-model"
    reads: ClassVar[tuple[str, ...]] = ()
    tools: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    numeric: ClassVar[bool] = True
    together: ClassVar[bool] = False
    keeps_source: ClassVar[bool] = False
    zeroes: ClassVar[bool] = False

    @property
    def trains(self) -> bool:
        """Whether it trains the model's head, so that a fresh one is no random one after it."""
        return "train" in self.reads

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data that it reads besides the task's own; the splits keep them and its key holds them."""
        return ()

    @property
    def fills_zeros(self) -> bool:
        """Whether it cannot help but change weights that an earlier step set to zero."""
        return False

    def refusal(self, task: Task, gpus: Sequence[str]) -> tuple[str, str, str] | None:
        """(key, what, hint) where these options cannot work for the task, or with these GPUs; the plan tells it."""
        return None

    def run(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        """Write the result into `out` (an empty folder; canonical bytes only) and return its facts (JSON)."""
        raise NotImplementedError(type(self).__name__)

    def foresee(self, model: Artifact, ctx: Context) -> Facts | None:
        """What can be told of this step from the model as it is before any training; None: nothing.

        A step behind another that trains is asked before that one runs: a layer that cannot be adapted is to be told of
        in the first minute, not after hours. Raises StepError.
        """
        return None

    def estimate(self, rows: Mapping[str, int], model_bytes: int) -> dict[str, Any]:
        """{seconds, memory_mb, disk_mb, basis} before running; rows: split -> count. Empty: not known."""
        return {}
