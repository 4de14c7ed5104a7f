"""The user's own Python, named `file.py:function`: loaded from its file, called with errors that point into it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from edgeft.canonical import digest_json
from edgeft.errors import RecipeError, StepError

MAX_SOURCE_BYTES = 4 << 20


def split_spec(spec: str, where: str = "") -> tuple[Path, str]:
    """(`file.py`, `function`) of a spec; RecipeError when it has another form or the file is missing."""
    file, colon, function = spec.rpartition(":")
    if not colon or not file.endswith(".py") or not function.isidentifier():
        raise RecipeError(
            f"'{spec}' is not of the form file.py:function", where=where, hint="for instance rows.py:load"
        )
    path = Path(file)
    if not path.is_file():
        raise RecipeError(f"no file {file}", where=where, hint="a path is read from the folder of the recipe")
    return path, function


def check_function(spec: str, where: str = "") -> None:
    """RecipeError when the file is missing, does not parse or defines no such function; nothing is run."""
    path, function = split_spec(spec, where)
    try:
        tree = ast.parse(_read(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise RecipeError(f"{getattr(error, 'msg', error)}", where=f"{path}:{line}") from error
    _check_neighbours(path, where)
    names = {name for node in ast.walk(tree) for name in _bound(node)}
    if function not in names and "*" not in names:
        own = sorted(name for node in tree.body for name in _bound(node))
        raise RecipeError(
            f"{path.name} has no function '{function}'", where=where or str(path), hint=_near(function, own)
        )


def _check_neighbours(path: Path, where: str) -> None:
    """RecipeError where a module beside the file that it imports is named as Python's own or an installed one."""
    folder = path.parent.resolve()
    for beside in _beside(path, path.parent):
        name = beside.relative_to(path.parent).parts[0].removesuffix(".py")
        elsewhere = PathFinder.find_spec(name, [entry for entry in sys.path if Path(entry).resolve() != folder])
        if name in sys.stdlib_module_names or elsewhere is not None:
            raise RecipeError(
                f"{beside.name} beside {path.name} has the name of another module, {name}, which would be imported",
                where=where or str(path),
                hint=f"rename it, for instance to my_{name}.py",
            )


def _bound(node: ast.AST) -> list[str]:
    """Names a statement defines at its own level."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name for alias in node.names]
    return []


def code_digest(spec: str, file_digest: Callable[[Path], str], where: str = "") -> str:
    """Digest of a function's file and of the modules beside it that it imports, found by `ast`; nothing is run.

    What the file imports from installed packages is not in it.
    """
    path, function = split_spec(spec, where)
    seen: dict[str, str] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        name = file.relative_to(path.parent).as_posix()
        if name not in seen:
            seen[name] = file_digest(file)
            waiting.extend(_beside(file, path.parent))
    return digest_json([function, sorted(seen.items())])


def _beside(file: Path, folder: Path) -> list[Path]:
    """Files of the modules in `folder` that `file` imports; a file that does not parse imports none."""
    try:
        tree = ast.parse(_read(file))
    except (SyntaxError, ValueError, RecursionError, StepError):
        return []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" if node.module else alias.name for alias in node.names)
    stems = {folder.joinpath(*name.split(".")) for name in names if name}
    return [
        path for stem in stems for path in (stem.with_name(stem.name + ".py"), stem / "__init__.py") if path.is_file()
    ]


def load_function(spec: str, where: str = "") -> Callable[..., Any]:
    """The function behind `file.py:function`; modules beside the file can be imported by it.

    The file is compiled from its source (no stale or new `__pycache__`). A module whose loading fails is removed again,
    and the error names the line of the user's file: RecipeError for a wrong spec, StepError for failing code.
    """
    path, function = split_spec(spec, where)
    _check_neighbours(path, where)
    name = f"edgeft_user_{path.stem}_{digest_json(str(path.resolve()))[:8]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        with calling(spec), import_path(path.parent):
            exec(compile(_read(path), str(path), "exec"), module.__dict__)  # noqa: S102 - the user's own code, by request
    except BaseException:
        sys.modules.pop(name, None)
        raise
    found = getattr(module, function, None)
    if not callable(found):
        raise RecipeError(f"{path.name} has no function '{function}'", where=where, hint=_near(function, _own(module)))
    return found  # type: ignore[no-any-return]


def call(spec: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a loaded function; what it raises becomes a StepError at the user's own line."""
    with calling(spec), import_path(Path(spec.rpartition(":")[0]).parent):
        return function(*args, **options)


@contextmanager
def import_path(folder: Path) -> Iterator[None]:
    """Modules in `folder` can be imported inside the block, after all others: none takes an installed one's place."""
    entry = str(folder.resolve())
    sys.path.append(entry)
    try:
        yield
    finally:
        if entry in sys.path:
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(entry)]


@contextmanager
def calling(spec: str) -> Iterator[None]:
    """Turns an exception of the user's code into a StepError with file, line and that line's text."""
    path = Path(spec.rpartition(":")[0])
    try:
        yield
    except (KeyboardInterrupt, StepError, RecipeError):
        raise
    except SyntaxError as error:
        place = f"{error.filename}:{error.lineno}"
        raise StepError(f"{error.msg}", where=place, excerpt=f"    {(error.text or '').strip()}") from error
    except BaseException as error:  # SystemExit in user code must not end the build with its own code
        line, text = _user_line(path, error.__traceback__)
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        hint = f"this is raised by your own {path.name}"
        raise StepError(what, where=f"{path}:{line}" if line else str(path), excerpt=text, hint=hint) from error


def _user_line(path: Path, trace: TracebackType | None) -> tuple[int, str]:
    """Line number and text of the innermost frame that lies in the user's file."""
    found = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            found = trace.tb_lineno
        trace = trace.tb_next
    if not found:
        return 0, ""
    lines = _read(path).decode("utf-8", "replace").splitlines()
    return found, f"    {lines[found - 1].strip()}" if found <= len(lines) else ""


def _read(path: Path) -> bytes:
    if path.stat().st_size > MAX_SOURCE_BYTES:
        raise StepError(f"larger than {MAX_SOURCE_BYTES >> 20} MB", where=str(path), hint="this is no source file")
    return path.read_bytes()


def _own(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]


def _near(function: str, own: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(function, own, n=1)
    return f"did you mean '{near[0]}'?" if near else f"it has: {', '.join(sorted(own)) or 'no function'}"
