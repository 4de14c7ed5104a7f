"""ncnn on the CPU. This file travels to the device: standard library, numpy and ncnn only.

ncnn has no batch dimension: a batch is run case by case. It speaks to nobody and its wheel carries no int8 tools.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

NAME = "ncnn"
DISTRIBUTIONS = ("ncnn",)
IMPORTS = ("ncnn",)
SUFFIXES = (".param",)
MAGIC = "7767517"
LARGEST_PARAM = 1 << 25
"""Bytes of a .param text: a line is about 100 bytes, a large net has some thousand layers."""
PRECISION = "ncnn.json"
"""Beside the model: {"fp16": true} lets ncnn compute in float16 where the CPU does; absent: float32 throughout."""
HALF_OPTIONS = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic")
DTYPES = ("float32", "int32")
_LENGTH, _FLAT = ("length",), ("dim_1",)


class Layer(NamedTuple):
    """One line of a .param file; parameters by their number."""

    type: str
    name: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    parameters: dict[int, str]


class NcnnSession:
    """A loaded .param with its .bin. bfloat16 is off; float16 only where the artefact asks for it."""

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        import ncnn

        self._layers = read_param(path)
        unknown = [layer.type for layer in self._layers if ncnn.layer_to_index(layer.type) < 0]
        if unknown:
            raise ValueError(f"ncnn has no layer '{unknown[0]}'")
        self.half = bool(_beside(path, PRECISION).get("fp16", False))
        self._net = ncnn.Net()
        self._net.opt.num_threads = int(options.get("threads", 1))
        self._net.opt.use_vulkan_compute = False
        self._net.opt.use_bf16_storage = self._net.opt.use_bf16_packed = False
        for name in HALF_OPTIONS:
            setattr(self._net.opt, name, self.half)
        weights = path.removesuffix(".param") + ".bin"
        if self._net.load_param(path) or not os.path.isfile(weights) or self._net.load_model(weights):  # noqa: PTH113
            raise ValueError(f"ncnn cannot load this model or its weights, {os.path.basename(weights)}")  # noqa: PTH119
        self._signature = stated(path) or guessed(self._layers, self._net.input_names(), self._net.output_names())
        self._last: dict[str, Any] | None = None

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Input name -> (n, ...) float32 or int32 in, output name -> (n, ...) float32 out, case by case.

        ValueError for other names, dtypes or shapes, which ncnn itself does not check, and when a layer fails.
        """
        import numpy as np

        self._check(feeds)
        self._last = dict(feeds)
        n = len(next(iter(feeds.values())))
        found: dict[str, list[Any]] = {spec["name"]: [] for spec in self._signature["outputs"]}
        for case in range(n):
            # a Mat borrows the array's memory: the arrays must outlive it
            rows = {name: np.ascontiguousarray(array[case]) for name, array in feeds.items()}
            with self._extractor(rows) as extractor:
                for spec in self._signature["outputs"]:
                    code, mat = extractor.extract(spec["name"])
                    if code:
                        raise ValueError(f"ncnn cannot compute '{spec['name']}' (code {code})")
                    found[spec["name"]].append(_shaped(np.array(mat), spec["shape"][1:]))
        return {name: np.stack(values) for name, values in found.items()}

    def _extractor(self, rows: Mapping[str, Any]) -> Any:
        import ncnn

        extractor = self._net.create_extractor()
        for name, row in rows.items():
            extractor.input(name, ncnn.Mat(row))
        return extractor

    def _check(self, feeds: Mapping[str, Any]) -> None:
        specs = {spec["name"]: spec for spec in self._signature["inputs"]}
        if feeds.keys() != specs.keys():
            raise ValueError(f"the model takes {sorted(specs)}, got {sorted(feeds)}")
        for name, array in feeds.items():
            wanted = specs[name]["shape"][1:]
            if str(array.dtype) not in DTYPES:
                raise ValueError(f"'{name}' is {array.dtype}; ncnn takes {' or '.join(DTYPES)}")
            if str(array.dtype) != specs[name]["dtype"]:
                raise ValueError(f"'{name}' is {array.dtype}, the model takes {specs[name]['dtype']}")
            same = all(
                isinstance(want, str) or want == have for want, have in zip(wanted, array.shape[1:], strict=False)
            )
            if array.ndim != len(wanted) + 1 or not same:
                raise ValueError(f"'{name}' has shape {list(array.shape)}, the model takes {['batch', *wanted]}")

    def signature(self) -> dict[str, list[dict[str, Any]]]:
        """From signature.json beside the model, else from what the first layers ask of their input."""
        return self._signature

    def placement(self) -> dict[str, int]:
        """`CPU f32` (`CPU f16` with a float16 artefact on an ARM from v8.2) -> layers. ValueError before a `run`."""
        import ncnn

        if self._last is None:
            raise ValueError("run the model once before asking for its placement")
        half = self.half and ncnn.cpu_support_arm_asimdhp()
        return {f"CPU {'f16' if half else 'f32'}": len(self._computing())}

    def operators(self, runs: int) -> list[dict[str, Any]]:
        """Layer by layer: each is asked for in turn, so that it alone is computed, over `runs` runs of the last case.

        ncnn's wheels have no profiler. All results are kept meanwhile, so layers that work in place copy first.
        ValueError before the first `run`.
        """
        import numpy as np

        if self._last is None:
            raise ValueError("run the model once before asking for its operators")
        rows = {name: np.ascontiguousarray(array[0]) for name, array in self._last.items()}
        shapes = {name: list(row.shape) for name, row in rows.items()}
        times = {layer.name: 0.0 for layer in self._computing()}
        for turn in range(runs + 1):  # the first turn warms up
            with self._extractor(rows) as extractor:
                extractor.set_light_mode(False)
                for layer in self._layers:
                    start = time.perf_counter()
                    mats = [extractor.extract(top, 1)[1] for top in layer.tops if top not in rows]
                    spent = (time.perf_counter() - start) * 1000
                    if turn and layer.name in times:
                        times[layer.name] += spent / runs
                    shapes.update({top: _extents(mat) for top, mat in zip(layer.tops, mats, strict=False)})
        return [
            {
                "name": layer.name, "op": layer.type, "backend": "CPU", "ms": times[layer.name],
                "shapes": {
                    "inputs": [shapes[name] for name in layer.bottoms], "outputs": [shapes[name] for name in layer.tops]
                },
            }
            for layer in self._computing()
        ]  # fmt: skip

    def _computing(self) -> list[Layer]:
        return [layer for layer in self._layers if layer.type not in ("Input", "Split", "MemoryData", "Noop")]

    def close(self) -> None:
        """Release the net and its memory."""
        self._last = None
        self._net.clear()


