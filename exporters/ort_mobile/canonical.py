"""Canonical bytes of an .ort file: ONNX Runtime writes one table of it in the order of a randomised hash map.

An .ort file is a FlatBuffer (schema ort.fbs): the root InferenceSession holds {ort_version, model, -, resolver}, where
the resolver says for each operator which argument decides each type of its kernel. The table of that resolver, and the
one inside each entry, follow an unordered map whose seed changes with every process. It is the last thing written, and
FlatBuffers are written from their end, so it lies between the root table and the model: it is rebuilt there, sorted,
and the model's bytes move as one block.
"""

from __future__ import annotations

import struct
from typing import Any

ROOT_VERSION, ROOT_MODEL, ROOT_RESOLVER = 4, 6, 10
"""Places in the root's vtable: 4 + 2 x field number."""
ALIGNED = 64
"""The model moves by a multiple of this, so that aligned weights stay aligned."""
IDENTIFIER = b"ORTM"

Arguments = list[tuple[int, int]]
Entries = list[tuple[bytes, list[tuple[bytes, Arguments]]]]


def canonicalise_ort(raw: bytes) -> bytes:
    """The same model with the resolver sorted by operator and type. ValueError where `raw` is no .ort file."""
    from flatbuffers.table import Table  # type: ignore[import-untyped,unused-ignore]

    if raw[4:8] != IDENTIFIER:
        raise ValueError("not a file in ORT format")
    root = Table(raw, _unsigned(raw, 0))
    model, slot = _target(raw, root, ROOT_MODEL), root.Pos + root.Offset(ROOT_RESOLVER)
    resolver = _target(raw, root, ROOT_RESOLVER)
    start, end = root.Pos + _inline_size(raw, root.Pos), _block_start(raw, model)
    if not start <= resolver < end <= _target(raw, root, ROOT_VERSION):
        raise ValueError("an .ort file laid out in another order than ONNX Runtime writes")
    table, place = build_resolver(read_resolver(raw, resolver))
    head = raw[:start] + b"\0" * (-start % 8)
    moved = max(0, -(-(len(head) + len(table) - end) // ALIGNED) * ALIGNED)
    fixed = bytearray(head + table.ljust(end + moved - len(head), b"\0") + raw[end:])
    struct.pack_into("<I", fixed, slot, len(head) + place - slot)
    for field in (ROOT_VERSION, ROOT_MODEL):  # the version string and the model lie behind what moved
        at = root.Pos + root.Offset(field)
        struct.pack_into("<I", fixed, at, _unsigned(raw, at) + moved)
    return bytes(fixed)


def read_resolver(raw: bytes, position: int) -> Entries:
    """(operator, [(type name, [(argument kind, index)])]) sorted; the order of arguments means something and stays."""
    from flatbuffers.number_types import Int8Flags, Uint32Flags  # type: ignore[import-untyped,unused-ignore]

    return sorted(
        (
            _text(entry),
            sorted(
                (_text(kind), [(_number(argument, 4, Int8Flags), _number(argument, 6, Uint32Flags))
                               for argument in _vector(kind, 6)])
                for kind in _vector(entry, 6)
            ),
        )
        for entry in _vector(_table(raw, position), 4)
    )  # fmt: skip


def build_resolver(entries: Entries) -> tuple[bytes, int]:
    """(FlatBuffer of a KernelTypeStrResolver, position of its table in it)."""
    import flatbuffers  # type: ignore[import-untyped,unused-ignore]

    builder = flatbuffers.Builder(4096)
    rows = []
    for operator, kinds in entries:
        inner = []
        for kind, arguments in kinds:
            cells = [_object(builder, (("Int8", which), ("Uint32", index))) for which, index in arguments]
            inner.append(_pair(builder, kind, _offsets(builder, cells)))
        rows.append(_pair(builder, operator, _offsets(builder, inner)))
    listed = _offsets(builder, rows)
    builder.Finish(_object(builder, (("UOffsetTRelative", listed),)))
    table = bytes(builder.Output())
    return table, _unsigned(table, 0)


def _pair(builder: Any, text: bytes, vector: int) -> int:
    name = builder.CreateSharedString(text.decode())
    return _object(builder, (("UOffsetTRelative", name), ("UOffsetTRelative", vector)))


def _object(builder: Any, fields: tuple[tuple[str, int], ...]) -> int:
    builder.StartObject(len(fields))
    for number, (kind, value) in enumerate(fields):
        getattr(builder, f"Prepend{kind}Slot")(number, value, 0)
    return int(builder.EndObject())


def _offsets(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _block_start(raw: bytes, model: int) -> int:
    """Where the model's bytes begin: at its table, or at the vtable written directly before it."""
    (back,) = struct.unpack_from("<i", raw, model)
    vtable = model - int(back)
    return vtable if back > 0 and vtable + struct.unpack_from("<H", raw, vtable)[0] <= model else model


def _inline_size(raw: bytes, table: int) -> int:
    """Bytes of a table's own fields, from its vtable."""
    (back,) = struct.unpack_from("<i", raw, table)
    return int(struct.unpack_from("<H", raw, table - int(back) + 2)[0])


def _table(raw: bytes, position: int) -> Any:
    from flatbuffers.table import Table

    return Table(raw, position)


def _target(raw: bytes, table: Any, place: int) -> int:
    offset = table.Offset(place)
    if not offset:
        raise ValueError("an .ort file without a model or without kernel types")
    at = int(table.Pos + offset)
    return at + _unsigned(raw, at)


def _vector(table: Any, place: int) -> list[Any]:
    offset = table.Offset(place)
    if not offset:
        return []
    first = table.Vector(offset)
    return [_table(table.Bytes, table.Indirect(first + 4 * index)) for index in range(table.VectorLen(offset))]


def _text(table: Any) -> bytes:
    return bytes(table.String(table.Offset(4) + table.Pos))


def _number(table: Any, place: int, kind: Any) -> int:
    offset = table.Offset(place)
    return int(table.Get(kind, offset + table.Pos)) if offset else 0


def _unsigned(raw: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", raw, at)[0])
