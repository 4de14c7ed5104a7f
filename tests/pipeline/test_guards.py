"""Small guards of a build: no network, no closed log, no half-swapped folder, no number that is none."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft import plugins
from edgeft.artifact import Artifact
from edgeft.canonical import digest_file
from edgeft.device.protocol import ArtefactRefused
from edgeft.errors import Exit, StepError
from edgeft.pipeline.given.inputs import resolve_inputs
from edgeft.pipeline.leftovers import aside_of, clear_leftovers, draft_of
from edgeft.pipeline.progress import Plain
from edgeft.pipeline.steps.answers import logits_of, refuse_broken
from edgeft.recipe.load import load_recipe
from edgeft.ship.bundle import BundleError, open_bundle
from edgeft.ship.output import _swap
from edgeft.ship.session import served
from edgeft.stage import Context, Progress
from edgeft.store import Store

OFFLINE = """
import socket, sys, tempfile
from edgeft.errors import EdgeftError
from edgeft.pipeline.offline import go_offline
go_offline()
refused = []
for name, call in {
    "tcp": lambda: socket.socket().connect(("127.0.0.1", 9)),
    "udp": lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)),
    "tcp6": lambda: socket.socket(socket.AF_INET6).connect_ex(("::1", 9)),
    "name": lambda: socket.getaddrinfo("localhost", 80),
    "reverse": lambda: socket.gethostbyaddr("127.0.0.1"),
}.items():
    try:
        call()
    except EdgeftError:
        refused.append(name)
place = tempfile.mkdtemp() + "/s"
server = socket.socket(socket.AF_UNIX); server.bind(place); server.listen()
client = socket.socket(socket.AF_UNIX); client.connect(place); client.sendmsg([b"x"])
print(" ".join(refused), server.accept()[0].recv(1).decode())
"""
LOGGING = """
import logging, sys
from pathlib import Path
from edgeft.pipeline.noise import to_log
with to_log(Path(sys.argv[1])):
    handler = logging.StreamHandler()
    logging.getLogger("library").addHandler(handler)
    logging.getLogger("library").error("inside")
    print("printed")
logging.getLogger("library").error("outside")
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


def test_offline_refuses_every_way_out_but_local_sockets() -> None:
    run = python(OFFLINE)
    assert run.stdout.split() == ["tcp", "udp", "tcp6", "name", "reverse", "x"], run.stderr


def test_a_log_handler_made_inside_a_step_works_after_it(tmp_path: Path) -> None:
    run = python(LOGGING, str(tmp_path / "log.txt"))
    assert run.stdout == "" and run.stderr == "outside\n"
    assert sorted((tmp_path / "log.txt").read_text().splitlines()) == ["inside", "printed"]


def test_the_old_outcome_comes_back_when_the_new_one_cannot_take_its_place(tmp_path: Path) -> None:
    old = tmp_path / "tiny"
    old.mkdir()
    (old / "record.json").write_text("{}")
    with pytest.raises(OSError, match="nowhere"):
        _swap(tmp_path / "nowhere", old)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"] and (old / "record.json").is_file()


def test_what_a_killed_build_left_beside_its_outcome_is_brought_back_or_removed(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead, folder = int(gone.stdout), tmp_path / "tiny"
    for place in (aside_of(folder, dead), draft_of(folder, dead), draft_of(folder, os.getpid())):
        place.mkdir()
        (place / "choice.lock").write_text(place.name)
    (tmp_path / ".tiny.mine").mkdir()
    clear_leftovers(folder)
    assert (folder / "choice.lock").read_text() == f".tiny.old.{dead}", "the old outcome had lost its place"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"tiny", f".tiny.{os.getpid()}", ".tiny.mine"}, "a living process is still writing"
    aside_of(folder, dead).mkdir()
    clear_leftovers(folder)
    assert {path.name for path in tmp_path.iterdir()} == left, "with an outcome in place the older one goes"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_no_number_puts_its_candidate_out(value: float) -> None:
    logits = np.zeros((3, 2), np.float32)
    refuse_broken({"logits": logits})
    logits[1, 0] = value
    with pytest.raises(ArtefactRefused, match="1 of 3 cases"):
        refuse_broken({"logits": logits})


def test_a_module_beside_the_users_code_is_part_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from blocks import make\ndef build(num_labels): return make(num_labels)\n")
    (tmp_path / "blocks.py").write_text("def make(n): return n\n")
    (tmp_path / "net.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (tmp_path / "rows.csv").write_text("text,label\n")
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "tokenizer.json").write_text("{}")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: own\nmodel: {code: net.py:build, weights: net.safetensors, tokenizer: words}\n"
        "data: {source: csv, path: rows.csv}\ntargets: [{device: local-cpu}]\n"
        "gates: [{metric: accuracy, no_worse_than: source, margin: 0.05}]\n"
    )
    store = Store(tmp_path / "store")

    def digest() -> str:
        return resolve_inputs(load_recipe(recipe), store, offline=True).model.digest

    before = digest()
    assert digest() == before
    (tmp_path / "blocks.py").write_text("def make(n): return n + 1\n")
    assert digest() != before
    store.close()


