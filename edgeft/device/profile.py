"""Device profiles: one YAML file per device type, every field typed. A unit is one machine of a type."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from edgeft.device.unit import Unit

__all__ = ["Cluster", "Device", "Unit", "bind_unit", "load_device", "shipped_devices"]


class Cluster(BaseModel):
    """Cores of one kind."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=64, description="The core, such as Cortex-A76.")
    cores: int = Field(ge=1, le=1024, strict=True, description="How many.")
    mhz: int | None = Field(None, ge=1, le=20_000, strict=True, description="Highest clock, MHz.")


class Device(BaseModel):
    """What a build must know of a target. Figures carry their origin in `sources`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64, description="Name used in recipes; the file's name."
    )
    description: str = Field("", description="One line for people.")
    os: Literal["host", "linux", "android", "ios", "macos", "windows"] = Field(
        "host", description="Operating system; host: that of this machine."
    )
    transport: Literal["local", "ssh", "adb", "emulated", "carried"] = Field(
        "local", description="How edgeft reaches it; carried: a person takes the job there and brings the result back."
    )
    how: Literal["measured", "emulated"] = Field(
        "measured", description="emulated: accuracy only, latency is refused. Follows from the transport."
    )
    architecture: Literal["host", "x86_64", "aarch64"] = Field("host", description="Instruction set.")
    emulate: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._,+=-]*$", max_length=200,
        description="Processor that qemu imitates (its -cpu), such as cortex-a76; emulated devices only.",
    )  # fmt: skip
    processor: str = Field("", description="The chip, for people.")
    cpu_flags: tuple[str, ...] = Field(
        (), description="Instruction-set flags as Linux names them; empty: not known, or those of the host."
    )
    clusters: tuple[Cluster, ...] = Field((), description="Cores by kind, fastest first; empty: not known.")
    memory_mb: int | None = Field(None, ge=1, strict=True, description="Main memory as sold, MB: 8 GB is 8192.")
    runtimes: tuple[str, ...] = Field(("onnxruntime",), min_length=1, description="Runtimes present on the device.")
    providers: tuple[str, ...] = Field(
        ("CPUExecutionProvider",),
        min_length=1,
        description="ONNX Runtime's execution providers by its names or short (cpu, cuda, qnn), first choice first.",
    )
    provider_options: dict[str, dict[str, str | int]] = Field(
        default_factory=dict,
        description="Provider -> its options as ONNX Runtime calls them, such as {qnn: {backend_path: libQnnHtp.so}}.",
    )
    fallback: bool = Field(
        False, description="Whether nodes that the first provider does not take may run on the CPU; else it is refused."
    )
    threads: int = Field(1, ge=1, le=256, strict=True, description="Intra-op threads a shipped app would use.")
    affinity: tuple[int, ...] = Field((), description="Cores the threads are pinned to; empty: the system chooses.")
    opset: int = Field(20, ge=13, le=25, strict=True, description="Highest ONNX opset the device's runtime takes.")
    ir_version: int = Field(
        10, ge=8, le=13, strict=True, description="Highest ONNX IR version the device's runtime takes."
    )
    max_artifact_mb: float | None = Field(
        None, gt=0, description="Largest artefact that fits; larger candidates are rejected."
    )
    max_memory_mb: float | None = Field(
        None,
        gt=0,
        description=(
            "Memory an app may take there: a candidate whose process took more (its peak, Python included) is "
            "rejected. Not held where memory is not measured: under emulation, and with `measure: {protocol: none}`."
        ),
    )
    watts: float | None = Field(
        None, gt=0, le=1000, description="Power of one busy core, W, for `optimise: energy-proxy`."
    )
    sources: dict[str, str] = Field(default_factory=dict, description="Field -> where its figure comes from.")
    unit: Unit | None = Field(
        None, exclude=True, repr=False, description="The machine itself, bound at run time; never in a file or a dump."
    )

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, data: Any) -> Any:
        """`how` and `transport` each follow from the other where only one is given."""
        if isinstance(data, dict):
            if "how" not in data and data.get("transport") == "emulated":
                return {**data, "how": "emulated"}
            if "transport" not in data and data.get("how") == "emulated":
                return {**data, "transport": "emulated"}
        return data

    @field_validator("providers")
    @classmethod
    def _name_providers(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        """ONNX Runtime's own names, each once."""
        from edgeft.runtimes.ort import provider_name

        names = tuple(provider_name(name) for name in given)
        if len(set(names)) != len(names):
            raise ValueError(f"each once, not {', '.join(names)}")
        return names

    @field_validator("provider_options")
    @classmethod
    def _name_options(cls, given: dict[str, dict[str, str | int]]) -> dict[str, dict[str, str | int]]:
        from edgeft.runtimes.ort import provider_name

        return {provider_name(name): options for name, options in given.items()}

    @model_validator(mode="after")
    def _agree(self) -> Device:
        """Fields that speak of the same thing must not contradict each other."""
        if (self.how == "emulated") != (self.transport == "emulated"):
            raise ValueError(f"how: {self.how} does not go with transport: {self.transport}; leave `how` out")
        if self.emulate is not None and self.transport != "emulated":
            raise ValueError(f"emulate: names what qemu imitates, and the transport is {self.transport}")
        if self.affinity and (min(self.affinity) < 0 or len(set(self.affinity)) != len(self.affinity)):
            raise ValueError("affinity: core numbers from 0, each once")
        if self.affinity and self.threads > len(self.affinity):
            raise ValueError(f"affinity: {self.threads} threads do not fit on {len(self.affinity)} cores")
        cores = sum(cluster.cores for cluster in self.clusters)
        if cores and (self.threads > cores or max(self.affinity, default=0) >= cores):
            raise ValueError(f"the clusters have {cores} cores: threads and affinity ask for more")
        if absent := sorted(set(self.provider_options) - set(self.providers)):
            raise ValueError(f"provider_options: {absent[0]} is not among the providers, {', '.join(self.providers)}")
        unknown = sorted(set(self.sources) - set(type(self).model_fields))
        if unknown:
            raise ValueError(f"sources: '{unknown[0]}' is no field of a device")
        return self

    @property
    def times_count(self) -> bool:
        """Whether a time measured through this profile is the device's own.

        Not under emulation; and not for iOS, where no worker runs: a Mac can answer in the phone's place, not time it.
        """
        return self.how == "measured" and self.os != "ios"

    @property
    def by_hand(self) -> bool:
        """Whether only a person reaches it, with a packed job: a build runs nothing there."""
        return self.transport == "carried"

    @property
    def needs_unit(self) -> bool:
        """Whether edgeft must be told which machine: over ssh and adb."""
        return self.transport in ("ssh", "adb")


