"""What a model of unknown purpose is fed: your own cases, or made-up ones of the right shape, and words for it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Signature, TensorSpec
from edgeft.errors import RecipeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 0
BATCHES = 16
"""Different batches in turn, so that no answer can come from a cache of the last input."""
MOST_BYTES, MOST_NPZ = 256 << 20, 2 << 30
TOKENS = 64
FILE_BYTES = "bytes"
"""The dimension of an encoded file, where a decoder is in the artefact."""
LARGEST_ID = 100
"""Made-up integers stay below this: an index into a vocabulary must exist, and almost every one has a hundred rows."""


@dataclass(frozen=True)
class Feeds:
    """arrays: canonical input name -> (n, ...). batch: cases a run. said: what they are, in words."""

    arrays: dict[str, NDArray[Any]]
    batch: int
    said: str


def parse_shapes(texts: list[str]) -> dict[str, tuple[int, ...]]:
    """`name=1x64` -> {"name": (1, 64)}. RecipeError for what is none."""
    shapes = {}
    for text in texts:
        name, _, dims = text.rpartition("=")
        try:
            shape = tuple(int(part) for part in dims.split("x"))
        except ValueError:
            shape = ()
        if not name or not shape or any(extent < 1 for extent in shape):
            raise RecipeError(f"'{text}' is no shape", where="--shape", hint="write name=1x64")
        shapes[name] = shape
    return shapes


def make_feeds(signature: Signature, shapes: Mapping[str, tuple[int, ...]], batch: int | None) -> Feeds:
    """Seeded synthetic cases: normal numbers, pixels 0-255, token ids below 100, prefix masks of ones, zero segments.

    shapes: input -> full shape, where the model leaves a dimension free. Free dimensions elsewhere: the batch (1)
    first, 64 tokens for integers; a float input's must be stated. RecipeError.
    """
    import numpy as np

    full, guessed = bind_shapes(signature, shapes, batch)
    size = next(iter(full.values()))[0]
    per_batch = sum(prod(shape) * 8 for shape in full.values())
    if per_batch > MOST_NPZ:
        raise RecipeError(
            f"one run's inputs would take {per_batch / 1e9:,.1f} GB ({_dims(full)})", where="--batch, --shape",
            hint=f"at most {MOST_NPZ >> 30} GiB are made up",
        )  # fmt: skip
    n = size * max(1, min(BATCHES, MOST_BYTES // max(1, per_batch)))
    random = np.random.default_rng(SEED)
    arrays = {name: _synthetic(name, spec, (n, *full[name][1:]), random) for name, spec in signature.inputs.items()}
    said = f"synthetic, {n // size} seeded batches ({_dims(full)}): "
    said += f"normal floats, integers below {LARGEST_ID}, prefix masks"
    if guessed:
        said += f"; guessed: {', '.join(guessed)}"
    return Feeds(arrays, size, said)


def _dims(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())


def load_feeds(path: Path, signature: Signature, batch: int | None) -> Feeds:
    """Cases from an .npz: an array (n, ...) for each input, named after it. RecipeError."""
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > MOST_NPZ:
            raise RecipeError(f"holds more than {MOST_NPZ >> 30} GiB", where=str(path))
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: np.asarray(found[name]) for name in found.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise RecipeError(
            "this is no .npz of plain arrays", where=str(path), hint="write it with numpy.savez"
        ) from error
    wanted = set(signature.inputs)
    if missing := sorted(wanted - set(arrays)):
        raise RecipeError(
            f"has no array '{missing[0]}'", where=str(path), hint=f"the model takes: {', '.join(sorted(wanted))}"
        )
    arrays = {name: arrays[name] for name in signature.inputs}
    lengths = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise RecipeError("its arrays have different numbers of cases, or none", where=str(path))
    n = lengths.pop()
    fixed = _fixed_batch(signature)
    size = fixed or batch or 1
    if n < size:
        raise RecipeError(f"has {n} cases, a run takes {size}", where=str(path))
    return Feeds(arrays, size, f"{n} cases from {path.name}, {size} a run")


def bind_shapes(
    signature: Signature, shapes: Mapping[str, tuple[int, ...]], batch: int | None
) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """(input -> full shape, what was guessed in words). One symbol has one size in all inputs."""
    if not signature.inputs:
        raise RecipeError("the model has no inputs")
    if unknown := sorted(set(shapes) - set(signature.inputs)):
        raise RecipeError(
            f"there is no input '{unknown[0]}'", where="--shape", hint=f"inputs: {', '.join(signature.inputs)}"
        )
    sizes: dict[str, int] = {}
    for name, shape in shapes.items():
        _match(name, signature.inputs[name], shape, sizes)
    full, guessed = {}, []
    for name, spec in signature.inputs.items():
        if not spec.shape:
            raise RecipeError(f"input '{name}' is a single number without a batch; this is not supported")
        dims = []
        for axis, extent in enumerate(spec.shape):
            if isinstance(extent, str) and extent not in sizes:
                sizes[extent], note = _guess(name, spec, axis, batch)
                guessed += [note] if note else []
            dims.append(extent if isinstance(extent, int) else sizes[extent])
        full[name] = tuple(dims)
    firsts = {shape[0] for shape in full.values()}
    if len(firsts) != 1:
        raise RecipeError(f"the inputs have different first dimensions ({sorted(firsts)}); they must be the batch")
    if batch is not None and firsts != {batch}:
        raise RecipeError(f"the model runs {firsts.pop()} cases at a time", where="--batch", hint="leave --batch out")
    return full, guessed


def _match(name: str, spec: TensorSpec, shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    wanted = "x".join(map(str, spec.shape))
    fits = len(shape) == len(spec.shape)
    for extent, given in zip(spec.shape, shape, strict=False):
        fits = fits and (extent == given if isinstance(extent, int) else sizes.setdefault(extent, given) == given)
    if not fits:
        raise RecipeError(f"{name} is {wanted}, not {'x'.join(map(str, shape))}", where="--shape")


def _guess(name: str, spec: TensorSpec, axis: int, batch: int | None) -> tuple[int, str]:
    if axis == 0:
        return batch or 1, ""
    if spec.dtype.startswith(("int", "uint")) and len(spec.shape) == 2:
        return TOKENS, f"{spec.shape[axis]} = {TOKENS}"
    wanted = "x".join(map(str, spec.shape))
    example = "x".join(str(extent) if isinstance(extent, int) else "1" for extent in spec.shape)
    raise RecipeError(
        f"the model leaves dimension {axis} of '{name}' ({wanted}) open", hint=f"state it: --shape {name}={example}"
    )


def _fixed_batch(signature: Signature) -> int | None:
    firsts = {spec.shape[0] for spec in signature.inputs.values() if spec.shape and isinstance(spec.shape[0], int)}
    return int(next(iter(firsts))) if len(firsts) == 1 else None


def _synthetic(name: str, spec: TensorSpec, shape: tuple[int, ...], random: Any) -> NDArray[Any]:
    import numpy as np

    if FILE_BYTES in spec.shape:
        raise RecipeError(f"input '{name}' holds a file, which cannot be made up", hint="--inputs cases.npz")
    try:
        kind = np.dtype(spec.dtype)
    except TypeError:
        raise RecipeError(
            f"input '{name}' holds {spec.dtype}, which cannot be made up", hint="--inputs cases.npz"
        ) from None
    word = name.lower()
    if kind.kind == "b" or (kind.kind in "iuf" and "mask" in word):
        lengths = random.integers((shape[-1] + 1) // 2, shape[-1] + 1, (*shape[:-1], 1))
        return np.asarray(np.arange(shape[-1]) < lengths).astype(kind)
    if kind.kind == "f":
        return np.asarray(random.standard_normal(shape)).astype(kind)
    if kind == np.uint8:
        return np.asarray(random.integers(0, 256, shape)).astype(kind)
    if kind.kind in "iu":
        if "type" in word or "segment" in word:
            return np.zeros(shape, kind)
        if "position" in word:
            return np.ascontiguousarray(np.broadcast_to(np.arange(shape[-1]), shape)).astype(kind)
        return np.asarray(random.integers(0, LARGEST_ID, shape)).astype(kind)
    raise RecipeError(f"input '{name}' holds {spec.dtype}, which cannot be made up", hint="--inputs cases.npz")
