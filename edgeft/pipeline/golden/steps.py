"""Golden cases of a shipped artefact: inputs, the tensors they become, what it answered on the build's runtime.

A store step like any other run on the device, so that a cached build opens no runtime. The gate set is never read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact, Signature
from edgeft.canonical import Facts, canonical_json
from edgeft.pipeline.golden.texts import golden_texts
from edgeft.pipeline.golden.tolerances import tolerance
from edgeft.pipeline.spec import FEED_TOOLS, Spec
from edgeft.pipeline.steps.answers import prepared_of, read_cases, thin
from edgeft.pipeline.steps.candidates import Candidate, device_config, run_host, run_tools
from edgeft.recipe.schema import Recipe
from edgeft.stage import Context
from edgeft.task import case_rows

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
CASES = 8
LARGEST = 2 << 20
"""Bytes of all golden tensors, where more than one case fits."""
VECTOR_ROWS = 128
"""Rows of the data among the tokenizer vectors."""
INDEX = "index.json"
BUILT_IN = "built in"
MADE_ON = ("machine", "cpu_flags")
FILES = {
    b"\x93NUMPY": "npy",
    b"\x89PNG": "png",
    b"\xff\xd8": "jpg",
    b"GIF8": "gif",
    b"RIFF": "webp",
    b"II*\0": "tif",
    b"MM\0*": "tif",
    b"PK\x03\x04": "npz",
}


def golden_id(candidate: Candidate) -> str:
    """Id of the step that makes a shipped artefact's golden cases."""
    return f"golden/{candidate.id}"


