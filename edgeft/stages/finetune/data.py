"""Splits as tensors: texts tokenised once and held, images decoded a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError
from edgeft.task import DenseTask, SelfSupervisedTask, SeveralTask, WindowedTask, case_rows

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from edgeft.stage import Context

ROW = "row"
"""Position of each example in its split: travels in the batch to name a bad one; the model never sees it."""
HELD_BYTES = 512 << 20
"""Feeds of a split up to this size are made once and held; larger ones are made for every batch."""

Feeds = Mapping[str, Any]


@dataclass(frozen=True)
class Examples:
    """A split for training. feeds: name -> (n, ...) array held in memory, empty where they are made by `make`.

    labels (n,) int64, or None where the truth is a mask per case, which `truth` gives for some rows, or lies in the
    feeds, from which `asked` takes it; rows: the table they came from. make: rows -> canonical feeds; plain: canonical
    feeds -> what the model takes. blank: where each step draws its own windows of the rows, what an example is until
    then: zeros of a window's shape by name.
    """

    feeds: Feeds
    labels: torch.Tensor | None
    rows: pa.Table
    make: Callable[[Any], Feeds] = field(default=lambda rows: {})
    plain: Callable[[Feeds], Feeds] = field(default=lambda feeds: feeds)
    truth: Callable[[Any], Any] | None = None
    asked: Callable[[Feeds], Any] | None = None
    names: tuple[str, ...] = ()
    blank: Mapping[str, torch.Tensor] = field(default_factory=dict)
    drawn: Callable[[Any, Sequence[Sequence[int]]], Any] | None = None

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """A whole batch at once; torch's DataLoader calls this instead of item after item."""
        import numpy as np
        import torch

        places = np.asarray(indices, dtype=np.int64)
        at = torch.from_numpy(places)
        if self.blank:
            return {**{name: zeros.expand(len(places), *zeros.shape) for name, zeros in self.blank.items()}, ROW: at}
        given = {name: array[places] for name, array in self.feeds.items()} or self.make(self.rows.take(places))
        batch = self._tensors(given)
        if self.asked is not None:
            labels = torch.from_numpy(self.asked(given))
        elif self.truth is not None:
            found = np.asarray(self.truth(self.rows.take(places)))
            labels = torch.from_numpy(found if found.dtype == np.float32 else found.astype(np.int64))
        elif self.labels is not None:
            labels = self.labels[at]
        else:
            raise StepError("the split has neither labels nor masks")
        return {**batch, "labels": labels, ROW: at}

    def draw(self, batch: Mapping[str, torch.Tensor], *key: int) -> Mapping[str, torch.Tensor]:
        """The batch with windows in place of zeros, where windows are drawn. A row's depends on the key and the row
        alone: micro-batches, resumption and the number of processes do not change it."""
        import torch

        if self.drawn is None or self.truth is None:
            return batch
        places = [int(place) for place in batch[ROW]]
        rows = self.drawn(self.rows.take(places), [(*key, place) for place in places])
        return {**batch, **self._tensors(self.make(rows)), "labels": torch.from_numpy(self.truth(rows))}

    def _tensors(self, given: Feeds) -> dict[str, torch.Tensor]:
        """Canonical feeds as what the model takes of them."""
        import numpy as np
        import torch

        made = self.plain(given).items()
        return {
            name: torch.from_numpy(np.ascontiguousarray(array))
            for name, array in made
            if not self.names or name in self.names
        }


