"""Files in which an ONNX model keeps tensors, held to the model's folder: its author names them, not its user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.errors import DeviceError

if TYPE_CHECKING:
    import onnx

LIMIT = 1 << 31
"""A protobuf message ends at 2 GiB."""


def external_files(entry: Path) -> list[Path]:
    """The files that a .onnx file names, there or not; none where onnx is not installed or it is no ONNX file.

    DeviceError for an absolute path, one or a link that leads out of the folder, and for bytes a file does not have.
    Tensors in attributes, sub-graphs and functions count too: a runtime reads them all.
    """
    if entry.suffix.lower() != ".onnx" or not entry.is_file() or entry.stat().st_size > LIMIT:
        return []
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        return []
    try:
        model = onnx.load(str(entry), load_external_data=False)
    except DecodeError:
        return []
    found: dict[Path, None] = {}
    for about in _places(model):
        name = about.get("location", "")
        path = entry.parent / name
        check_inside(entry, path, name)
        found[path] = None
        if path.is_file():
            _check_extent(entry, path, about)
    return list(found)


def check_inside(entry: Path, path: Path, name: str) -> None:
    """DeviceError where a file that belongs to the model lies elsewhere.

    Links may stay in the folder; in a hub's cache model and weights are both links into one other folder.
    """
    home, real = entry.parent.resolve(), path.resolve()
    plain = not Path(name).is_absolute() and ".." not in Path(name).parts and "\0" not in name and "\\" not in name
    cached = entry.is_symlink() and path.is_symlink() and real.parent == entry.resolve().parent
    if not name or not plain or not (real.is_relative_to(home) or cached):
        raise DeviceError(
            f"the model refers to a file outside its folder: {name[:200]!a}",
            where=str(entry),
            hint="a model's weights lie beside it; get it from its author again, or write it with onnx.save",
        )


def _check_extent(entry: Path, path: Path, about: dict[str, str]) -> None:
    size = path.stat().st_size
    try:
        offset, length = int(about.get("offset", "0")), int(about.get("length", "0"))
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0 or offset + length > size:
        raise DeviceError(
            f"the model wants {about.get('length', 'all')[:30]} bytes at {about.get('offset', '0')[:30]} of "
            f"{path.name}, which has {size}",
            where=str(entry),
            hint="the files do not belong together, or a download was cut short",
        )


def _places(model: onnx.ModelProto) -> Iterator[dict[str, str]]:
    """location, offset and length of every tensor that is kept outside."""
    tensors = list(_graph_tensors(model.graph))
    for function in model.functions:
        for node in function.node:
            tensors += _node_tensors(node)
    for tensor in tensors:
        if tensor.external_data:
            yield {pair.key: pair.value for pair in tensor.external_data}


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _graph_tensors(graph)
