"""What turns an encoded image into a network's input: stated once in preprocess.json, for training and device alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgeft.artifact import TensorSpec
from edgeft.errors import RecipeError, StepError
from edgeft.models.foreign import is_foreign, processor_of
from edgeft.tasks.tokenizer import read_json

PREPROCESS = "preprocess.json"
VERSION = 1
PIXELS, VALUES, FILE = "pixels", "pixel_values", "file"
FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers, as preprocessor_config.json states them, by name."""
DEFAULT_SIZE = 224


class ImageSpec(BaseModel):
    """The image part of preprocess.json. Order: decode, EXIF orientation, colours, resize, crop, scale, normalise."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    embed: Literal["pixels", "bytes", "none"] = Field(
        description="pixels: the artefact takes uint8 and scales, normalises and permutes itself; bytes: it takes the "
        "bytes of a JPEG or PNG file, decodes, turns upright and resizes, too."
    )
    height: int = Field(ge=1, le=16384, description="Rows the network sees.")
    width: int = Field(ge=1, le=16384, description="Columns the network sees.")
    channels: Literal[1, 3] = Field(3, description="3: colour, grey repeated; 1: grey.")
    order: Literal["RGB", "BGR", "L"] = Field("RGB", description="Colour order the network sees; pixels are RGB or L.")
    source: tuple[int, int] | None = Field(None, description="(rows, columns) given, where the artefact resizes.")
    shortest: int | None = Field(
        None, ge=1, description="Resize the shorter side to this, then cut out the middle; None: stretch both sides."
    )
    filter: Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"] = Field(
        "bilinear", description="Pillow's resampling filter, which is antialiased, on 8-bit values."
    )
    scale: float = Field(1 / 255, gt=0, description="Multiplies 0..255.")
    mean: tuple[float, ...] = Field(description="Subtracted per channel after scaling, in the network's order.")
    std: tuple[float, ...] = Field(description="Divides per channel after that.")
    medical: dict[str, Any] | None = Field(
        None, exclude=True, description="How decoded slices become grey levels; `medical` in preprocess.json."
    )

    @model_validator(mode="after")
    def _fits(self) -> ImageSpec:
        if len(self.mean) != self.channels or len(self.std) != self.channels or min(self.std) <= 0:
            raise ValueError("mean and std have one value per channel, std above 0")
        if (self.order == "L") != (self.channels == 1):
            raise ValueError("order L goes with one channel")
        if self.source and min(self.source) < 1:
            raise ValueError("the source size is below 1")
        if self.source and (self.embed != "pixels" or self.shortest or self.filter != "bilinear"):
            raise ValueError("the artefact resizes from pixels only, by stretching, bilinear")
        if self.embed == "bytes" and self.filter != "bilinear":
            raise ValueError(f"an artefact of bytes resizes bilinear, this model's processor says {self.filter}")
        if self.shortest is not None and self.shortest < max(self.height, self.width):
            raise ValueError("the shorter side is below what is cut out")
        if self.medical is not None:
            if self.embed == "bytes" or self.filter != "bilinear":
                raise ValueError("decoded slices are resized bilinear by the reference, not from files in the artefact")
            from edgeft.medical.order import MedicalSpec

            MedicalSpec.from_dict(self.medical)
        return self

    @property
    def given(self) -> tuple[int, int]:
        """(rows, columns) of the feed."""
        return self.source or (self.height, self.width)

    def feed(self) -> TensorSpec:
        """The one canonical feed; what a decoder in the artefact makes, too."""
        if self.embed != "none":
            return TensorSpec(PIXELS, "uint8", ("batch", *self.given, self.channels))
        return TensorSpec(VALUES, "float32", ("batch", self.channels, self.height, self.width))


@dataclass(frozen=True)
class ImageServe:
    """The recipe's `serve:` for an image."""

    height: int | None
    width: int | None
    source: tuple[int, int] | None
    embed: str | None
    medical: dict[str, Any] | None = None

    @classmethod
    def of(cls, serve: Mapping[str, Any]) -> ImageServe:
        """From the section's plain values."""
        source = serve.get("source")
        return cls(
            serve.get("height"), serve.get("width"), (int(source[0]), int(source[1])) if source else None,
            serve.get("embed_preprocessing"), serve.get("medical"),
        )  # fmt: skip


