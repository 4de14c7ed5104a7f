"""Many generated DICOM slices through the data step and an evaluation: time, and peak memory of the process tree.

20,000 slices of 512 x 512 are what is promised to fit in 1.5 GB; `EDGEFT_BENCH_SLICES` gives another number. Slices are
synthetic and every one is another; 50 belong to a patient.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SLICES, SIDE, PATIENT = 20_000, 512, 50
LIMIT_GB = 1.5
RECIPE = """\
name: stream
model: {{code: net.py:build, initialise: true, task: image-classification}}
data: {{source: dicom, path: study, labels: [a, b], expect: {{shape: [512, 512], range: [-1024, 3071]}}}}
preprocess: {{window: [-1000, 1000]}}
serve: {{batch: 1, height: 128, width: 128}}
steps:
  - finetune: {{method: full, epochs: {epochs}, batch_size: 32, learning_rate: 0.001}}
targets:
  - {{device: local-cpu, export: [onnx], candidates: [float], optimise: size}}
gates:
  - {{metric: artifact_mb, at_most: 5}}
"""
NET = """\
import torch


def build(num_labels):
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, stride=4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(),
        torch.nn.Linear(128, num_labels),
    )
"""


def main() -> None:
    """Generate, build to the search set, print."""
    slices = int(os.environ.get("EDGEFT_BENCH_SLICES", SLICES))
    with tempfile.TemporaryDirectory(prefix="edgeft-stream-", dir=os.environ.get("EDGEFT_BENCH_DIR")) as place:
        folder = Path(place)
        generate(folder / "study", slices)
        (folder / "net.py").write_text(NET)
        (folder / "recipe.yaml").write_text(RECIPE.format(epochs=1))
        for step in ("data", "search"):
            seconds, peak = run(folder, step)
            verdict = "within" if peak < LIMIT_GB else "NOT within"
            what = {"data": "read, checked, divided", "search": "trained on, evaluated"}[step]
            print(
                f"{slices:,} slices of {SIDE} x {SIDE} {what}: {seconds:.0f} s, peak of the whole process tree "
                f"{peak:.2f} GB (proportional set size every 0.2 s), {verdict} {LIMIT_GB} GB",
                flush=True,
            )


def generate(root: Path, slices: int) -> None:
    """CT slices of smooth noise; every one has other values."""
    import numpy as np
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    root.mkdir()
    draw = np.random.default_rng(1)
    base = draw.normal(0, 300, (SIDE, SIDE))
    lines = ["file,label"]
    for number in range(slices):
        patient, meta, item = number // PATIENT, FileMetaDataset(), Dataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"1.2.{number + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item.file_meta, item.SOPClassUID, item.SOPInstanceUID = meta, CTImageStorage, f"1.2.{number + 1}"
        item.StudyInstanceUID, item.SeriesInstanceUID, item.Modality = "1.2", f"1.3.{number}", "CT"
        item.PatientID, item.Rows, item.Columns = f"P{patient}", SIDE, SIDE
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 16, 15, 1
        item.RescaleSlope, item.RescaleIntercept, item.PixelSpacing = 1, -24, [0.7, 0.7]
        item.ImageOrientationPatient, item.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, number]
        values = np.roll(base, number, axis=number % 2) + number % 97
        item.PixelData = np.clip(values, -1000, 3000).astype("<i2").tobytes()
        name = f"{number:06d}.dcm"
        item.save_as(root / name, enforce_file_format=True)
        lines.append(f"{name},{'ab'[patient % 2]}")
    (root / "cases.csv").write_text("\n".join(lines) + "\n")


def run(folder: Path, step: str) -> tuple[float, float]:
    """(seconds, peak GB of the build's processes) up to a step."""
    command = [sys.executable, "-m", "edgeft", "build", "recipe.yaml", "--to", step]
    env = {**os.environ, "EDGEFT_STORE": str(folder / "store")}
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak = [0.0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peak), daemon=True)
    watcher.start()
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the build ended with exit code {process.returncode}:\n{said[-3000:]}")
    return time.monotonic() - started, peak[0]


def _watch(pid: int, peak: list[float]) -> None:
    """Pages that processes share are counted once: PSS, where the system tells it."""
    import psutil

    try:
        root = psutil.Process(pid)
        while root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
            total = 0
            for process in (root, *root.children(recursive=True)):
                try:
                    found = process.memory_full_info()
                    total += getattr(found, "pss", found.rss)
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue
            peak[0] = max(peak[0], total / 1e9)
            time.sleep(0.2)
    except psutil.NoSuchProcess:
        return
