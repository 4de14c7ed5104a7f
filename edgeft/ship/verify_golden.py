"""Does the artefact answer here what it answered where it was built: golden cases through this machine's runtime.

Reads a private copy whose hashes were taken, so that what runs is what was checked. numpy and the runtime, no more.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeft.errors import EdgeftError
from edgeft.ship.verify import Finding, Refused, parse_json, read_small, shown

FOLDER, INDEX = "golden", "index.json"
FORMAT = 1
MAX_INDEX_BYTES = 4 << 20
MOST_CASES, LARGEST_BATCH, MOST_THREADS = 10_000, 4096, 1024


def check_golden(folder: Path, manifest: Mapping[str, Any]) -> Finding:
    """pass or fail by the tolerances that the index states; open where the runtime is not here; skip without cases."""
    if f"{FOLDER}/{INDEX}" not in manifest["files"]:
        return Finding("golden", "skip", "the bundle holds no golden cases: its answers were not compared")
    name = manifest.get("runtime")
    try:
        from edgeft import plugins
        from edgeft.pipeline.noise import to_log

        runtime = plugins.load("runtimes", str(name))
        with to_log(Path(os.devnull)):  # some runtimes greet on standard error
            about = runtime.describe()
            return _compare(folder, manifest, runtime, about)
    except ImportError as error:
        return Finding("golden", "open", f"{shown(name)}, which this bundle needs, is not installed: {shown(error)}")
    except EdgeftError as error:
        return Finding("golden", "open", f"no runtime is called {shown(name)} here: {shown(error.what)}")
    except (ValueError, TypeError, KeyError, OSError, IndexError, OverflowError, MemoryError) as error:
        return Finding("golden", "fail", f"the golden cases cannot be run: {type(error).__name__}: {shown(error)}")


def _compare(folder: Path, manifest: Mapping[str, Any], runtime: Any, about: Mapping[str, str]) -> Finding:
    index = _read_index(folder, manifest)
    slices, fault = _slices(folder, manifest, index)
    if fault:
        return Finding("golden", "fail", fault)
    allowed = "same_processor" if _made_here(index["made_on"], about) else "other_processor"
    cases, gaps = index["cases"], _gaps(folder, manifest, index, runtime)
    rows = [(name, gap, index["outputs"][name]["tolerance"][allowed]["atol"]) for name, gap in sorted(gaps.items())]
    wide = [row for row in rows if not row[1] <= row[2]]  # NaN is no answer either
    said = "; ".join(f"{shown(name)} is off by {gap:.3g}, {atol:g} is allowed" for name, gap, atol in wide or rows)
    where = f"{allowed.replace('_', ' ')}, {', '.join(f'{key} {value}' for key, value in list(about.items())[:1])}"
    return Finding("golden", "fail" if wide else "pass", f"{cases} cases: {slices}{said} ({where})")


def _read_index(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """golden/index.json with its numbers checked. ValueError, KeyError or TypeError where it is none."""
    try:
        index = parse_json(read_small(folder / FOLDER / INDEX, MAX_INDEX_BYTES, "golden"), "golden", INDEX)
    except Refused as refusal:
        raise ValueError(str(refusal)) from refusal
    if index["format"] != FORMAT:
        raise ValueError(f"{INDEX} has format {index['format']!r}; this reads {FORMAT}")
    for key, most in (("cases", MOST_CASES), ("batch", LARGEST_BATCH)):
        if type(index[key]) is not int or not 0 < index[key] <= most:
            raise ValueError(f"{INDEX}: {key} is no number from 1 to {most}")
    rows = [index["made_on"], index["inputs"], index["outputs"], *index["inputs"].values(), *index["outputs"].values()]
    if not all(isinstance(row, dict) for row in rows):
        raise TypeError(f"{INDEX}: a row is none")
    if not index["inputs"] or not index["outputs"] or index["outputs"].keys() != manifest["outputs"].keys():
        raise ValueError(f"{INDEX} does not hold every output of the artefact")
    return index


def _made_here(made_on: Mapping[str, str], about: Mapping[str, str]) -> bool:
    """Whether the same kernels run: processor, its flags and the runtime's version."""
    from edgeft.device.conditions import cpu_flags

    here = {**about, "machine": platform.machine(), "cpu_flags": " ".join(cpu_flags())}
    return bool(made_on) and all(here.get(key) == value for key, value in made_on.items())