def load(path: str, options: Mapping[str, Any]) -> NcnnSession:
    """Open model.param with model.bin beside it. options: threads (default 1). ValueError with the reason."""
    return NcnnSession(path, options)


def describe() -> dict[str, str]:
    """Version of ncnn and what it finds of this CPU."""
    import ncnn

    features = [name.removeprefix("cpu_support_") for name in dir(ncnn) if name.startswith("cpu_support_")]
    found = [name for name in features if getattr(ncnn, f"cpu_support_{name}")()]
    return {"ncnn": ncnn.__version__, "ncnn_cpu": ",".join(found)}


def read_param(path: str) -> list[Layer]:
    """Layers of a .param text in order. ValueError where it is none."""
    try:
        with open(path, encoding="utf-8") as stream:  # noqa: PTH123
            text = stream.read(LARGEST_PARAM + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the .param file: {type(error).__name__}") from error
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(text) > LARGEST_PARAM or len(lines) < 3 or lines[0] != [MAGIC]:
        raise ValueError("not an ncnn .param text file")
    layers = []
    for parts in lines[2:]:
        try:
            ins, outs = int(parts[2]), int(parts[3])
            rest = parts[4 + ins + outs :]
            parameters = {int(key): value for key, _, value in (item.partition("=") for item in rest)}
        except (IndexError, ValueError) as error:
            raise ValueError(f"not a layer of an ncnn .param file: {' '.join(parts)[:80]}") from error
        names = parts[4 : 4 + ins + outs]
        if ins < 0 or outs < 0 or len(names) != ins + outs:
            raise ValueError(f"not a layer of an ncnn .param file: {' '.join(parts)[:80]}")
        layers.append(Layer(parts[0], parts[1], tuple(names[:ins]), tuple(names[ins:]), parameters))
    return layers


def stated(path: str) -> dict[str, list[dict[str, Any]]] | None:
    """The signature.json that edgeft's exporter left beside the model, as Session.signature gives it; else None."""
    data = _beside(path, "signature.json")
    try:
        return {side: [dict(spec) for spec in data[side].values()] for side in ("inputs", "outputs")}
    except (KeyError, AttributeError, TypeError, ValueError):
        return None


def guessed(layers: list[Layer], inputs: list[str], outputs: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Shapes from Input layers (0 width, 1 height, 2 channels), else from the layer that reads the input."""
    return {
        "inputs": [{"name": name, **_guess(layers, name)} for name in inputs],
        "outputs": [{"name": name, "dtype": "float32", "shape": ["batch"]} for name in outputs],
    }


def _guess(layers: list[Layer], blob: str) -> dict[str, Any]:
    own = next((layer.parameters for layer in layers if layer.type == "Input" and blob in layer.tops), {})
    sizes = [
        int(own[key]) for key in (2, 1, 0) if own.get(key, "0").lstrip("-").isdigit() and int(own.get(key, "0")) > 0
    ]
    reader = None
    for layer in layers:  # written in order of execution: copies of a blob come after it
        if blob in layer.bottoms:
            reader, blob = layer, layer.tops[0] if layer.tops else ""
            if layer.type != "Split":
                break
    if reader is not None and reader.type == "Embed":
        return {"dtype": "int32", "shape": ["batch", *(sizes or _LENGTH)]}
    if not sizes and reader is not None and reader.type == "Convolution":
        about = {key: int(reader.parameters.get(key, "0")) for key in (0, 1, 6, 11)}
        area = about[0] * about[1] * (about[11] or about[1])
        return {"dtype": "float32", "shape": ["batch", about[6] // area if area else "channels", "height", "width"]}
    if not sizes and reader is not None and reader.type == "InnerProduct":
        rows, weights = (int(reader.parameters.get(key, "0")) for key in (0, 2))
        return {"dtype": "float32", "shape": ["batch", weights // rows if rows else "features"]}
    return {"dtype": "float32", "shape": ["batch", *(sizes or _FLAT)]}


def _beside(path: str, name: str) -> dict[str, Any]:
    """A JSON object from a small file in the model's folder; empty where there is none."""
    try:
        with open(os.path.join(os.path.dirname(path), name), encoding="utf-8") as stream:  # noqa: PTH118, PTH120, PTH123
            data = json.loads(stream.read(1 << 20))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _shaped(array: Any, shape: list[Any]) -> Any:
    """The array in its stated shape, where that is known: ncnn may drop or keep dimensions of size 1."""
    if all(isinstance(extent, int) for extent in shape) and shape:
        size = 1
        for extent in shape:
            size *= extent
        return array.reshape(shape) if array.size == size else array
    return array


def _extents(mat: Any) -> list[int]:
    """Shape of a Mat without its packing: rows (2 dimensions) or channels (more) hold elempack values each."""
    extents = [mat.w, mat.h, mat.d, mat.c] if mat.dims == 4 else [mat.w, mat.h, mat.c][: mat.dims]
    extents[-1] *= mat.elempack
    return extents[::-1]