def test_the_time_left_of_a_resumed_step_is_of_this_runs_pace() -> None:
    stream = io.StringIO()
    events = Plain(stream)
    events.started("finetune", "Fine-tune", "new")
    events.progress(Progress("finetune", 500, 1000, "step"))
    events.said -= 20
    events.marks[0] = (events.marks[0][0] - 20, 500)
    events.progress(Progress("finetune", 600, 1000, "step"))
    # 100 steps in 20 s leave 80 s for 400; the run's own milliseconds may round it up.
    assert "1 min 20 s left" in stream.getvalue()


def test_one_case_is_given_as_the_artefact_takes_it() -> None:
    ids = np.arange(6, dtype=np.int64).reshape(3, 2)
    case = served(ids[1:2], {"dtype": "int32", "shape": [4, 2]})
    assert case.dtype == np.int32 and case.tolist() == [[2, 3]] * 4
    assert served(ids[:2], {"dtype": "int64", "shape": [3, 2]}).tolist() == [[0, 1], [2, 3], [2, 3]]
    assert served(ids[1:2], {"dtype": "int64", "shape": ["batch", 2]}).tolist() == [[2, 3]]


def test_a_manifest_may_not_name_a_model_outside_the_bundle(tmp_path: Path) -> None:
    manifest = {
        "format": 1, "task": "text-classification", "runtime": "onnxruntime", "threads": 1, "labels": [],
        "inputs": {}, "outputs": {}, "model": "../model.onnx", "files": {},
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="not a bundle's manifest"):
        open_bundle(tmp_path)


TENSOR = {"name": "x", "dtype": "float32", "shape": ["batch", 3]}


@pytest.mark.parametrize(
    "changes",
    [
        {"runtime": 3},
        {"task": None},
        {"threads": "a"},
        {"threads": -1},
        {"threads": 10**9},
        {"threads": True},
        {"labels": None},
        {"labels": [1]},
        {"inputs": []},
        {"inputs": {"x": 1}},
        {"inputs": {"x": {**TENSOR, "shape": "x"}}},
        {"inputs": {"x": {**TENSOR, "shape": [10**9, 1]}}},
        {"outputs": {"x": {**TENSOR, "name": None}}},
    ],
    ids=str,
)
def test_a_manifest_edited_by_hand(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    row = {"sha256": digest_file(tmp_path / "model.onnx"), "bytes": 1}
    sound = {
        "format": 1, "task": "text-classification", "runtime": "onnxruntime", "threads": 1, "labels": ["a"],
        "inputs": {"x": TENSOR}, "outputs": {"x": TENSOR}, "model": "model.onnx", "files": {"model.onnx": row},
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(sound))
    assert open_bundle(tmp_path).manifest["threads"] == 1
    (tmp_path / "manifest.json").write_text(json.dumps({**sound, **changes}))
    with pytest.raises(BundleError, match="not a bundle's manifest"):
        open_bundle(tmp_path)


@pytest.mark.ml
@pytest.mark.parametrize(
    ("content", "said"), [(b"hello, no model\n" * 9, "not an ONNX file"), (b"", "without a single operator")]
)
def test_a_file_that_is_no_onnx_is_named_with_its_path(tmp_path: Path, content: bytes, said: str) -> None:
    """The user's own model, not a device, is at fault: exit code 3, never 4, and no bare library exception."""
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    context = Context(
        step="source/search",
        seed=0,
        scratch=tmp_path,
        task=plugins.load("tasks", "text-classification")(),
        labels=("a", "b"),
    )
    with pytest.raises(StepError, match=said) as caught:
        logits_of(Artifact("onnx", file, "0"), None, context)({"input_ids": np.ones((2, 4), np.int64)})
    assert (caught.value.where, caught.value.exit_code) == (str(file), Exit.STEP_FAILED)


@pytest.mark.parametrize("sent", [b"\xff\xfe\x00 no text\n", "h\u00e9\n".encode("latin-1")])
def test_bytes_that_are_no_text_are_refused_before_the_bundle_is_opened(tmp_path: Path, sent: bytes) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "edgeft", "run", str(tmp_path), "-"], input=sent, capture_output=True, timeout=60
    )
    assert (run.returncode, run.stderr.splitlines()[0]) == (2, b"error: INPUT: is not UTF-8 text")