def golden_spec(candidate: Candidate, recipe: Recipe, splits: Mapping[str, Any]) -> Spec:
    """Golden cases of one artefact. splits: those of the data set, to take the calibration rows where there are any."""
    split = "calibration" if splits.get("calibration", {}).get("n") else "search"
    rows = recipe.bundle.golden_rows

    def run(inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        return _write(candidate, recipe, inputs["artifact"], split if rows else BUILT_IN, out, ctx)

    config = {"device": device_config(candidate), "batch": recipe.serve.batch, "task": recipe.model.task, "rows": rows}
    return Spec(
        id=golden_id(candidate),
        title=f"Keep golden cases of {candidate.name}",
        name="golden",
        version=1,
        makes="record",
        run=run,
        config=config,
        needs={"artifact": candidate.id, "prepared": "prepare"},
        reads=(split,) if rows else (),
        tools=(*FEED_TOOLS, *run_tools(candidate)),
        host=run_host(candidate),
    )


def _write(candidate: Candidate, recipe: Recipe, artifact: Artifact, origin: str, out: Path, ctx: Context) -> Facts:
    from edgeft.targets.artifact_jobs import runtime_feeds, served_batch
    from edgeft.targets.measure import describe_device, run_outputs

    exporter, device = candidate.exporter, candidate.device
    signature, prepared = exporter.signature(artifact), prepared_of(ctx)
    rows = _built_in(prepared) if origin == BUILT_IN else read_cases(ctx, origin, CASES)
    rows = thin(case_rows(ctx.task, rows, prepared), CASES)
    feeds = ctx.task.feeds(rows, prepared)
    rows, feeds = _few(rows, feeds, signature)
    outputs = run_outputs(device, exporter.runtime, artifact, signature, feeds, batch=recipe.serve.batch)
    cases = _fitting(rows, outputs)
    _prove_preprocessing(candidate, rows.slice(0, cases), prepared, origin)
    own = runtime_feeds(signature, {name: array[:cases] for name, array in feeds.items()})
    facts = describe_device(device, exporter.runtime)
    index = {
        "format": FORMAT,
        "from": origin,
        "cases": cases,
        "batch": served_batch(signature, recipe.serve.batch),
        "made_on": _made_on(facts, exporter.runtime),
        "raw": _write_raw(rows.slice(0, cases), prepared, out),
        "tokenizer": _write_vectors(prepared, origin, out, ctx),
        "inputs": {
            name: _tensor(out, "inputs", name, spec.name, own[spec.name]) for name, spec in signature.inputs.items()
        },
        "outputs": {
            name: _tensor(out, "outputs", name, spec.name, outputs[name][:cases])
            | {"tolerance": tolerance(candidate.variant, outputs[name][:cases])}
            for name, spec in signature.outputs.items()
        },
    }
    (out / INDEX).write_bytes(canonical_json(index, indent=1))
    return {"cases": cases, "from": origin}


def _prove_preprocessing(candidate: Candidate, rows: pa.Table, prepared: Path, origin: str) -> None:
    """Decoded slices become the tensors that are kept on the target itself; StepError where they do not."""
    from edgeft.data.pack import image_bytes
    from edgeft.targets.preprocessing import LEVELS, compare, refuse_difference, run_reference

    about = json.loads((prepared / "preprocess.json").read_text(encoding="utf-8"))
    if about["kind"] != "image" or "medical" not in about:
        return
    from edgeft.tasks.image_spec import read_spec
    from edgeft.tasks.images import read_pixels

    names, slices = zip(*image_bytes(rows), strict=True)
    row = compare(
        read_pixels(rows, read_spec(prepared)), run_reference(candidate.device, slices, about), names,
        against=candidate.device.name, how="measured", origin=f"{origin} golden cases", tolerance=LEVELS,
        unit="grey levels of 255", white=255,
    )  # fmt: skip
    refuse_difference(row)


def _made_on(facts: Mapping[str, str], runtime: str) -> dict[str, str]:
    """What of a device decides which kernels run: processor and the runtime's version, as it told them."""
    from edgeft import plugins

    names = (*MADE_ON, *plugins.load("runtimes", runtime).DISTRIBUTIONS)
    return {name: facts[name] for name in names if name in facts}


def _few(rows: pa.Table, feeds: Mapping[str, Any], signature: Signature) -> tuple[pa.Table, dict[str, Any]]:
    taken = {name: feeds[name] for name in signature.inputs if name in feeds}
    cases = _fitting(rows, taken)
    return rows.slice(0, cases), {name: array[:cases] for name, array in feeds.items()}


def _fitting(rows: pa.Table, arrays: Mapping[str, Any]) -> int:
    """How many of the cases LARGEST holds, one at least."""
    n, size = int(rows.num_rows), sum(int(array.nbytes) for array in arrays.values())
    return max(1, min(n, LARGEST // max(1, size // n)))


def _tensor(out: Path, folder: str, name: str, own: str, array: Any) -> dict[str, Any]:
    """Write one tensor; what the index says of it. Strings have no .npy that another language reads: JSON."""
    import numpy as np

    (out / folder).mkdir(exist_ok=True)
    about = {"name": own, "shape": [int(size) for size in array.shape]}
    if array.dtype.kind in "US":
        file = f"{folder}/{name}.json"
        (out / file).write_bytes(canonical_json(array.tolist()))
        return {**about, "file": file, "dtype": "str"}
    file = f"{folder}/{name}.npy"
    np.save(out / file, np.ascontiguousarray(array), allow_pickle=False)
    return {**about, "file": file, "dtype": str(array.dtype)}


def _write_raw(rows: pa.Table, prepared: Path, out: Path) -> str:
    """raw.json: the texts, or the names of the files beside it: images as given, windows of volumes as .npy."""
    items: list[str] = rows.column("text").to_pylist() if "text" in rows.column_names else []
    if not items:
        (out / "raw").mkdir()
        for place, raw in enumerate(_raw_files(rows, prepared)):
            suffix = next((found for magic, found in FILES.items() if raw.startswith(magic)), "bin")
            items.append(f"raw/{place:03d}.{suffix}")
            (out / items[-1]).write_bytes(raw)
    (out / "raw.json").write_bytes(canonical_json(items, indent=1))
    return "raw.json"


def _raw_files(rows: pa.Table, prepared: Path) -> Iterator[bytes]:
    from edgeft.tasks.volume_windows import cut_windows, is_window_table

    if not is_window_table(rows):
        from edgeft.data.pack import image_bytes

        return (raw for _, raw in image_bytes(rows))
    from edgeft.data.volumes import volume_bytes
    from edgeft.tasks.volume_spec import read_volume_spec

    return (volume_bytes(window) for window in cut_windows(rows, read_volume_spec(prepared)))


def _write_vectors(prepared: Path, origin: str, out: Path, ctx: Context) -> dict[str, Any] | None:
    """tokenizer.jsonl: text -> token ids before padding, for built-in texts and, where rows may be shown, some rows."""
    import pyarrow as pa

    about = json.loads((prepared / "preprocess.json").read_text(encoding="utf-8"))
    if about.get("kind") != "text":
        return None
    texts = golden_texts(int(about["length"]))
    if origin != BUILT_IN:
        texts = list(dict.fromkeys([*texts, *read_cases(ctx, origin, VECTOR_ROWS).column("text").to_pylist()]))
    feeds = ctx.task.feeds(pa.table({"text": texts}), prepared)
    lines = []
    for place, text in enumerate(texts):
        taken = feeds["attention_mask"][place].astype(bool) if "attention_mask" in feeds else slice(None)
        line: dict[str, Any] = {"text": text, "ids": feeds["input_ids"][place][taken].tolist()}
        if "token_type_ids" in feeds and feeds["token_type_ids"][place].any():
            line["types"] = feeds["token_type_ids"][place][taken].tolist()
        lines.append(canonical_json(line) + b"\n")
    (out / "tokenizer.jsonl").write_bytes(b"".join(lines))
    left = bool("attention_mask" in feeds and not feeds["attention_mask"][:, 0].all())
    return {
        "file": "tokenizer.jsonl", "vectors": len(texts), "length": int(about["length"]), "pad_id": about["pad_id"],
        "pad_side": "left" if left else "right", "inputs": about["inputs"],
    }  # fmt: skip


def _built_in(prepared: Path) -> pa.Table:
    """Cases that are no row of anybody's data: texts of every script, or pictures of waves."""
    import pyarrow as pa

    about = json.loads((prepared / "preprocess.json").read_text(encoding="utf-8"))
    if about.get("kind") == "text":
        from edgeft.pipeline.steps.embedded import GOLDEN_TEXTS

        return pa.table({"text": list(GOLDEN_TEXTS[:CASES])})
    if about.get("kind") == "volume":
        from edgeft.data.volumes import volume_bytes

        patch = [int(about["volume"][name]) for name in ("depth", "height", "width")]
        made = {f"wave-{turn}": volume_bytes(_wave_volume(turn, patch)) for turn in range(CASES)}
        return pa.table({"image": list(made), "bytes": list(made.values())})
    if "medical" in about:
        slices = {f"slice-{turn}": _wave_slice(turn, about["medical"]["window"]) for turn in range(CASES)}
        return pa.table({"image": list(slices), "bytes": list(slices.values())})
    waves = {f"wave-{turn}": _wave(turn) for turn in range(CASES)}
    return pa.table({"image": list(waves), "bytes": list(waves.values())})


def _wave_volume(turn: int, patch: Sequence[int]) -> Any:
    """Smooth waves in a window, uint8 (depth, height, width), other ones for each number."""
    import numpy as np

    z, y, x = np.indices(tuple(patch)) / np.reshape(patch, (3, 1, 1, 1))
    wave = np.sin((turn + 2) * (x * np.cos(turn) + y * np.sin(turn) + z / (turn + 1)) * 6 + turn)
    return ((wave + 1) * 127.5).astype(np.uint8)


def _wave_slice(turn: int, window: Sequence[float]) -> bytes:
    """A decoded slice of stripes from below the window to above it, with axes that differ from case to case."""
    import numpy as np

    from edgeft.medical.reference import pack

    low, high = window
    y, x = np.mgrid[0:240, 0:192] / 240
    stripes = np.sin((turn + 2) * (x * np.cos(turn) + y * np.sin(turn)) * 6 + turn)
    values = low + (high - low) * (0.5 + 0.7 * stripes)
    affine = np.diag([0.7 * (-1) ** turn, 0.8 * (-1) ** (turn // 2), 2.0, 1.0])[:, [2, 1, 0, 3]]
    return pack(values[None].astype(np.float32), affine, turn % 4 == 3)


def _wave(turn: int) -> bytes:
    """A 256 x 256 colour PNG of smooth stripes, other ones for each number."""
    import numpy as np
    from PIL import Image

    from edgeft.tasks.image_files import write_png

    y, x = np.mgrid[0:256, 0:256] / 256
    planes = [np.sin((turn + 2) * (x * np.cos(k) + y * np.sin(k)) * 6 + k) for k in (turn, turn + 1, turn + 2)]
    return write_png(Image.fromarray(((np.stack(planes, axis=2) + 1) * 127.5).astype(np.uint8)))