def read_examples(
    ctx: Context, split: str, *modules: torch.nn.Module, windows: int = 0, only: Mapping[str, Any] | None = None
) -> Examples:
    """The split's feeds that any of the modules takes, and its labels. Raises StepError for a label out of range.

    windows: of a windowed task, how many of each case an epoch draws; 0: the same few windows every time. only: column
    -> value or values that a row must have there to be taken.
    """
    import numpy as np
    import pyarrow as pa
    import torch

    from edgeft.data.table import read_split
    from edgeft.models.predict import chosen_feeds
    from edgeft.stages.finetune.only import select

    if ctx.prepared is None:
        raise StepError(
            "preprocessing has not been prepared", where=f"step {ctx.step}", hint="the prepare step comes first"
        )
    prepared = ctx.prepared
    rows = read_split(ctx.splits[split].path)
    if only:
        rows = select(rows, only, f"step {ctx.step}, {split} split")
    if drawing := windows if isinstance(ctx.task, WindowedTask) else 0:
        rows = pa.concat_tables([rows] * drawing)
    else:
        rows = case_rows(ctx.task, rows, prepared)
    first = ctx.task.feeds(rows.slice(0, 1), prepared)
    made = ctx.task.plain(first, prepared)
    names = tuple(name for name in made if any(name in chosen_feeds(module, made) for module in modules))
    if not names:
        raise StepError(
            f"the model takes none of the task's feeds ({', '.join(made)})",
            where=f"step {ctx.step}",
            hint="its forward must name them as arguments",
        )
    size = sum(np.asarray(array).nbytes for array in first.values()) * max(1, rows.num_rows)
    held = ctx.task.feeds(rows, prepared) if size <= HELD_BYTES and not drawing else {}
    truth, asked = _truth(ctx), ctx.task.truth if isinstance(ctx.task, SelfSupervisedTask) else None
    examples = Examples(
        held,
        torch.from_numpy(_labels(ctx, split, rows)) if truth is None and asked is None else None,
        rows,
        make=lambda part: ctx.task.feeds(part, prepared),
        plain=lambda feeds: ctx.task.plain(feeds, prepared),
        truth=truth,
        asked=asked,
        names=names,
    )
    return _drawing(examples, ctx, prepared) if drawing else examples


def _drawing(examples: Examples, ctx: Context, prepared: Path) -> Examples:
    """The same where each step draws its windows: until then an example is zeros that take no memory."""
    import torch

    task = ctx.task
    if not isinstance(task, WindowedTask) or examples.truth is None:
        raise StepError(f"{task.name} has no windows to draw", where=f"step {ctx.step}")
    sample = replace(examples, rows=task.windows(examples.rows.slice(0, 1), prepared)).__getitems__([0])
    blank = {
        name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape[1:])
        for name, tensor in sample.items()
        if name != ROW
    }
    return replace(examples, blank=blank, drawn=lambda rows, keys: task.draw_windows(rows, prepared, keys))


def _truth(ctx: Context) -> Callable[[Any], Any] | None:
    """Masks of some rows, (n, [depth,] height, width), for a task whose truth is one per pixel; 0 and 1, (n, labels),
    float32, where a case has any number of labels."""
    task, prepared = ctx.task, ctx.prepared
    if isinstance(task, SeveralTask):
        return lambda rows: task.targets(rows, ctx.labels)
    if not isinstance(task, DenseTask) or prepared is None:
        return None
    return lambda rows: task.masks(rows, prepared)


def _labels(ctx: Context, split: str, rows: pa.Table) -> Any:
    import numpy as np

    labels = rows.column("label").to_numpy().astype(np.int64)
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(ctx.labels)):
        raise StepError(f"the {split} split has labels outside 0..{len(ctx.labels) - 1}", where=f"step {ctx.step}")
    return labels


GPU_MULTIPLE = 8
"""Lengths on a GPU: its matrix units take 8 at a time, and the first batch of every new length costs 0.1 to 0.2 s
(MiniLM on an H100, 170 steps grouped by length: 20 of 27 s went there)."""


def collate(trim: bool, multiple: int = 1) -> Callable[[Any], dict[str, torch.Tensor]]:
    """The DataLoader's last stage: cut columns that are padding in every row, where the model allows it."""
    from edgeft.models.predict import trim_padding

    def finish(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return trim_padding(batch, multiple) if trim else batch

    return finish


def batch_ids(examples: Examples, batch: Mapping[str, torch.Tensor]) -> list[str]:
    """The `id` column of a batch's rows."""
    ids = examples.rows.column("id")
    return [str(ids[int(index)].as_py()) for index in batch[ROW]]
