"""A smaller micro-batch when memory runs out, with the gradient unchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeft.errors import StepError

if TYPE_CHECKING:
    import torch

    Batch = Mapping[str, torch.Tensor]

HINT = "lower batch_size and raise accumulation, or serve.length, or use method: qlora"


@dataclass
class MicroBatches:
    """Runs one micro-batch, in halves where it does not fit, and remembers the size that did.

    The loss is a sum divided by the number of items of the whole step, so halves add up to the same gradient (up to
    rounding, and up to dropout, whose random numbers fall differently). transformers' own remedy multiplies the batch
    by 0.9 and restarts with the mutated model: another run altogether. splittable: False under DDP and FSDP, where
    one process running more backward passes than the others would wait for them for ever.
    """

    parameters: Sequence[torch.nn.Parameter]
    splittable: bool = True
    limit: int | None = None

    def run(self, batch: Batch, step: Callable[[Batch], torch.Tensor]) -> torch.Tensor:
        """Sum of the losses of all parts, detached. step: forward and backward of one part, gradients accumulated."""
        rows = len(next(iter(batch.values())))
        size = rows if self.limit is None else min(rows, self.limit)
        total = None
        for start in range(0, rows, size):
            loss = self._attempt({name: tensor[start : start + size] for name, tensor in batch.items()}, step)
            total = loss if total is None else total + loss
        if total is None:
            raise StepError("an empty batch reached the training step")
        return total

    def _attempt(self, part: Batch, step: Callable[[Batch], torch.Tensor]) -> torch.Tensor:
        rows = len(next(iter(part.values())))
        earlier = self._set_aside()
        try:
            loss = step(part)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            loss = None
            error.__traceback__ = None  # its frames hold the activations that did not fit
        if loss is not None:
            self._add_back(earlier)
            return loss
        self._restore(earlier)
        self._shrink(rows)
        return self.run(part, step)

    def _shrink(self, rows: int) -> None:
        import torch

        if not self.splittable:
            raise StepError(
                "out of memory, and under data parallelism a batch cannot be split in one process", hint=HINT
            )
        if rows == 1:
            raise StepError("out of memory with a single example", hint=HINT)
        self.limit = (rows + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _set_aside(self) -> list[torch.Tensor | None] | None:
        """Gradients so far, taken off the parameters: a backward pass that fails half way must leave nothing behind."""
        if not self.splittable or all(parameter.grad is None for parameter in self.parameters):
            return None
        earlier = [parameter.grad for parameter in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        return earlier

    def _add_back(self, earlier: list[torch.Tensor | None] | None) -> None:
        if earlier is None:
            return
        for parameter, before in zip(self.parameters, earlier, strict=True):
            if before is not None:
                parameter.grad = before if parameter.grad is None else before.add_(parameter.grad)

    def _restore(self, earlier: list[torch.Tensor | None] | None) -> None:
        for index, parameter in enumerate(self.parameters):
            parameter.grad = earlier[index] if earlier is not None else None


def is_out_of_memory(error: RuntimeError) -> bool:
    """True for torch.OutOfMemoryError and for the CPU allocator's plain RuntimeError."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
