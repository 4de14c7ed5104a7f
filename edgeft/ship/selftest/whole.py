"""The whole job on a tiny model, by the commands that a user calls: build, verify, registry, a build that must fail.

A convolution of 8 channels on scikit-learn's digits; nothing is downloaded, everything lies in a folder of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from edgeft.ship.selftest.items import Item, Mismatch, Skipped

GROUP = "End to end"
TIMEOUT_SECONDS = 900
NEEDS = ("torch", "transformers", "accelerate", "sklearn", "PIL", "onnxscript")
NETWORK = """\
import torch


def build(num_labels):
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(8 * 4 * 4, num_labels),
    )
"""
RECIPE = """\
name: selftest
model: {code: "net.py:build", initialise: true, task: image-classification}
data:
  source: digits
  options: {size: 8, folder: digits}
  fractions: {train: 0.4, validation: 0.1, calibration: 0.05, search: 0.1, gate: 0.35}
serve: {batch: 1, height: 8, width: 8}
seed: 7
steps:
  - finetune: {method: full, epochs: 3, batch_size: 64, learning_rate: 0.01}
targets:
  - {device: local-cpu, export: [onnx], candidates: [float], optimise: size}
gates:
  - {metric: accuracy, no_worse_than: source, margin: 0.1, owner: self-test, justification: a known answer}
  - {metric: artifact_mb, at_most: 1}
"""
WHO = ("--by", "selftest", "--reason", "self-test")


class Workshop:
    """A temporary folder with recipe, store, key and registry. Items run in order; a step that lacks the one before is
    skipped."""

    def __init__(self) -> None:
        self._done: set[str] = set()

    @cached_property
    def _temporary(self) -> tempfile.TemporaryDirectory[str]:
        folder = tempfile.TemporaryDirectory(prefix="edgeft-selftest-")
        (Path(folder.name) / "net.py").write_text(NETWORK, encoding="utf-8")
        (Path(folder.name) / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
        return folder

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        return Path(self._temporary.name)

    def close(self) -> None:
        """Remove it, if it was ever made."""
        if "_temporary" in self.__dict__:
            self._temporary.cleanup()

    def items(self) -> Iterator[Item]:
        """In the order of the report; the first is the one that takes the time."""
        rows = [
            ("A recipe is built, gated, bundled and signed", "exit code 0", self._build),
            ("The bundle is verified with the key", "exit code 0", self._verify),
            ("A limit that no model meets", "exit code 1, nothing under targets/", self._refuse),
            ("The bundle is added to a registry and promoted", "exit code 0", self._promote),
            ("The bundle with one bit of its model changed", "refused: exit code 1", self._tamper),
        ]
        return (Item(GROUP, name, source, ask) for name, source, ask in rows)

    def _edgeft(self, code: int, *arguments: str) -> str:
        """The real command; what it printed. Mismatch where it ends in another exit code."""
        environment = {**os.environ, "EDGEFT_STORE": str(self.folder / "store"), "HF_HUB_OFFLINE": "1"}
        environment.pop("EDGEFT_SIGNING_KEY", None)
        done = subprocess.run(
            [sys.executable, "-m", "edgeft", *arguments],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode != code:
            said = (done.stderr.strip() or done.stdout.strip())[-300:]
            raise Mismatch(f"exit code {code} of `edgeft {arguments[0]}`", f"{done.returncode}: {said}")
        return done.stdout

    def _needs(self, step: str) -> None:
        if step not in self._done:
            raise Skipped("there is no bundle: the build above did not end well")

    @property
    def _bundle(self) -> Path:
        return self.folder / "out" / "selftest" / "targets" / "local-cpu"

    def _build(self) -> str:
        if absent := [name for name in NEEDS if find_spec(name) is None]:
            raise Skipped(f"this installation cannot build: {', '.join(absent)} is not installed")
        self._edgeft(0, "keys", "new", "--out", "key.pem")
        said = self._edgeft(0, "build", "recipe.yaml", "--sign-key", "key.pem")
        self._done.add("build")
        return said.splitlines()[0]

    def _verify(self) -> str:
        self._needs("build")
        return self._edgeft(0, "verify", str(self._bundle), "--key", "key.pem.pub").splitlines()[-1]

    def _refuse(self) -> str:
        self._needs("build")
        self._edgeft(1, "build", "recipe.yaml", "--set", "gates.1.at_most=0.0001", "--out", "refused")
        if list((self.folder / "refused").rglob("targets/*/manifest.json")):
            raise Mismatch("nothing under targets/", "a bundle")
        return "refused: exit code 1"

    def _promote(self) -> str:
        self._needs("build")
        self._edgeft(0, "registry", "add", str(self._bundle), "--registry", "registry")
        return self._edgeft(
            0, "registry", "promote", "selftest:1", "--registry", "registry", "--key", "key.pem.pub", *WHO
        ).strip()

    def _tamper(self) -> str:
        self._needs("build")
        model = self._bundle / "model.onnx"
        content = model.read_bytes()
        model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        self._edgeft(1, "verify", str(self._bundle), "--key", "key.pem.pub")
        model.write_bytes(content)
        return "refused: exit code 1"