def bind_unit(device: Device, unit: Unit) -> Device:
    """The profile of one machine: transports read where it is from `unit`; dumps and reports stay those of the type."""
    return device.model_copy(update={"unit": unit})


def shipped_devices() -> dict[str, Path]:
    """Name -> file of every device that comes with edgeft."""
    from importlib.util import find_spec

    spec = find_spec("edgeft_devices")
    if spec is None or not spec.submodule_search_locations:
        return {}
    folder = Path(next(iter(spec.submodule_search_locations)))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


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
    """Parse and check one profile. Raises RecipeError."""
    from pydantic import ValidationError

    from edgeft.device.yaml_read import explain, read_mapping
    from edgeft.errors import RecipeError

    data = read_mapping(path, "device profile")
    if "unit" in data:
        raise RecipeError(
            "a device has no key 'unit': a profile describes a type",
            where=str(path),
            hint="which machine it is goes into your units: edgeft devices add",
        )
    try:
        device = Device.model_validate(data)
    except ValidationError as error:
        known = [name for name in Device.model_fields if name != "unit"]
        raise explain(error, known, where=str(path), what="a device") from error
    if device.name != path.stem:
        raise RecipeError(
            f"name is '{device.name}', the file is called '{path.name}'", where=str(path), hint="make them equal"
        )
    return device
