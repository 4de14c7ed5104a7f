"""All a recipe needs, gathered in one folder for a site without internet."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.canonical import digest_file, walk_files
from edgeft.errors import EdgeftError, RecipeError, StepError
from edgeft.gate import short_name
from edgeft.recipe.dump import dump_recipe
from edgeft.recipe.load import LoadedRecipe, load_recipe
from edgeft.ship.bundle import open_bundle
from edgeft.ship.hub import fetch_dataset, fetch_model
from edgeft.ship.verify import MANIFEST

if TYPE_CHECKING:
    from edgeft.recipe.schema import Data, Model, Recipe
    from edgeft.stage import Stage

Say = Callable[[str], None]
MODEL_PATTERNS = (
    "*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.tiktoken", "LICENSE*", "README.md",
)  # fmt: skip


@dataclass
class Site:
    """The folder while it is filled. notes: what came from where, for its README."""

    folder: Path
    loaded: LoadedRecipe
    say: Say
    notes: list[str] = field(default_factory=list)

    def took(self, what: str) -> None:
        """Tell, and note for the README."""
        self.say(what)
        self.notes.append(what)


def gather(loaded: LoadedRecipe, into: Path, *, wheels: bool, say: Say) -> Path:
    """Write `into` (new or empty), whole or not at all: model, data, code, wheels, recipe.yaml, README.txt, SHA256SUMS.

    Raises RecipeError when `into` is in use and StepError, with the reason, for what cannot be fetched or written.
    """
    into = into.absolute()
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise RecipeError("is not empty", where=str(into), hint="name a new folder with --into")
    draft = into.with_name(f".{into.name}.{secrets.token_hex(4)}")
    try:
        draft.mkdir(parents=True)
        _fill(Site(draft, loaded, say), wheels=wheels)
        if into.exists():
            into.rmdir()
        draft.rename(into)
    except OSError as error:
        raise StepError(f"cannot be written: {error.strerror or error}", where=str(error.filename or into)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return into


def _fill(site: Site, *, wheels: bool) -> None:
    recipe = site.loaded.recipe
    targets = [item.model_copy(update={"device": _device(site, item.device)}) for item in recipe.targets]
    gates = []
    for gate in recipe.gates:
        device = gate.device and _device(site, gate.device)
        update = {"metric": _code(site, gate.metric, "metrics"), "device": device}
        if gate.released:
            update["no_worse_than"] = _released(site, Path(gate.released))
        gates.append(gate.model_copy(update=update))
    local = recipe.model_copy(
        update={
            "env": (),
            "extends": None,
            "model": _model(site, recipe.model),
            "data": _data(site, recipe.data),
            "steps": tuple(_step(site, step, index) for index, step in enumerate(recipe.steps)),
            "targets": tuple(targets),
            "gates": tuple(gates),
        }
    )
    (site.folder / "recipe.yaml").write_text(dump_recipe(local), encoding="utf-8")
    _check(site, local)
    if wheels:
        from edgeft.ship.wheels import fetch_wheels

        fetch_wheels(site.folder, site.took)
    (site.folder / "README.txt").write_text(_readme(site, wheels=wheels), encoding="utf-8")
    sums = [f"{digest_file(path)}  {name}\n" for name, path in walk_files(site.folder)]
    (site.folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


def _check(site: Site, local: Recipe) -> None:
    """The written recipe must load here, with nothing but the folder's own files."""
    try:
        again = load_recipe(site.folder / "recipe.yaml", (), {})
    except EdgeftError as error:
        raise StepError(f"the gathered recipe does not load: {error}", hint="please report this recipe") from error
    ours, theirs = (
        [step.model_dump(exclude=set(step.models)) for step in item.steps] for item in (local, again.recipe)
    )
    if again.recipe.name != local.name or ours != theirs:
        raise StepError("the gathered recipe loads as another one", hint="please report this recipe")


def _model(site: Site, model: Model) -> Model:
    update: dict[str, str | None] = {}
    if model.path:
        update |= {"path": "model", "revision": None}
        if Path(model.path).is_dir():
            _copy_model(site, Path(model.path), "model")
        else:
            commit = fetch_model(site.loaded, model.path, model.revision, site.folder / "model", MODEL_PATTERNS)
            site.took(f"model: {model.path} at commit {commit}")
    for name in ("adapter", "tokenizer"):
        if given := getattr(model, name):
            _copy_model(site, Path(given), name)
            update[name] = name
    for name in ("onnx", "weights"):
        if given := getattr(model, name):
            update[name] = _copy_file(site, Path(given), name)
    if model.onnx:
        for side in sorted(Path(model.onnx).parent.glob(f"{Path(model.onnx).name}*")):
            if side.is_file() and side.name != Path(model.onnx).name:
                _copy_file(site, side, "onnx")
    if model.code:
        update["code"] = _code(site, model.code, "code")
    return model.model_copy(update=update)


