"""Low-rank adapters on a 4-bit base. Dettmers et al. 2023, arXiv 2305.14314."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from edgeft.artifact import Artifact
from edgeft.stage import Context
from edgeft.stages.finetune.lora import Lora, trains_head

if TYPE_CHECKING:
    import torch


class QLora(Lora):
    """QLoRA fine-tuning: adapters on an NF4 base, on a CUDA GPU or, for small models, on CPU."""

    method: Literal["qlora"] = Field("qlora", description="Low-rank adapters on NF4 weights.")  # type: ignore[assignment]
    double_quant: bool = Field(True, description="Quantise the quantisation constants too: 0.37 bits less per weight.")
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        description="Of the 4-bit products; auto: bfloat16 where the hardware has it, else float32 (float16 on a GPU).",
    )
    base_dtype: Literal["auto"] = Field(
        "auto", description="Of method lora alone: here the frozen weights are NF4, their products in compute_dtype."
    )

    def load_base(self, model: Artifact, ctx: Context, device: str) -> torch.nn.Module:
        """The base with its linear layers below the head in NF4; the head is never quantised."""
        from edgeft.models.load import load_model

        return load_model(
            model,
            labels=ctx.labels,
            task=ctx.task.name,
            device=device,
            quantise="nf4",
            compute_dtype=self.compute(device),
            double_quant=self.double_quant,
            seed=ctx.seed,
            new_head=trains_head(ctx.task),
        )

    def compute(self, device: str) -> str:
        """compute_dtype with `auto` resolved for the device."""
        from edgeft.models.nf4 import fast_compute_dtype

        return fast_compute_dtype(device) if self.compute_dtype == "auto" else self.compute_dtype

    def optimiser(self, device: str) -> str:
        """Paged AdamW on a GPU: moments move to host memory when it fills up. It warns on CPU; plain AdamW there."""
        return "paged_adamw_32bit" if device.startswith("cuda") else super().optimiser(device)

    def mixed_precision(self, device: str) -> str:
        """Autocast follows compute_dtype on a GPU."""
        return self.compute(device) if device.startswith("cuda") else "float32"

    def base_precision(self, device: str) -> dict[str, Any]:
        """quantised, compute_dtype, double_quant of the base during training."""
        return {"quantised": "nf4", "compute_dtype": self.compute(device), "double_quant": self.double_quant}
