"""What is wrong with a CSV file, and on which line: the slow second look after the fast reader refused it."""

from __future__ import annotations

import codecs
import csv
from pathlib import Path
from typing import NoReturn

from edgeft.errors import RecipeError, StepError

HEADER_BYTES = 1 << 20
MAX_CELL = 16 << 20


def read_header(path: Path, delimiter: str, quote: str, encoding: str, *, scan: bool = True) -> list[str]:
    """Column names; StepError for an empty file, an empty or repeated name, NUL bytes and a wrong encoding.

    scan: look for NUL bytes in the whole file, which takes as long as reading it; else in the rows' own time.
    """
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        what = f"no encoding is called '{encoding}'"
        raise RecipeError(what, where="data.options.encoding", hint="utf-8, latin-1, cp1252, utf-16") from error
    if scan:
        _refuse_nul(path, encoding)
    if not path.stat().st_size:
        raise StepError("the file is empty", where=str(path), hint="the first line names the columns")
    try:
        with path.open(encoding=_with_mark(encoding), newline="") as stream:
            lines = iter(stream.readline, "")
            header = next(csv.reader(lines, delimiter=delimiter, quotechar=quote), [])
    except UnicodeError:
        _explain_encoding(path, encoding)
    except csv.Error as error:
        raise StepError(f"the header cannot be read: {error}", where=f"{path}:1") from error
    if not any(name.strip() for name in header):
        raise StepError("the first line is blank", where=f"{path}:1", hint="the first line names the columns")
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise StepError(f"two columns are called '{repeated[0]}'", where=f"{path}:1", hint="rename one of them")
    return header


def explain(path: Path, delimiter: str, quote: str, encoding: str, error: Exception) -> NoReturn:
    """Raise a StepError at the first line that is ragged, badly quoted or badly encoded."""
    if isinstance(error, UnicodeError) or "UTF8" in str(error) or "encod" in str(error):
        _explain_encoding(path, encoding)
    csv.field_size_limit(MAX_CELL)
    with path.open(encoding=_with_mark(encoding), errors="replace", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, quotechar=quote, strict=True)
        start = 1
        try:
            header = next(reader)
            for row in reader:
                start, previous = reader.line_num, start
                if row and len(row) != len(header):
                    raise _ragged(path, previous + 1, header, row, quote)
        except csv.Error as fault:
            hint = f"a {quote} that is opened must be closed; inside a quoted value it is doubled"
            raise StepError(f"{fault}", where=f"{path}:{start + 1}", hint=hint) from error
    raise StepError(str(error).splitlines()[0], where=str(path)) from error


def _ragged(path: Path, line: int, header: list[str], row: list[str], quote: str) -> StepError:
    excerpt = f"    {','.join(row)[:100]}"
    hint = f"a value that holds the delimiter goes between {quote} signs; another delimiter: data.options.delimiter"
    what = f"{len(row)} values, the header has {len(header)} columns"
    return StepError(what, where=f"{path}:{line}", excerpt=excerpt, hint=hint)


def _explain_encoding(path: Path, encoding: str) -> NoReturn:
    """Decode line by line to find the first byte that does not belong."""
    guess = "utf-8" if encoding.lower().replace("-", "") != "utf8" else "latin-1 (or cp1252)"
    hint = f"name the file's encoding: data.options.encoding: {guess}"
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode(encoding)
            except UnicodeError as fault:
                start = fault.start if isinstance(fault, UnicodeDecodeError) else 0
                what = f"byte 0x{line[start]:02x} at position {start + 1} is not {encoding}"
                raise StepError(what, where=f"{path}:{number}", hint=hint) from fault
    raise StepError(f"the file is not {encoding}", where=str(path), hint=hint)


def _refuse_nul(path: Path, encoding: str) -> None:
    """NUL bytes mean a binary file or UTF-16; pyarrow would pass them into the text."""
    if encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32", "utf16", "utf32")):
        return
    number = 1
    with path.open("rb") as stream:
        while chunk := stream.read(HEADER_BYTES):
            if (place := chunk.find(0)) >= 0:
                wide = number == 1 and chunk[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
                hint = "it looks like UTF-16: data.options.encoding: utf-16" if wide else "is it a CSV file at all?"
                raise StepError("a NUL byte", where=f"{path}:{number + chunk.count(10, 0, place)}", hint=hint)
            number += chunk.count(10)


def _with_mark(encoding: str) -> str:
    """UTF-8 with or without its byte order mark."""
    return "utf-8-sig" if encoding.lower().replace("-", "") == "utf8" else encoding
