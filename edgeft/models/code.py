"""Models given as code: file.py:function builds the module, safetensors fill it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact
from edgeft.canonical import digest_file
from edgeft.errors import StepError
from edgeft.models.surgery import read_surgery, remember, replay

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"
SHOWN = 6


def load_code(model: Artifact, labels: int, seed: int = 0) -> torch.nn.Module:
    """Build by the user's function (called with num_labels) and fill strictly from safetensors. Raises StepError.

    Where the recipe says initialise, the weights stay as the function drew them under `seed`.

    The file must stand alone: it travels with the model, its neighbours do not.
    """
    import torch

    build, code = _builder(model)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = build(num_labels=labels)
    except (Exception, SystemExit) as error:  # sys.exit() in the user's code must not end the build with its own code
        raise StepError(
            f"{code}: {type(error).__name__}: {error}", hint=f"it is called with num_labels={labels}"
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise StepError(f"{code} returned {type(module).__name__}", hint="return a torch.nn.Module")
    if model.facts.get("initialise"):
        return module
    surgery = read_surgery(model.path if model.path.is_dir() else model.path.parent)
    replay(module, surgery.edits)
    fill(module, weights_file(model))
    remember(module, surgery)
    return module


def code_file(model: Artifact) -> tuple[Path, str]:
    """(file, function) of a code model: inside the artefact when it is there, else where the recipe said."""
    name, _, function = str(model.facts.get("code", "")).rpartition(":")
    if not name or not function:
        raise StepError("a code model needs facts 'code' as file.py:function", where=str(model.path))
    inside = (model.path if model.path.is_dir() else model.path.parent) / name
    path = inside if not Path(name).is_absolute() and inside.is_file() else Path(name)
    if not path.is_file():
        raise StepError(f"the code file {path} is not there", hint="model.code names it as file.py:function")
    return path, function


def weights_file(model: Artifact) -> Path:
    """The safetensors file of a code model."""
    given = model.facts.get("weights")
    path = Path(given) if given else model.path / WEIGHTS if model.path.is_dir() else model.path
    if path.suffix != ".safetensors" or not path.is_file():
        raise StepError(f"{path} is no safetensors file", hint="convert a pickle with `edgeft convert`")
    return path


def fill(module: torch.nn.Module, path: Path) -> None:
    """Load a state dictionary strictly; missing, unexpected and misshapen entries are a StepError with near names."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except SafetensorError as error:
        raise damaged(error, path) from error
    own = module.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unexpected:
        raise StepError(
            mismatch(missing, unexpected),
            where=str(path),
            hint="the weights must be of the module that the code builds",
        )
    wrong = [name for name, tensor in state.items() if tensor.shape != own[name].shape]
    if wrong:
        name = wrong[0]
        raise StepError(
            f"'{name}' has shape {tuple(state[name].shape)}, the code builds {tuple(own[name].shape)}",
            where=str(path),
            hint="is num_labels the number of labels in the data?",
        )
    module.load_state_dict(state, strict=True)


def damaged(error: Exception, path: Path) -> StepError:
    """What to say of weights that do not open: a download cut short, or another file under that name."""
    what = f"the safetensors weights are damaged: {str(error).splitlines()[0]}"
    return StepError(what, where=str(path), hint="copy or download them again, whole")


def mismatch(missing: Iterable[str], unexpected: Iterable[str]) -> str:
    """One sentence on names that do not meet, each missing one with its nearest unexpected neighbour."""
    missing, unexpected = list(missing), list(unexpected)
    parts = []
    if missing:
        near = [get_close_matches(name, unexpected, n=1) for name in missing[:SHOWN]]
        listed = [f"{name} (did you mean {m[0]}?)" if m else name for name, m in zip(missing, near, strict=False)]
        parts.append(f"missing {len(missing)}: {', '.join(listed)}{' ...' if len(missing) > SHOWN else ''}")
    if unexpected:
        parts.append(
            f"unexpected {len(unexpected)}: {', '.join(unexpected[:SHOWN])}{' ...' if len(unexpected) > SHOWN else ''}"
        )
    return "weights do not fit; " + "; ".join(parts)


def _builder(model: Artifact) -> tuple[Callable[..., Any], str]:
    path, function = code_file(model)
    code = f"{path.name}:{function}"
    name = f"edgeft_code_{digest_file(path)[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise StepError(f"{path} cannot be imported", hint="it must be a .py file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise StepError(
                f"{path}: {type(error).__name__}: {error}", hint="the file must import on its own"
            ) from error
    build = getattr(sys.modules[name], function, None)
    if not callable(build):
        names = [key for key, value in vars(sys.modules[name]).items() if callable(value) and not key.startswith("_")]
        near = get_close_matches(function, names, n=1)
        raise StepError(
            f"{path} has no function '{function}'",
            hint=f"did you mean '{near[0]}'?" if near else f"it has: {', '.join(names)}",
        )
    return build, code
