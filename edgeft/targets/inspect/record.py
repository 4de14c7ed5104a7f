"""What `edgeft inspect` found out about an ONNX file, as one JSON document."""

from __future__ import annotations

from pydantic import Field

from edgeft.record import LayerRow, Row, SensitivityRow


class InspectRecord(Row):
    """operators: kind -> nodes. quantised: kinds among them that show a graph quantised already. inputs: name -> dtype
    and shape. sensitivity: None without data; data: what it was measured on, in words."""

    file: str
    bytes: int
    opset: int
    operators: dict[str, int]
    quantised: dict[str, int] = Field(default_factory=dict)
    inputs: dict[str, list[str]] = Field(default_factory=dict)
    layers: list[LayerRow] = Field(default_factory=list)
    sensitivity: SensitivityRow | None = None
    data: str = ""
