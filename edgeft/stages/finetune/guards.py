"""Stop at the first loss or gradient that is not a number, with the batch that did it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.canonical import canonical_json
from edgeft.errors import StepError
from edgeft.stages.finetune.data import ROW, Examples, batch_ids

if TYPE_CHECKING:
    import torch

FOLDER = "nan-batch"


class FiniteGuard:
    """Watches losses and gradients of a run. scratch: where an offending batch is kept (scratch/nan-batch)."""

    def __init__(self, examples: Examples, scratch: Path, step_name: str) -> None:
        self.examples, self.folder, self.step_name = examples, scratch / FOLDER, step_name
        self.batch: Mapping[str, torch.Tensor] = {}

    def check_loss(self, loss: torch.Tensor, batch: Mapping[str, torch.Tensor], step: int) -> None:
        """Raises StepError before a non-finite loss is propagated into the weights."""
        import torch

        self.batch = batch
        if not torch.isfinite(loss.detach()):
            self._stop(f"the loss is {float(loss.detach())}", step)

    def check_gradients(self, parameters: Iterable[torch.nn.Parameter], step: int) -> None:
        """Raises StepError before a non-finite gradient reaches the optimiser."""
        import torch

        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if grads and not torch.isfinite(torch.nn.utils.get_total_norm(grads)):
            self._stop("the gradient is not finite", step)

    def _stop(self, what: str, step: int) -> None:
        ids = batch_ids(self.examples, self.batch)
        shown = ", ".join(ids[:4]) + (" ..." if len(ids) > 4 else "")
        self._save(ids, what, step)
        raise StepError(
            f"{what} at training step {step}; its batch ({shown}) is in {self.folder}",
            where=f"step {self.step_name}",
            hint="lower learning_rate, raise warmup, or set compute_dtype: float32; then look at that batch's rows",
        )

    def _save(self, ids: list[str], what: str, step: int) -> None:
        import numpy as np

        self.folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {
            name: tensor.detach().cpu().numpy() for name, tensor in self.batch.items() if name != ROW
        }
        np.savez(self.folder / "batch.npz", **arrays)
        (self.folder / "ids.json").write_bytes(canonical_json({"ids": ids, "step": step, "what": what}, indent=1))
