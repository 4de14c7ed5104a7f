"""`serve:` once the model is known: image sizes its folder states, and what of preprocessing goes into the artefact."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgeft.pipeline.given.inputs import Inputs
from edgeft.pipeline.steps.embedded import check_embedding, is_image_task
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.schema import Serve


def settle_serve(loaded: LoadedRecipe, inputs: Inputs) -> LoadedRecipe:
    """The recipe with every field of `serve:` that its task uses filled in. RecipeError where they do not fit."""
    serve, task = loaded.recipe.serve, loaded.recipe.model.task
    image = is_image_task(task)
    embed = serve.embed_preprocessing
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
    if serve.source and embed == "none":
        raise loaded.error(
            ("serve", "source"), "the artefact resizes from pixels only", "leave embed_preprocessing: pixels"
        )
    changes: dict[str, Any] = {"embed_preprocessing": embed or ("none" if given else "pixels")}
    if serve.height is None:
        changes |= _own_size(loaded, inputs)
    return _with(loaded, **changes)


def serve_shape(serve: Serve) -> dict[str, int]:
    """What exporters are told: batch, length, and height and width where there are any."""
    sizes = {name: getattr(serve, name) for name in ("batch", "length", "height", "width")}
    return {name: int(size) for name, size in sizes.items() if size is not None}


def _check_text(loaded: LoadedRecipe, serve: Serve) -> None:
    for name in ("height", "source"):
        if getattr(serve, name) is not None:
            raise loaded.error(("serve", name), f"{loaded.recipe.model.task} has no image size", "state serve.length")


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
