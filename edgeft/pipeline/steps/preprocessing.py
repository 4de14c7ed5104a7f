"""Checks of preprocessing as steps: on every target by its own numpy, and against the user's own function."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact
from edgeft.canonical import Facts, canonical_json
from edgeft.errors import StepError
from edgeft.pipeline.spec import FEED_TOOLS, Spec
from edgeft.pipeline.steps.answers import prepared_of, read_cases
from edgeft.pipeline.steps.candidates import Candidate, device_config, run_host
from edgeft.pipeline.steps.embedded import is_windowed_task
from edgeft.recipe.load import LoadedRecipe
from edgeft.stage import Context

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeft.pipeline.execute import Executor
    from edgeft.record import PreprocessRow

CASES = 8
SPLITS = ("calibration", "search")
"""Whose cases are compared: the first that the data has."""


def preprocess_specs(loaded: LoadedRecipe, candidates: Sequence[Candidate]) -> list[Spec]:
    """None for a recipe without `preprocess:`, and none for volumes, which are prepared before any target sees them."""
    preprocess = loaded.recipe.preprocess
    if preprocess is None or is_windowed_task(loaded.recipe.model.task):
        return []
    first = {candidate.device.name: candidate for candidate in reversed(candidates) if candidate.runs}
    found = [target_spec(candidate, loaded) for candidate in first.values()] if preprocess.medical else []
    return [*reversed(found), *([own_spec(loaded, preprocess.check_against)] if preprocess.check_against else [])]


def check_preprocessing(executor: Executor, specs: Sequence[Spec], rows: list[PreprocessRow]) -> None:
    """Every target's own preprocessing, and the user's, give what training will see: a row of each, as far as it comes.

    StepError at the first that does not.
    """
    from edgeft.record import PreprocessRow
    from edgeft.targets.preprocessing import refuse_difference

    for spec in specs:
        rows.append(PreprocessRow.model_validate(executor.perform(spec).facts["preprocess"]))
        executor.current = spec.id  # the step that an error belongs to
        refuse_difference(rows[-1])
        executor.current = ""


def target_spec(candidate: Candidate, loaded: LoadedRecipe) -> Spec:
    """Decoded calibration cases through the reference on the target, against the host's feeds."""
    from edgeft.targets.preprocessing import reference_files

    device, how = candidate.device, "emulated" if candidate.emulated else "measured"

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        from edgeft.data.pack import image_bytes
        from edgeft.targets.preprocessing import LEVELS, compare, run_reference
        from edgeft.tasks.image_spec import read_spec
        from edgeft.tasks.images import read_pixels

        prepared = prepared_of(ctx)
        split = _split(ctx)
        rows = read_cases(ctx, split, CASES)
        stated = json.loads((prepared / "preprocess.json").read_text(encoding="utf-8"))
        names, slices = zip(*image_bytes(rows), strict=True)
        theirs = run_reference(device, slices, stated)
        ours = read_pixels(rows, read_spec(prepared))
        row = compare(
            ours, theirs, names, against=device.name, how=how, origin=f"{split} set", tolerance=LEVELS,
            unit="grey levels of 255", white=255,
        )  # fmt: skip
        return _written(row, out)

    return Spec(
        id=f"{device.name}/preprocess",
        title=f"Prove preprocessing equal on {device.name}",
        name="preprocess",
        version=1,
        makes="record",
        run=run,
        config={
            "device": device_config(candidate),
            "cases": CASES,
            "task": loaded.recipe.model.task,
            "reference": [_digest(path) for path in reference_files()],
        },
        needs={"prepared": "prepare"},
        reads=SPLITS,
        tools=("numpy",),
        host=run_host(candidate),
    )


