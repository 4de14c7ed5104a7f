"""Medical images before anything runs: a window where values need one, patients, and an own pipeline that exists."""

from __future__ import annotations

from importlib.util import find_spec

from edgeft.data.patients import default_group
from edgeft.data.source import source_for
from edgeft.errors import RecipeError
from edgeft.recipe.load import LoadedRecipe
from edgeft.task import Task, WindowedTask
from edgeft.usercode import check_function

WINDOW = "preprocess: {window: [lo, hi]}: of CT for instance [-160, 240] (HU), of X-rays the range of stored values"


def check_images(loaded: LoadedRecipe, task: Task) -> None:
    """RecipeError where `preprocess:` and `data:` do not go together."""
    recipe = loaded.recipe
    source, preprocess = source_for(recipe.data), recipe.preprocess
    image = "image" in task.columns
    missing = [(module, extra) for module, extra in source.needs.items() if find_spec(module) is None]
    if missing:
        module, extra = missing[0]
        what = f"source {source.name} needs {module}, which is not installed"
        raise loaded.error(("data", "source"), what, f"pip install 'edgeft[{extra}]'")
    if source.decodes and not image:
        raise loaded.error(("data", "source"), f"{source.name} gives images, {task.name} takes none", "another task")
    _check_whole(loaded, task, whole=source.whole)
    if source.decodes and (preprocess is None or preprocess.window is None):
        where = ("preprocess",) if preprocess is not None else ("data", "source")
        what = f"{source.name} gives values in modality units, and which range becomes black to white is not said"
        raise loaded.error(where, what, WINDOW)
    if source.decodes and recipe.serve.embed_preprocessing == "bytes":
        what = f"the artefact decodes JPEG and PNG files, not {source.name}"
        raise loaded.error(("serve", "embed_preprocessing"), what, "pixels")
    try:
        default_group(recipe.data)
    except RecipeError as error:
        raise loaded.error(("data",), error.what, error.hint) from error
    source.check(recipe.data)
    if preprocess is None:
        return
    if not image:
        raise loaded.error(("preprocess",), f"{task.name} takes no images", "remove the section")
    if preprocess.window is not None and not source.decodes:
        what = f"source {recipe.data.source} gives pictures of 8 bits, which have no modality units"
        raise loaded.error(("preprocess", "window"), what, "remove it, or read the original files: dicom, nifti")
    _check_own(loaded)


def _check_whole(loaded: LoadedRecipe, task: Task, *, whole: bool) -> None:
    """Volumes for a task that takes volumes, and for no other."""
    source, expect = loaded.recipe.data.source, loaded.recipe.data.expect
    medical = source in ("dicom", "nifti")
    if whole and expect is not None and (expect.shape or expect.range or expect.spacing):
        what = "shape, range and spacing are looked at slice by slice, and rows are whole volumes"
        raise loaded.error(("data", "expect"), what, "leave them out; labels and prevalence are checked")
    if whole == isinstance(task, WindowedTask):
        return
    if whole:
        raise loaded.error(("data", "source"), f"rows are whole volumes, {task.name} takes images",
                           "model: {task: volume-segmentation}" + (", or slices: all" if medical else ""))  # fmt: skip
    hint = "data: {options: {slices: whole}}" if medical else "sources dicom and nifti with slices: whole"
    raise loaded.error(("data", "source"), f"{task.name} takes whole volumes, source {source} gives images", hint)


def _check_own(loaded: LoadedRecipe) -> None:
    preprocess = loaded.recipe.preprocess
    if preprocess is None or preprocess.check_against is None:
        return
    if source_for(loaded.recipe.data).whole:
        what = "whole volumes are prepared when the data is read, not when the network is fed"
        raise loaded.error(("preprocess", "check_against"), what, "leave it out")
    if type(source_for(loaded.recipe.data)).locate is _base_locate():
        what = f"rows of source {loaded.recipe.data.source} are no files of their own that a function could be given"
        raise loaded.error(("preprocess", "check_against"), what, "dicom, nifti, image-folder, image-masks")
    try:
        check_function(preprocess.check_against)
    except RecipeError as error:
        raise loaded.error(("preprocess", "check_against"), error.what, error.hint) from error


def _base_locate() -> object:
    from edgeft.data.source import Source

    return Source.locate
