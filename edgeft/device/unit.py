"""One machine of a device type: where it is. Kept in the user's own configuration, never in a bundle or a report."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

NAME = r"^[a-z0-9][a-z0-9-]*$"
HOST = r"^([A-Za-z0-9_][A-Za-z0-9_.+-]*@)?[A-Za-z0-9_\[:][A-Za-z0-9_.:%\[\]-]*$"
"""As ssh takes it: alias, name or address, with user@ if need be. No leading '-': ssh would read it as an option."""
SERIAL = r"^[A-Za-z0-9][A-Za-z0-9._:-]*$"
PLACE = r"^[A-Za-z0-9_./][A-Za-z0-9_./:+@=-]*$"
"""A path that means the same to every shell, since ssh and adb hand what they run to the device's."""


class Unit(BaseModel):
    """How to reach one machine. host, port: ssh. serial: adb. python, folder: paths on the machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME, max_length=64, description="What you call it.")
    type: str = Field(min_length=1, max_length=4096, description="Device type: shipped, or the path of its YAML file.")
    host: str | None = Field(
        None, max_length=255, description="For ssh: an alias, a name or an address; user@ if needed."
    )
    port: int | None = Field(None, ge=1, le=65535, strict=True, description="Port of ssh, where it is not 22.")
    serial: str | None = Field(None, max_length=255, description="For adb: as `adb devices` shows it.")
    python: str | None = Field(None, max_length=1024, description="Python interpreter there, when not python3.")
    folder: str | None = Field(None, max_length=1024, description="Folder there in which jobs may be laid.")

    @field_validator("type")
    @classmethod
    def _check_type(cls, kind: str) -> str:
        if kind.endswith((".yaml", ".yml")) and not Path(kind).is_absolute():
            raise ValueError(f"{kind[:80]!r} is a file: give its whole path, for this is read from any folder")
        return kind

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str | None) -> str | None:
        return _fit(host, HOST, "a host is an alias, a name or an address, with user@ if needed")

    @field_validator("serial")
    @classmethod
    def _check_serial(cls, serial: str | None) -> str | None:
        return _fit(serial, SERIAL, "a serial is what `adb devices` shows")

    @field_validator("python", "folder")
    @classmethod
    def _check_place(cls, place: str | None) -> str | None:
        return _fit(place, PLACE, "a path there, absolute or from the login's home folder")


def _fit(value: str | None, pattern: str, what: str) -> str | None:
    """The value; ValueError where it could be an option, or more than one word to a shell."""
    if value is not None and not re.fullmatch(pattern, value):
        why = "begins with '-'" if value.startswith("-") else "holds a character that is not allowed there"
        raise ValueError(f"{value[:80]!r} {why}; {what}, without spaces, quotes or shell characters")
    return value
