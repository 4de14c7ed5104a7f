"""What a recipe says of learning from a teacher: which losses, and how they are mixed."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Teaching(BaseModel):
    """The loss is task_weight x the labels' loss + the sum of each other weight x its distance from the teacher."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    temperature: float = Field(
        2.0,
        gt=0,
        le=100,
        description="Softens both models' classes before they are compared; that loss is scaled by its square.",
    )
    task_weight: float = Field(0.5, ge=0, description="Weight of the labels' own loss.")
    logits_weight: float = Field(
        0.5,
        ge=0,
        description="Weight of KL(teacher || student) over the classes (Hinton et al. 2015, arXiv 1503.02531).",
    )
    hidden_weight: float = Field(
        0.0, ge=0, description="Weight of the distance between hidden states (Jiao et al. 2020, arXiv 1909.10351)."
    )
    attention_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of the last layer's attention relations (MiniLMv2, Wang et al. 2021, arXiv 2012.15828).",
    )
    hidden_loss: Literal["mse", "cosine"] = Field("mse", description="Distance between hidden states.")
    layer_map: tuple[int, ...] | None = Field(
        None,
        description="For each hidden state of the student (0: the embeddings), the teacher's it learns from; "
        "default: evenly spaced.",
    )
    relation_heads: int | None = Field(
        None, ge=1, le=1024, description="Heads of the attention relations; default: the teacher's, where widths allow."
    )

    @model_validator(mode="after")
    def _something_to_learn(self) -> Teaching:
        if not (self.logits_weight or self.hidden_weight or self.attention_weight):
            raise ValueError(
                "give logits_weight, hidden_weight or attention_weight: else nothing is learnt from the teacher"
            )
        if self.layer_map is not None and not self.hidden_weight:
            raise ValueError("layer_map goes with hidden_weight")
        return self