def _step(site: Site, step: Stage, index: int) -> Stage:
    """A step with copies of the further models it names."""
    update: dict[str, str | None] = {}
    for role in step.models:
        given = getattr(step, role)
        if not given:
            continue
        name = f"{step.id or step.name}-{role}"
        update |= {role: name, f"{role}_revision": None}
        if Path(given).is_dir():
            _copy_model(site, Path(given), name)
        else:
            revision = getattr(step, f"{role}_revision", None)
            at = ("steps", index, role)
            commit = fetch_model(site.loaded, given, revision, site.folder / name, MODEL_PATTERNS, at)
            site.took(f"{name}: {given} at commit {commit}")
    return step.model_copy(update=update)


def _copy_model(site: Site, source: Path, name: str) -> None:
    """The files a model folder is read from; links (a hub cache is made of them) become files, pickles stay behind."""
    target = site.folder / name
    target.mkdir()
    for path in sorted({path for pattern in MODEL_PATTERNS for path in source.glob(pattern) if path.is_file()}):
        shutil.copyfile(path, target / path.name)
    site.took(f"{name}: {len(list(target.iterdir()))} files of {source.name}")


def _data(site: Site, data: Data) -> Data:
    if data.paths is not None:
        given = {name: value for name, value in data.paths if value}
        paths = {name: _data_part(site, data, value, name) for name, value in given.items()}
        return data.model_copy(update={"paths": data.paths.model_copy(update=paths), "revision": None})
    if data.path:
        return data.model_copy(update={"path": _data_part(site, data, data.path, "all"), "revision": None})
    return data


def _data_part(site: Site, data: Data, value: str, name: str) -> str:
    """One path of the data copied; its new relative name."""
    if data.source == "python":
        return _code(site, value, "data/code")
    source = Path(value)
    if source.is_dir():
        _refuse_links_out(source)
        shutil.copytree(source, site.folder / "data" / name)
        site.took(f"data: the folder {source.name}")
        return f"data/{name}"
    if source.is_file():
        return _copy_file(site, source, f"data/{name}")
    if data.source == "huggingface":
        fetch_dataset(site.loaded, data, value, site.folder / "data" / name)
        site.took(f"data: {value} at commit {data.revision}")
        return f"data/{name}"
    raise StepError(f"the data '{value}' is neither file nor folder", where=site.loaded.where(("data", "path")))


def _refuse_links_out(folder: Path) -> None:
    root = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise StepError("a link leads out of the data folder", where=str(path), hint="copy what it points to")


def _copy_file(site: Site, source: Path, name: str) -> str:
    target = site.folder / name / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    site.took(f"{name.partition('/')[0]}: {source.name}")
    return f"{name}/{source.name}"


def _code(site: Site, reference: str, name: str) -> str:
    """`file.py:function` with the Python files beside it, which it may import; other words stay as they are."""
    file, colon, function = reference.rpartition(":")
    if not colon or not Path(file).is_file():
        return reference
    folder = Path(file).parent
    # Two references may come from different folders: each folder gets its own, the same one the same.
    place = f"{name}/{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    if not (site.folder / place).exists():
        (site.folder / place).mkdir(parents=True)
        for path in sorted(folder.glob("*.py")):
            shutil.copyfile(path, site.folder / place / path.name)
        site.took(f"code: {Path(file).name} and the Python files beside it")
    return f"{place}/{Path(file).name}:{function}"


def _released(site: Site, source: Path) -> str:
    """A released bundle that a gate compares with, copied once; its new relative name."""
    bundle = open_bundle(source)
    place = f"released/{digest_file(bundle.folder / MANIFEST)[:8]}"
    if not (site.folder / place).exists():
        shutil.copytree(bundle.folder, site.folder / place)
        site.took(f"released: the bundle {short_name(str(source))}")
    return place


def _device(site: Site, device: str) -> str:
    """A device's own YAML file copied; a shipped device's name as it is."""
    return _copy_file(site, Path(device), "devices") if device.endswith((".yaml", ".yml")) else device


def _readme(site: Site, *, wheels: bool) -> str:
    name = site.loaded.recipe.name
    install = (
        "  python3 -m venv .venv\n"
        "  .venv/bin/python -m pip install --no-index --find-links wheels --requirement requirements.txt\n"
        "  .venv/bin/edgeft build recipe.yaml --offline\n"
    )
    bare = "  edgeft doctor\n  edgeft plan recipe.yaml --offline\n  edgeft build recipe.yaml --offline\n"
    text = f"Everything to build '{name}' without internet. In this folder run:\n\n{install if wheels else bare}\n"
    if wheels:
        text += "The wheels are for the Python version and the system they were gathered on.\n"
    else:
        text += "The wheels were not gathered (--no-wheels): edgeft must be installed already.\n"
    text += "To check the copy first: sha256sum --check SHA256SUMS\n\nIn it:\n"
    return text + "".join(f"  {note}\n" for note in site.notes)
