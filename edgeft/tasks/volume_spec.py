"""What turns a volume into a network's windows: stated once in preprocess.json, for training and device alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgeft.artifact import TensorSpec
from edgeft.errors import RecipeError, StepError
from edgeft.tasks.image_spec import PIXELS, PREPROCESS, VALUES, normalisation, read_processor
from edgeft.tasks.tokenizer import read_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeft.medical.sliding import Plan

KIND = "volume"
VERSION = 1


class VolumeSpec(BaseModel):
    """The volume part of preprocess.json. Order: 8-bit volume, window, scale, normalise; windows are then blended."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    embed: Literal["pixels", "none"] = Field(
        description="pixels: the artefact takes uint8 windows and scales and normalises itself; none: ready floats."
    )
    depth: int = Field(ge=1, le=1024, description="Planes of the window the network sees.")
    height: int = Field(ge=1, le=1024, description="Rows of it.")
    width: int = Field(ge=1, le=1024, description="Columns of it.")
    overlap: float = Field(0.25, ge=0, lt=1, description="Share of a window that the next one covers again.")
    blend: Literal["gaussian", "constant"] = Field("gaussian", description="Weights of a window's voxels.")
    empty: int | None = Field(None, ge=0, le=254, description="Windows with no value above this are not run.")
    scale: float = Field(1 / 255, gt=0, description="Multiplies 0..255.")
    mean: float = Field(0.5, description="Subtracted after scaling.")
    std: float = Field(0.5, gt=0, description="Divides after that.")
    largest: tuple[int, int, int] = Field(description="Extents that no volume of the data went beyond.")
    medical: dict[str, Any] | None = Field(
        None, exclude=True, description="How decoded volumes become grey levels; `medical` in preprocess.json."
    )

    @model_validator(mode="after")
    def _order(self) -> VolumeSpec:
        if self.medical is not None:
            from edgeft.medical.order import MedicalSpec

            MedicalSpec.from_dict(self.medical)
        return self

    @property
    def patch(self) -> tuple[int, int, int]:
        """(depth, height, width) of a window."""
        return self.depth, self.height, self.width

    def feed(self) -> TensorSpec:
        """The one canonical feed: a window."""
        if self.embed == "pixels":
            return TensorSpec(PIXELS, "uint8", ("batch", *self.patch, 1))
        return TensorSpec(VALUES, "float32", ("batch", 1, *self.patch))

    def plan(self, batch: int = 1, *, whole: bool = False) -> Plan:
        """How a volume's windows are placed and blended. whole: none is left out."""
        from edgeft.medical.sliding import Plan

        axis = 0 if self.embed == "pixels" else 1
        return Plan(self.patch, self.overlap, self.blend, batch, axis, None if whole else self._least())

    def _least(self) -> float | None:
        if self.empty is None or self.embed == "pixels":
            return self.empty
        return (self.empty * self.scale - self.mean) / self.std

    def values(self, windows: Any) -> NDArray[np.float32]:
        """float32 of the same shape: 0..255 as the network sees it, by plain numpy."""
        import numpy as np

        found = (np.asarray(windows).astype(np.float64) * self.scale - self.mean) / self.std
        return np.ascontiguousarray(found.astype(np.float32))


def make_volume_spec(folder: Path, serve: Mapping[str, Any], largest: Sequence[int]) -> VolumeSpec:
    """The spec of a model folder's preprocessor_config.json under a recipe's `serve`. RecipeError where it is none."""
    stated = read_processor(folder)
    mean, std = normalisation(stated)
    values = {
        "embed": serve.get("embed_preprocessing") or "pixels",
        **{name: serve.get(name) for name in ("depth", "height", "width", "empty")},
        **{name: serve[name] for name in ("overlap", "blend") if serve.get(name) is not None},
        "scale": float(stated.get("rescale_factor", 1 / 255)) if stated.get("do_rescale", True) else 1.0,
        "mean": mean, "std": std, "largest": tuple(largest), "medical": serve.get("medical"),
    }  # fmt: skip
    try:
        return VolumeSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecipeError(f"{place or 'the preprocessing'}: {first['msg']}", where="serve") from error


def volume_json(task: str, labels: Sequence[str], spec: VolumeSpec) -> dict[str, Any]:
    """The content of preprocess.json."""
    return {
        "kind": KIND, "version": VERSION, "task": task, "labels": list(labels),
        KIND: spec.model_dump(mode="json"), "inputs": [asdict(spec.feed())],
        **({} if spec.medical is None else {"medical": spec.medical}),
    }  # fmt: skip


def read_volume_spec(prepared: Path) -> VolumeSpec:
    """The spec that `prepare` wrote; StepError for anything else. A bundle can come from anywhere."""
    stated, where = read_json(prepared / PREPROCESS), str(prepared / PREPROCESS)
    if stated.get("kind") != KIND or stated.get("version") != VERSION:
        raise StepError(f"this edgeft reads volume preprocessing of version {VERSION} only", where=where)
    try:
        return VolumeSpec.model_validate({**stated[KIND], "medical": stated.get("medical")})
    except (KeyError, TypeError, ValidationError) as error:
        raise StepError("the volume preprocessing is damaged", where=where, hint="copy the folder again") from error
