"""The user's own machines: one YAML file in the user's configuration, written with permissions for the user only.

kitchen-pi:
  type: raspberry-pi-5
  host: pi@kitchen.local
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.device.profile import Device, load_device, shipped_devices
from edgeft.device.unit import Unit
from edgeft.device.yaml_read import explain, read_mapping
from edgeft.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_UNITS = 1000
HEAD = "# Your machines, for edgeft: `edgeft devices add` and `remove` change this file.\n"
PATIENCE = 10.0
"""Seconds to wait for another process that is changing the file."""


def units_path() -> Path:
    """EDGEFT_UNITS, else edgeft/units.yaml in the platform's folder for configuration."""
    if chosen := os.environ.get("EDGEFT_UNITS"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = os.environ.get("APPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Roaming") / "edgeft" / "units.yaml"
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "edgeft" / "units.yaml"


def read_units() -> dict[str, Unit]:
    """Name -> unit, by name; none where there is no file. RecipeError names file, unit and key."""
    path = units_path()
    if not path.exists():
        return {}
    data = read_mapping(path, "units file", empty=True)
    if len(data) > MOST_UNITS:
        raise RecipeError(f"more than {MOST_UNITS} units", where=str(path))
    return {unit.name: unit for unit in (_parse(path, name, data[name]) for name in sorted(data, key=str))}


def check_unit(unit: Unit) -> Device:
    """The profile of a unit's type; RecipeError where the unit lacks what that type is reached by, or has other."""
    device = load_device(unit.type)
    if not device.needs_unit:
        raise RecipeError(
            f"{device.name} is reached by '{device.transport}' and has no units",
            hint=f"name {unit.type} itself as the device",
        )
    way, other = ("host", "serial") if device.transport == "ssh" else ("serial", "host")
    if getattr(unit, way) is None:
        example = "--host pi@kitchen.local" if way == "host" else "--serial with what `adb devices` shows"
        raise RecipeError(f"{device.name} is reached by {device.transport}: it needs a {way}", hint=f"add {example}")
    if getattr(unit, other) is not None or (other == "host" and unit.port is not None):
        raise RecipeError(
            f"{device.name} is reached by {device.transport}: it takes no {'port' if unit.port else other}"
        )
    return device


def make_unit(values: Mapping[str, Any], where: str) -> Unit:
    """A checked unit from key -> value. RecipeError with the key, and for an unknown key a near one."""
    from pydantic import ValidationError

    try:
        return Unit.model_validate(dict(values))
    except ValidationError as error:
        raise explain(error, Unit.model_fields, where=where, what="a unit") from error


def add_unit(unit: Unit) -> Path:
    """Write a new unit into the file. RecipeError for a name that is taken, or a type that does not go with it."""
    check_unit(unit)
    if unit.name in shipped_devices():
        raise RecipeError(f"'{unit.name}' is the name of a device type", hint="choose another name for your unit")
    path = units_path()
    with _changing(path):
        if unit.name in read_units():
            raise RecipeError(
                f"there is a unit '{unit.name}' already",
                where=str(path),
                hint=f"edgeft devices remove {unit.name}, or choose another name",
            )
        _edit(path, unit.name, unit.model_dump(exclude={"name"}, exclude_none=True))
    return path


def remove_unit(name: str) -> Path:
    """Take a unit out of the file. RecipeError for an unknown name."""
    path = units_path()
    with _changing(path):
        find_unit(name, read_units())
        _edit(path, name, None)
    return path


def find_unit(name: str, units: Mapping[str, Unit]) -> Unit:
    """The unit of a name; RecipeError with a near name."""
    from difflib import get_close_matches

    if name in units:
        return units[name]
    near = get_close_matches(name, units, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"your units: {', '.join(units) or 'none yet'}"
    raise RecipeError(f"no unit is called '{name}'", hint=hint)


def _parse(path: Path, name: Any, values: Any) -> Unit:
    where = f"{path}: {str(name)[:80]}"
    if not isinstance(values, dict):
        raise RecipeError("a unit is a mapping, such as {type: raspberry-pi-5, host: pi@kitchen.local}", where=where)
    if "name" in values:
        raise RecipeError("a unit has no key 'name': its name stands before the colon", where=where)
    return make_unit({**values, "name": name}, where)


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """One process at a time changes the file. RecipeError where it cannot be written."""
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(path.with_name(f"{path.name}.lock"), timeout=PATIENCE, mode=0o600):
            yield
    except Timeout as error:
        raise RecipeError("another process is changing this file", where=str(path)) from error
    except (OSError, NotImplementedError) as error:
        said = getattr(error, "strerror", None) or "this file system has no file locks"
        raise RecipeError(f"cannot be written: {said}", where=str(path), hint="EDGEFT_UNITS=/another/file") from error


def _edit(path: Path, name: str, values: Mapping[str, Any] | None) -> None:
    """Set or, with None, take out one unit; comments stay. Readable by the user only, put in place at once.

    A link to a file elsewhere stays one. The file has been read strictly before: it holds no tags and no aliases.
    """
    from ruamel.yaml import YAML

    path = path.resolve()
    yaml = YAML(typ="rt", pure=True)
    data = (yaml.load(path.read_text(encoding="utf-8")) if path.exists() else None) or {}
    if values is None:
        del data[name]
    else:
        data[name] = dict(values)
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(draft, "x", encoding="utf-8", opener=_private) as stream:
            if not path.exists():
                stream.write(HEAD)
            yaml.dump(data, stream)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
