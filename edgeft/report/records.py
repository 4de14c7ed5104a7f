"""record.json: written canonically, read as untrusted input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite, isnan
from pathlib import Path
from typing import Any, NoReturn

from edgeft.canonical import canonical_json
from edgeft.errors import EdgeftError, Exit
from edgeft.record import SCHEMA_VERSION, RunRecord

MAX_BYTES = 64 * 1024 * 1024
FILE_NAME = "record.json"


class RecordError(EdgeftError):
    """A record that cannot be read: missing, too large, not JSON, of another version."""

    exit_code = Exit.USAGE


def render_json(record: RunRecord) -> bytes:
    """Canonical bytes of the record. NaN and infinity, which JSON cannot say, become the strings "NaN", "Infinity" and
    "-Infinity": a build that failed by a NaN must be able to say so, and `read_record` gives the numbers back."""
    return canonical_json(_spell_out(record.model_dump(mode="python")), indent=1)


def read_record(path: Path) -> RunRecord:
    """The record in a file, or in `record.json` of a folder. RecordError says what is wrong and what to do."""
    file = path / FILE_NAME if path.is_dir() else path
    data = _parse(_read(file), file)
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        hint = "upgrade edgeft" if newer else "run the build again; what is cached is not done twice"
        raise RecordError(
            f"schema_version is {version!r:.40}, this edgeft reads {SCHEMA_VERSION}", where=str(file), hint=hint
        )
    return _validate(data, file)


def _read(file: Path) -> bytes:
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise RecordError(
                f"{size:,} bytes, at most {MAX_BYTES:,} are read", where=str(file), hint="is it a record.json?"
            )
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecordError("no such record", where=str(file), hint="a build writes it to out/NAME/record.json") from None
    except OSError as error:
        raise RecordError(f"cannot be read: {error.strerror}", where=str(file)) from error


def _parse(raw: bytes, file: Path) -> dict[str, Any]:
    try:
        data = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RecordError(f"not valid JSON: {reason:.200}", where=str(file)) from None
    if not isinstance(data, dict):
        raise RecordError("not a build record: the top level is no object", where=str(file))
    return data


def _validate(data: dict[str, Any], file: Path) -> RunRecord:
    from pydantic import ValidationError

    try:
        return RunRecord.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "top level"
        more = error.error_count() - 1
        others = f" (and {more} more)" if more else ""
        raise RecordError(f"not a build record: {place}: {first['msg']}{others}", where=str(file)) from None


def _spell_out(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _spell_out(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spell_out(item) for item in value]
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
