"""surgery.json: the edits that lead from the network a config or code builds to the pruned one, replayed at load.

`from_pretrained` builds what config.json says, and no config says that layer 3 has five heads and 700 neurons. So a
pruned model travels as its weights, its config and this list. The file is untrusted input: typed, limited, and every
edit is checked against the module it names before it touches it. Why a list of edits: docs/decisions/0012-surgery.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgeft.canonical import canonical_json
from edgeft.errors import StepError

if TYPE_CHECKING:
    import torch

SURGERY = "surgery.json"
MAX_BYTES = 16 << 20
MAX_EDITS = 20_000
MAX_SIZE = 1 << 22
"""Largest width, layer or vocabulary count an edit may speak of."""
MAX_LAYERS = 4096
MAX_SHIFT = 1000.0
"""Nats."""
HINT = "the file is damaged or was made for another model; prune again"
ATTRIBUTE = "edgeft_surgery"

Span = tuple[Annotated[int, Field(ge=0, le=MAX_SIZE)], Annotated[int, Field(ge=1, le=MAX_SIZE)]]


class Edit(BaseModel):
    """Keep some of `of` equal parts of a module. keep: half-open spans [first, end), rising and apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    module: str = Field(max_length=400, pattern=r"^\w+(\.\w+)*$")
    of: int = Field(ge=1, le=MAX_SIZE)
    keep: tuple[Span, ...] = Field(min_length=1, max_length=MAX_SIZE)

    @model_validator(mode="after")
    def _spans_lie_within(self) -> Edit:
        if any(first >= end for first, end in self.keep) or any(a[1] >= b[0] for a, b in pairwise(self.keep)):
            raise ValueError("keep must be spans [first, end) that rise and do not touch")
        if self.keep[-1][1] > self.of:
            raise ValueError(f"keep goes up to {self.keep[-1][1]}, there are {self.of}")
        return self

    @property
    def indices(self) -> list[int]:
        """Every kept place."""
        return [place for first, end in self.keep for place in range(first, end)]

    @property
    def count(self) -> int:
        """How many are kept."""
        return sum(end - first for first, end in self.keep)


class Slice(Edit):
    """Keep output or input channels of a layer."""

    edit: Literal["slice"] = "slice"
    side: Literal["out", "in"]


class Heads(Edit):
    """Tell an attention module how many heads it has left; its projections are sliced by edits of their own."""

    edit: Literal["heads"] = "heads"


class Layers(Edit):
    """Keep some layers of a ModuleList."""

    edit: Literal["layers"] = "layers"


class Vocabulary(Edit):
    """Keep some rows of a token embedding, behind a map from the tokenizer's ids; other ids read row `unknown`, or
    without one a row of their own, which they share."""

    edit: Literal["vocabulary"] = "vocabulary"
    unknown: int | None = Field(None, ge=0, le=MAX_SIZE)

    @model_validator(mode="after")
    def _unknown_is_kept(self) -> Vocabulary:
        if self.unknown is not None and not any(first <= self.unknown < end for first, end in self.keep):
            raise ValueError(f"the unknown token {self.unknown} must be kept")
        return self


class Answers(Edit):
    """Keep some outputs of the layer that answers tokens, behind the same map; one more answers for all others, and
    `shift` is added to its logit."""

    edit: Literal["answers"] = "answers"
    shift: float = Field(0.0, ge=-MAX_SHIFT, le=MAX_SHIFT, allow_inf_nan=False)

    @model_validator(mode="after")
    def _some_are_dropped(self) -> Answers:
        if self.count == self.of:
            raise ValueError("it keeps every token, and has an output for others")
        return self


AnyEdit = Annotated[Slice | Heads | Layers | Vocabulary | Answers, Field(discriminator="edit")]


class Surgery(BaseModel):
    """The file's content. layers: num_hidden_layers to build with before the edits, where they drop layers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    layers: int | None = Field(None, ge=1, le=MAX_LAYERS)
    edits: tuple[AnyEdit, ...] = Field((), max_length=MAX_EDITS)


NONE = Surgery()


def spans(places: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Rising places as half-open spans."""
    found: list[list[int]] = []
    for place in sorted(places):
        if found and found[-1][1] == place:
            found[-1][1] = place + 1
        else:
            found.append([place, place + 1])
    return tuple((first, end) for first, end in found)


def read_surgery(folder: Path) -> Surgery:
    """The edits that lie beside a model; none where there is no file. Raises StepError for a malformed one."""
    path = folder / SURGERY
    if not path.is_file():
        return NONE
    if path.stat().st_size > MAX_BYTES:
        raise StepError(f"larger than {MAX_BYTES >> 20} MB", where=str(path), hint=HINT)
    try:
        return Surgery.model_validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StepError(f"{place or 'content'}: {first['msg']}", where=str(path), hint=HINT) from error


def write_surgery(surgery: Surgery, folder: Path) -> None:
    """surgery.json in canonical form; nothing where there are no edits."""
    if surgery.edits:
        (folder / SURGERY).write_bytes(canonical_json(surgery.model_dump(mode="json", exclude_none=True)))


def surgery_of(module: torch.nn.Module) -> Surgery:
    """The edits behind a loaded module; none for one that was never pruned."""
    from edgeft.models.layers import unwrap

    found: Surgery = getattr(unwrap(module), ATTRIBUTE, NONE)
    return found


def operate(module: torch.nn.Module, edits: Sequence[AnyEdit]) -> None:
    """Apply new edits to a loaded module and remember them, so that saving it writes them. Raises StepError."""
    before = surgery_of(module)
    layers = before.layers
    if layers is None and any(isinstance(edit, Layers) for edit in edits):
        layers = getattr(getattr(module, "config", None), "num_hidden_layers", None)
    replay(module, edits)
    if any(isinstance(edit, Answers) for edit in edits) and hasattr(module, "tie_weights"):
        module.tie_weights()  # loading does it by itself
    setattr(module, ATTRIBUTE, Surgery(layers=layers, edits=(*before.edits, *edits)))


def replay(module: torch.nn.Module, edits: Sequence[AnyEdit]) -> None:
    """Apply edits in order, in place; works on the meta device. Raises StepError naming the edit that does not fit."""
    from edgeft.models.surgeon import apply_edit

    for number, edit in enumerate(edits):
        try:
            apply_edit(module, edit)
        except Misfit as error:
            raise StepError(
                f"edit {number}, {edit.edit} of '{edit.module}': {error}", where=SURGERY, hint=HINT
            ) from error


class Misfit(ValueError):
    """An edit that does not fit the module it names."""


def remember(module: Any, surgery: Surgery) -> None:
    """Attach the edits that a module was loaded with."""
    if surgery.edits:
        setattr(module, ATTRIBUTE, surgery)
