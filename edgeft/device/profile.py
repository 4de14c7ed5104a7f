"""Device profiles: one YAML file per device type, every field typed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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
