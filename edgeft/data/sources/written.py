"""PNG files that a source makes from an installed package, in a folder of its own."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.errors import RecipeError, StepError

if TYPE_CHECKING:
    from PIL import Image


def own_folder(name: str, stated: str | None) -> Path:
    """Where the files go: `stated`, else one folder per user below the temporary folder.

    Windows has no user numbers, and its temporary folder is the user's own already.
    """
    if stated:
        return Path(stated)
    user = getattr(os, "getuid", None)
    return Path(tempfile.gettempdir()) / (f"edgeft-{name}-{user()}" if user else f"edgeft-{name}")


def write_png(image: Image.Image, path: Path) -> None:
    """Make the file hold exactly this image; StepError where it cannot be written.

    A file that is there is compared byte by byte: what others left in a temporary folder is no data of ours.
    """
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    wanted = stream.getvalue()
    try:
        if path.is_file() and path.read_bytes() == wanted:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.partial")
        draft.write_bytes(wanted)
        draft.replace(path)
    except OSError as error:
        raise StepError(f"cannot be written: {error.strerror}", where=str(path), hint="data.options.folder") from error


def version_of(distribution: str, extra: str = "") -> str:
    """Version of an installed package; RecipeError naming the extra that brings it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        named = f"edgeft[{extra}]" if extra else "edgeft"
        what = f"{distribution} is not installed"
        raise RecipeError(what, where="data.source", hint=f"pip install '{named}'") from None
