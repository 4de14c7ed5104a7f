"""Device profiles: one YAML file per device type, every field typed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from pydantic import ValidationError

    from edgeft.errors import RecipeError


class Device(BaseModel):
    """What a build must know of a target. Figures carry their origin in `sources`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Name used in recipes; the file's name.")
    description: str = Field("", description="One line for people.")
    transport: Literal["local"] = Field("local", description="How edgeft reaches it.")
    how: Literal["measured", "emulated"] = Field("measured", description="emulated: accuracy only, latency is refused.")
    architecture: Literal["host", "x86_64", "aarch64"] = Field("host", description="Instruction set.")
    runtimes: tuple[str, ...] = Field(("onnxruntime",), description="Runtimes present on the device.")
    threads: int = Field(1, ge=1, le=256, description="Intra-op threads a shipped app would use.")
    opset: int = Field(20, ge=13, le=25, description="Highest ONNX opset the device's runtime takes.")
    ir_version: int = Field(10, ge=8, le=13, description="Highest ONNX IR version the device's runtime takes.")
    max_artifact_mb: float | None = Field(None, gt=0, description="Largest artefact that fits.")
    sources: dict[str, str] = Field(default_factory=dict, description="Field -> where its figure comes from.")


def shipped_devices() -> dict[str, Path]:
    """Name -> file of every device that comes with edgeft."""
    from importlib.util import find_spec

    spec = find_spec("edgeft_devices")
    if spec is None or not spec.submodule_search_locations:
        return {}
    folder = Path(next(iter(spec.submodule_search_locations)))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


LARGEST_PROFILE = 1 << 16


def load_device(name_or_path: str) -> Device:
    """A shipped device by name, or one of your own by the path of its YAML file. Raises RecipeError."""
    from difflib import get_close_matches

    from edgeft.errors import RecipeError

    shipped = shipped_devices()
    if name_or_path in shipped:
        return _read(shipped[name_or_path])
    path = Path(name_or_path).expanduser()
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(f"there is no device file {name_or_path}", hint=f"shipped devices: {', '.join(shipped)}")
        return _read(path)
    near = get_close_matches(name_or_path, shipped, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"shipped devices: {', '.join(shipped) or 'none'};"
    raise RecipeError(f"no device is called '{name_or_path}'", hint=f"{hint} your own: the path of its YAML file")


def _read(path: Path) -> Device:
    """Parse and check one profile; aliases and duplicate keys are refused, the size is limited."""
    from pydantic import ValidationError
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from edgeft.errors import RecipeError

    if path.stat().st_size > LARGEST_PROFILE:
        raise RecipeError(f"larger than {LARGEST_PROFILE >> 10} KiB, not a device profile", where=str(path))
    try:
        text = path.read_text(encoding="utf-8")
        if any(type(event).__name__ == "AliasEvent" for event in YAML(typ="safe", pure=True).parse(text)):
            raise RecipeError("YAML aliases are not allowed in a device profile", where=str(path))
        data = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise RecipeError(f"not valid YAML: {' '.join(str(error).split())[:200]}", where=str(path)) from error
    if not isinstance(data, dict):
        raise RecipeError("a device profile is a mapping of keys to values", where=str(path))
    try:
        device = Device.model_validate(data)
    except ValidationError as error:
        raise _explain(error, path) from error
    if device.name != path.stem:
        raise RecipeError(
            f"name is '{device.name}', the file is called '{path.name}'", where=str(path), hint="make them equal"
        )
    return device


def _explain(error: ValidationError, path: Path) -> RecipeError:
    """The first problem as where, what and, for an unknown key, a near name."""
    from difflib import get_close_matches

    from edgeft.errors import RecipeError

    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = get_close_matches(key, Device.model_fields, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(Device.model_fields)}"
        return RecipeError(f"a device has no key '{key}'", where=str(path), hint=hint)
    return RecipeError(f"{key}: {first['msg']}", where=str(path))
