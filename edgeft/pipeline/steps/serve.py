"""`serve:` once the model is known: image sizes its folder states, and what of preprocessing goes into the artefact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgeft.pipeline.given.inputs import Inputs
from edgeft.pipeline.steps.embedded import check_embedding, is_image_task, is_windowed_task
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.schema import Serve

WINDOW = ("depth", "overlap", "blend", "empty")
"""Fields of `serve:` that only a windowed task has."""


def settle_serve(loaded: LoadedRecipe, inputs: Inputs) -> LoadedRecipe:
    """The recipe with every field of `serve:` that its task uses filled in. RecipeError where they do not fit."""
    serve, task = loaded.recipe.serve, loaded.recipe.model.task
    image = is_image_task(task)
    embed = serve.embed_preprocessing
    windowed = is_windowed_task(task)
    _check_window(loaded, serve, windowed)
    if not image:
        _check_text(loaded, serve)
        check_embedding(loaded)
        return _with(loaded, embed_preprocessing=embed or "none")
    if embed == "string":
        raise loaded.error(("serve", "embed_preprocessing"), "an image is no text", "pixels, or none")
    check_embedding(loaded)
    given = inputs.model.kind == "onnx"
    if given and (embed in ("pixels", "bytes") or serve.source):
        raise loaded.error(
            ("serve", "embed_preprocessing" if embed else "source"),
            "an ONNX file is taken as it is: nothing is put in front of it",
            "embed_preprocessing: none, and normalise in the app, or give the model it was exported from",
        )
    if serve.source and embed == "bytes":
        raise loaded.error(
            ("serve", "source"), "a file states its own size: bytes are resized from any", "leave it out"
        )
    if windowed and (serve.source or embed == "bytes"):
        place = "source" if serve.source else "embed_preprocessing"
        raise loaded.error(("serve", place), "a volume is neither resized nor decoded in the artefact", "leave it out")
    if serve.source and embed == "none":
        raise loaded.error(
            ("serve", "source"), "the artefact resizes from pixels only", "leave embed_preprocessing: pixels"
        )
    changes: dict[str, Any] = {"embed_preprocessing": embed or ("none" if given else "pixels")}
    if serve.height is None:
        changes |= _own_size(loaded, inputs)
    return _with(loaded, **changes)


def serve_shape(serve: Serve) -> dict[str, int]:
    """What exporters are told: batch, length, and depth, height and width where there are any."""
    sizes = {name: getattr(serve, name) for name in ("batch", "length", "depth", "height", "width")}
    return {name: int(size) for name, size in sizes.items() if size is not None}


def _check_text(loaded: LoadedRecipe, serve: Serve) -> None:
    for name in ("height", "source"):
        if getattr(serve, name) is not None:
            raise loaded.error(("serve", name), f"{loaded.recipe.model.task} has no image size", "state serve.length")


def _check_window(loaded: LoadedRecipe, serve: Serve, windowed: bool) -> None:
    """A window's three extents, and nothing of it where the task has none."""
    if windowed and serve.depth is None:
        hint = "state the window the network sees: serve: {depth: 96, height: 96, width: 96}"
        raise loaded.error(("serve",), f"{loaded.recipe.model.task} needs depth, height and width", hint)
    stated = [name for name in WINDOW if getattr(serve, name) is not None]
    if stated and not windowed:
        what = f"{loaded.recipe.model.task} has no windows"
        raise loaded.error(("serve", stated[0]), what, "leave it out, or task: volume-segmentation")


def _own_size(loaded: LoadedRecipe, inputs: Inputs) -> dict[str, int]:
    from edgeft.tasks.image_spec import own_size

    size = own_size(inputs.tokenizer.path)
    if size is None:
        raise loaded.error(
            ("serve",), "the image size is not known: the model's folder states none",
            "state it: serve: {batch: 1, height: 224, width: 224}",
        )  # fmt: skip
    return {"height": size[0], "width": size[1]}


def _with(loaded: LoadedRecipe, **changes: Any) -> LoadedRecipe:
    serve = loaded.recipe.serve.model_copy(update=changes)
    return replace(loaded, recipe=loaded.recipe.model_copy(update={"serve": serve}))
