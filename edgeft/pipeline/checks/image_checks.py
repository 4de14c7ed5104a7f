"""Medical images before anything runs: a window where values need one, patients, and an own pipeline that exists."""

from __future__ import annotations

from edgeft.data.patients import default_group
from edgeft.data.source import source_for
from edgeft.errors import RecipeError
from edgeft.recipe.load import LoadedRecipe
from edgeft.task import Task
from edgeft.usercode import check_function

WINDOW = "preprocess: {window: [lo, hi]}: of CT for instance [-160, 240] (HU), of X-rays the range of stored values"


def check_images(loaded: LoadedRecipe, task: Task) -> None:
    """RecipeError where `preprocess:` and `data:` do not go together."""
    recipe = loaded.recipe
    source, preprocess = source_for(recipe.data), recipe.preprocess
    image = "image" in task.columns
    if source.decodes and not image:
        raise loaded.error(("data", "source"), f"{source.name} gives images, {task.name} takes none", "another task")
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
    if preprocess is None:
        return
    if not image:
        raise loaded.error(("preprocess",), f"{task.name} takes no images", "remove the section")
    if preprocess.window is not None and not source.decodes:
        what = f"source {recipe.data.source} gives pictures of 8 bits, which have no modality units"
        raise loaded.error(("preprocess", "window"), what, "remove it, or read the original files: dicom, nifti")
    _check_own(loaded)


def _check_own(loaded: LoadedRecipe) -> None:
    preprocess = loaded.recipe.preprocess
    if preprocess is None or preprocess.check_against is None:
        return
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