def own_size(folder: Path) -> tuple[int, int] | None:
    """(rows, columns) that a model folder's preprocessor_config.json or config.json names; None where neither does."""
    stated = read_processor(folder)
    for name in ("crop_size", "size"):
        if name == "crop_size" and stated.get("do_center_crop") is False:
            continue
        if (size := _pair(stated.get(name))) is not None:
            return size
    return _pair(read_json(folder / "config.json").get("image_size"))


def read_processor(folder: Path) -> dict[str, Any]:
    """preprocessor_config.json, or what a MONAI bundle or an nnU-Net folder states of the same; {} without any."""
    stated = read_json(folder / "preprocessor_config.json")
    if not stated and is_foreign(folder):
        return processor_of(folder)
    return stated


def make_spec(folder: Path, serve: ImageServe, *, whole: bool = False) -> ImageSpec:
    """The spec of a model folder under a recipe's `serve`. RecipeError where they do not fit.

    whole: nothing may be cut off. Without preprocessor_config.json: stretched, bilinear, scaled to 0..1, mean 0.5 and
    std 0.5 per channel (ViT's).
    """
    stated, config = read_processor(folder), read_json(folder / "config.json")
    size = own_size(folder) or (DEFAULT_SIZE, DEFAULT_SIZE)
    height, width = serve.height or size[0], serve.width or size[1]
    channels = 1 if config.get("num_channels") == 1 or stated.get("num_channels") == 1 else 3
    cover = None if whole or serve.source or (height, width) != size else _shortest(stated)
    values: dict[str, Any] = {
        "embed": serve.embed or "pixels",
        "height": height,
        "width": width,
        "channels": channels,
        "order": "L" if channels == 1 else "BGR" if stated.get("do_flip_channel_order") else "RGB",
        "source": serve.source,
        "shortest": cover,
        "filter": "bilinear" if serve.source or serve.medical else FILTERS.get(stated.get("resample", 2), "bilinear"),
        "scale": float(stated.get("rescale_factor", 1 / 255)) if stated.get("do_rescale", True) else 1.0,
        "medical": serve.medical,
        **_normalise(stated, channels),
    }
    try:
        return ImageSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(str(first["msg"]).removeprefix("Value error, "), where="serve") from error


def read_spec(prepared: Path) -> ImageSpec:
    """The spec that `prepare` wrote; StepError for anything else. A bundle can come from anywhere."""
    stated = read_json(prepared / PREPROCESS)
    where = str(prepared / PREPROCESS)
    if stated.get("kind") != "image" or stated.get("version") != VERSION:
        raise StepError(f"this edgeft reads image preprocessing of version {VERSION} only", where=where)
    try:
        return ImageSpec.model_validate({**stated["image"], "medical": stated.get("medical")})
    except (KeyError, TypeError, ValidationError) as error:
        raise StepError("the image preprocessing is damaged", where=where, hint="copy the folder again") from error


def normalisation(stated: Mapping[str, Any]) -> tuple[float, float]:
    """(mean, std) of one grey channel, as preprocessor_config.json states them."""
    found = _normalise(stated, 1)
    return found["mean"][0], found["std"][0]


def _normalise(stated: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """mean and std; none where the processor says that it does not normalise (MobileViT's)."""
    plain = bool(stated) and not stated.get("do_normalize", "image_mean" in stated)
    found = {}
    for key, name, default in (("mean", "image_mean", 0.5), ("std", "image_std", 0.5)):
        value = stated.get(name)
        listed = [float(item) for item in value] if isinstance(value, list) else [default] * channels
        if plain:
            listed = [0.0 if key == "mean" else 1.0] * channels
        found[key] = tuple(listed[:1] * channels if len(listed) != channels else listed)
    return found


def _shortest(stated: Mapping[str, Any]) -> int | None:
    size = stated.get("size")
    edge = size.get("shortest_edge") if isinstance(size, dict) else size if isinstance(size, int) else None
    crops = stated.get("do_center_crop", "crop_size" in stated)
    return int(edge) if isinstance(edge, int) and crops else None


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int) and value > 0:
        return value, value
    if isinstance(value, list) and len(value) == 2 and all(isinstance(item, int) for item in value):
        return int(value[0]), int(value[1])
    if isinstance(value, dict) and isinstance(value.get("height"), int) and isinstance(value.get("width"), int):
        return int(value["height"]), int(value["width"])
    if isinstance(value, dict) and isinstance(value.get("shortest_edge"), int):
        return int(value["shortest_edge"]), int(value["shortest_edge"])
    return None
