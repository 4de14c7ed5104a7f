"""edgeft's search against NNCF's accuracy control: one trained UNet, its data, a drop limit, OpenVINO on one thread.

Both calibrate on the same slices and may look at the same 45 validation slices as often as they like; what is counted
is how many slices each had to be run on. Both results are then scored on all 45 and timed in interleaved blocks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bench.search_net import Slices, dice, load_slices, plant_outliers, save_onnx, train_net
from bench.search_side import OurSide, answers, load
from bench.unet import interleave, ratio

NEEDED = ("monai", "openvino", "nncf", "nilearn", "nibabel")
NETS: tuple[tuple[int, tuple[str, ...], tuple[float, ...]], ...] = (
    (0, (), (0.0001, 0.0005)),
    (1, (), (0.0001,)),
    (2, (), (0.0001,)),
    (1, ("deep",), (0.0001,)),
    (1, ("deep", "late"), (0.001,)),
    (0, ("late",), (0.001, 0.0001)),
)
"""Seed of the net, outliers planted in it, limits on the loss of mean Dice. 0.0005 on the first is the comparison that
this one follows; the others show what of it is luck."""


def main() -> None:
    """Print both searches' evaluations, their outcome, and the interleaved times."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f"search: skipped, it needs {', '.join(missing)}: pip install 'edgeft[medical,openvino,examples]'")
        return
    parts = load_slices()
    nets = {seed: train_net(parts["train"], seed=seed) for seed in sorted({seed for seed, *_ in NETS})}
    for seed, planted, limits in NETS:
        for limit in limits:
            with TemporaryDirectory() as name:
                source = save_onnx(nets[seed], Path(name) / "unet.onnx")
                plant_outliers(source, planted)
                print(f"net {seed}{''.join(f', outlier {place}' for place in planted)}")
                compare(Path(name), source, parts, limit)


def compare(place: Path, source: Path, parts: Mapping[str, Slices], limit: float) -> None:
    """One limit: ours, NNCF's, then the times."""
    ours = OurSide(place, source, parts["calibration"], parts["validation"], limit)
    plain = ours.score(ours.plain.path / "model.xml", len(parts["validation"].truth))
    print(f"limit {limit:g}: float {ours.baseline:.5f} Dice on {len(plain)} slices")
    began = time.perf_counter()
    found = ours.search()
    _tell("edgeft", ours.images, found, ours.baseline, limit, time.perf_counter() - began, ours.validation, ours.asked)
    print("    " + ", ".join(f"{purpose} {slices}" for purpose, slices in {"float": len(plain), **ours.spent}.items()))
    began = time.perf_counter()
    theirs, images, calls = accuracy_control(place, ours, limit)
    _tell("NNCF", images, theirs, ours.baseline, limit, time.perf_counter() - began, ours.validation, calls)
    sessions = {
        name: partial(load(path).run, {"image": ours.validation.images[:1]})
        for name, path in (("float", ours.plain.path / "model.xml"), ("edgeft", found), ("NNCF", theirs))
        if path is not None
    }
    times = interleave(sessions, 16, 8)
    print("  " + ", ".join(f"{name} {median(values):.2f} ms" for name, values in times.items()))
    if {"edgeft", "NNCF"} <= set(times):
        print(f"  edgeft's against NNCF's: {ratio(times['NNCF'], times['edgeft'])}")


def _tell(
    name: str, images: int, path: Path | None, base: float, limit: float, seconds: float, slices: Slices, asked: int
) -> None:
    if path is None:
        print(f"  {name}: {images} slices in {asked} evaluations, {seconds:.0f} s: nothing that meets the limit")
        return
    drop = base - float(dice(answers(path, slices.images), slices.truth).mean())
    met = "meets" if drop <= limit + 1e-12 else "MISSES"
    print(f"  {name}: {images} slices in {asked} evaluations, {seconds:.0f} s: drop {drop:.5f}, {met} the limit")


def accuracy_control(place: Path, ours: OurSide, limit: float) -> tuple[Path, int, int]:
    """(NNCF's model, slices it was run on, calls of the validation function), with its defaults."""
    import numpy as np
    from edgeft_exporters.openvino.graph import save
    from edgeft_exporters.openvino.quantise import import_nncf, silent

    from edgeft.runtimes.ov import import_openvino

    nncf, ov = import_nncf(), import_openvino()
    counted = [0, 0]
    slices = ours.validation

    def validate(model: Any, items: Any) -> tuple[float, list[float]]:
        counted[1] += 1
        scores = []
        for index in items:
            counted[0] += 1
            logits = np.asarray(next(iter(model([slices.images[index : index + 1]]).values())))
            scores.append(float(dice(logits, slices.truth[index : index + 1])[0]))
        return float(np.mean(scores)), scores

    model = ov.Core().read_model(ours.float_path)
    calibration = nncf.Dataset([image[None] for image in ours.calibration.images])
    with silent():
        made = nncf.quantize_with_accuracy_control(
            model, calibration, nncf.Dataset(list(range(len(slices.truth)))), validate, max_drop=limit,
            drop_type=nncf.DropType.ABSOLUTE, subset_size=len(ours.calibration.images),
        )  # fmt: skip
    out = place / "nncf"
    out.mkdir()
    save(made, out / "model.xml", "f32")
    return out / "model.xml", counted[0], counted[1]


if __name__ == "__main__":
    main()