def _gaps(folder: Path, manifest: Mapping[str, Any], index: Mapping[str, Any], runtime: Any) -> dict[str, float]:
    """Canonical output -> largest absolute difference from the kept answer, over all cases; NaN stays NaN."""
    import numpy as np

    feeds = {row["name"]: _tensor(folder, manifest, row, index) for row in index["inputs"].values()}
    kept = {name: _tensor(folder, manifest, row, index) for name, row in index["outputs"].items()}
    worst = dict.fromkeys(kept, 0.0)
    threads = manifest.get("threads")
    options = {"threads": threads if type(threads) is int and 0 < threads <= MOST_THREADS else 1}
    session = runtime.load(str(folder / str(manifest["model"])), options)
    try:
        for start in range(0, index["cases"], index["batch"]):
            rows = np.minimum(np.arange(start, start + index["batch"]), index["cases"] - 1)
            outputs = session.run({name: array[rows] for name, array in feeds.items()})
            for name, row in index["outputs"].items():
                answer, wanted = np.asarray(outputs[row["name"]]), kept[name][rows]
                if answer.shape != wanted.shape:
                    raise ValueError(f"{name} has shape {answer.shape}, not {wanted.shape}")
                gap = float(np.abs(answer.astype(np.float64) - wanted.astype(np.float64)).max(initial=0.0))
                worst[name] = float(np.maximum(worst[name], gap))  # which keeps NaN
    finally:
        session.close()
    return worst


def _slices(folder: Path, manifest: Mapping[str, Any], index: Mapping[str, Any]) -> tuple[str, str]:
    """(what to say, what is wrong) of decoded slices that this edgeft's reference brings to the kept pixels again.

    The bundle's own reference.py is not run: it may come from anywhere.
    """
    stated = parse_json(read_small(folder / "preprocess.json", MAX_INDEX_BYTES, "golden"), "golden", "preprocess.json")
    row = index["inputs"].get("pixels")
    if stated.get("kind") != "image" or "medical" not in stated or row is None:
        return "", ""
    import numpy as np

    from edgeft.medical import order, reference

    names = json.loads(read_small(folder / FOLDER / str(index["raw"]), MAX_INDEX_BYTES, "golden"))
    kept = _tensor(folder, manifest, row, index)
    if len(names) != len(kept) or not all(f"{FOLDER}/{name}" in manifest["files"] for name in names):
        raise ValueError("the slices are not those whose hashes are stated")
    for place, name in enumerate(names):
        own = reference.pixels((folder / FOLDER / name).read_bytes(), stated, order)
        gap = int(np.abs(own.astype(np.int16) - kept[place]).max(initial=0)) if own.shape == kept[place].shape else 255
        if gap > 1:
            return "", f"slice {place} becomes pixels that are {gap} levels of 255 off those that were kept"
    return f"{len(names)} slices become the kept pixels; ", ""


def _tensor(folder: Path, manifest: Mapping[str, Any], row: Mapping[str, Any], index: Mapping[str, Any]) -> Any:
    """One kept tensor, of as many cases as the index says; no pickles, and no more memory than the file has bytes."""
    import numpy as np

    name = f"{FOLDER}/{row['file']}"
    if name not in manifest["files"]:
        raise ValueError(f"{name} is none of the files whose hashes are stated")
    if name.endswith(".json"):
        array = np.array(json.loads((folder / name).read_text(encoding="utf-8")), dtype=np.str_)
    else:
        array = np.load(folder / name, mmap_mode="r", allow_pickle=False)
    if array.ndim < 1 or len(array) != index["cases"]:
        raise ValueError(f"{name} does not hold {index['cases']} cases")
    return np.array(array)