def own_spec(loaded: LoadedRecipe, code: str) -> Spec:
    """Files of calibration cases through the user's function, against what the network sees."""
    from edgeft.canonical import digest_file
    from edgeft.usercode import code_digest

    recipe = loaded.recipe
    tolerance = recipe.preprocess.tolerance if recipe.preprocess else 0.0

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        from edgeft.targets.preprocessing import compare
        from edgeft.tasks.image_spec import read_spec

        prepared = prepared_of(ctx)
        split = _split(ctx)
        rows, spec = read_cases(ctx, split, CASES), read_spec(prepared)
        ours = ctx.task.plain(ctx.task.feeds(rows, prepared), prepared)["pixel_values"]
        names = rows.column("id").to_pylist()
        theirs = _own_values(loaded, code, names, ours.shape[1:])
        row = compare(
            _shades(ours, spec), _shades(theirs, spec), names, against=f"{Path(code).name}", how="computed",
            origin=f"{split} set", tolerance=tolerance, unit="of black to white", white=1,
        )  # fmt: skip
        return _written(row, out)

    return Spec(
        id="prepare/check_against",
        title="Compare preprocessing with your own function",
        name="check_against",
        version=1,
        makes="record",
        run=run,
        config={
            "code": code_digest(code, digest_file, "preprocess.check_against"),
            "tolerance": tolerance,
            "cases": CASES,
            "task": recipe.model.task,
        },
        needs={"prepared": "prepare"},
        reads=SPLITS,
        tools=(*FEED_TOOLS, "numpy", "pillow"),
        host="numeric",
    )


def _own_values(loaded: LoadedRecipe, code: str, names: Sequence[str], shape: Sequence[int]) -> NDArray[Any]:
    """float64 (n, channels, rows, columns) that the user's function gives for the files of these rows."""
    import numpy as np

    from edgeft.usercode import call, load_function

    function, found = load_function(code, "preprocess.check_against"), []
    for path, place in _files(loaded, names):
        value = call(code, function, str(path), *(() if place is None else (place,)))
        try:
            array = np.asarray(value, np.float64)
        except (TypeError, ValueError) as error:
            raise StepError(f"{code} returned a {type(value).__name__}", hint="return an array of numbers") from error
        while array.ndim > len(shape) and array.shape[0] == 1:
            array = array[0]
        array = array[None] if array.ndim == len(shape) - 1 and shape[0] == 1 else array
        if array.shape != tuple(shape):
            what = (
                f"{code} returned shape {tuple(array.shape)}, the network sees {tuple(shape)} (channels, rows, columns)"
            )
            raise StepError(what, where="preprocess.check_against")
        found.append(array)
    return np.stack(found)


def _files(loaded: LoadedRecipe, names: Sequence[str]) -> list[tuple[Path, int | None]]:
    """The file (and slice) behind each row's id, which begins with the split where each split has its own path."""
    from edgeft.data.patients import default_group
    from edgeft.data.source import source_for

    data = loaded.recipe.data
    data = data.model_copy(update={"group": default_group(data)})
    source = source_for(data)
    if data.paths is None:
        found = source.locate(data, None, names)
        return [found[name] for name in names]
    parts = [name.partition(":") for name in names]
    return [source.locate(data, split, [rest])[rest] for split, _, rest in parts]


def _shades(values: NDArray[Any], spec: Any) -> NDArray[Any]:
    """(n, channels, rows, columns) as the network sees them to (n, rows, columns, channels), 0 black and 1 white."""
    import numpy as np

    shape = (1, spec.channels, 1, 1)
    grey = (np.asarray(values, np.float64) * np.reshape(spec.std, shape) + np.reshape(spec.mean, shape)) / spec.scale
    return np.asarray(grey.transpose(0, 2, 3, 1) / 255)


def _split(ctx: Context) -> str:
    return next(name for name in SPLITS if name in ctx.splits)


def _written(row: PreprocessRow, out: Path) -> Facts:
    facts = {"preprocess": row.model_dump(mode="json")}
    (out / "preprocess.json").write_bytes(canonical_json(facts, indent=1))
    return facts


def _digest(path: Path) -> str:
    from edgeft.canonical import digest_file

    return digest_file(path)
