"""Golden cases on this machine's runtime: same answers pass, others fail, no runtime leaves it open; no torch."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from edgeft import cli, plugins
from edgeft.cli.verify import verify_any
from edgeft.ship.archive import pack
from edgeft.ship.keys import Signer, public_pem
from edgeft.ship.signature import sign_folder
from edgeft.ship.verify import SIGNATURE, canonical
from edgeft.ship.verify_golden import LARGEST_BATCH, MOST_CASES, MOST_THREADS
from tests.ship.conftest import TENSOR, make_bundle, seal
from tests.ship.test_keys import WITHOUT

pytestmark = pytest.mark.ml
CASES = 5
See = Callable[[Path, int, str], None]


def add_golden(folder: Path, **changes: Any) -> None:
    """A model y = 2 x, five inputs, its true answers; `changes` replace keys of golden/index.json."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])], "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx")
    golden = folder / "golden"
    x = np.arange(CASES * 3, dtype=np.float32).reshape(CASES, 3)
    for name, array in (("inputs/x.npy", x), ("outputs/y.npy", x * 2)):
        (golden / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(golden / name, array)
    allowed = {key: {"atol": 1e-5, "why": "test"} for key in ("same_processor", "other_processor")}
    row = {"dtype": "float32", "shape": [CASES, 3]}
    index = {
        "format": 1, "from": "calibration", "cases": CASES, "batch": 2, "made_on": {"machine": "vax"}, "raw": None,
        "tokenizer": None, "inputs": {"x": {"name": "x", "file": "inputs/x.npy", **row}},
        "outputs": {"y": {"name": "y", "file": "outputs/y.npy", "tolerance": allowed, **row}}, **changes,
    }  # fmt: skip
    (golden / "index.json").write_bytes(canonical(index))


@pytest.fixture
def golden(tmp_path: Path, signer: Signer) -> Path:
    """A signed bundle whose model and golden cases are real."""
    folder = make_bundle(tmp_path / "bundle")
    add_golden(folder)
    return again(folder, signer)


def again(folder: Path, signer: Signer, **changes: Any) -> Path:
    changes.setdefault("outputs", {"y": {**TENSOR, "name": "y"}})
    sign_folder(seal(folder, **changes), signer)
    return folder


@pytest.fixture
def see(trusted: dict[str, bytes]) -> See:
    """see(bundle, exit code, words of the finding)."""

    def look(folder: Path, code: int, words: str) -> None:
        found = verify_any(folder, trusted, golden=True)
        assert found.exit_code == code, found.lines()
        assert found.findings[-1].check == "golden" and words in found.findings[-1].said, found.lines()

    return look


def test_the_same_answers_pass(golden: Path, see: See) -> None:
    see(golden, 0, "5 cases: y is off by 0, 1e-05 is allowed (other processor, onnxruntime 1.")


def test_other_answers_fail(golden: Path, see: See, signer: Signer) -> None:
    """Each case counts, the last of an unfilled batch too; NaN is no answer."""
    for case, value in ((0, 1.001), (4, 3.0), (2, float("nan"))):
        add_golden(golden)
        answers = np.load(golden / "golden/outputs/y.npy")
        answers[case, 1] += value
        np.save(golden / "golden/outputs/y.npy", answers)
        again(golden, signer)
        see(golden, 1, f"y is off by {abs(value):.3g}, 1e-05 is allowed")


def test_the_same_processor_is_held_to_its_own_tolerance(golden: Path, see: See, signer: Signer) -> None:
    import platform
    from importlib.metadata import version

    from edgeft.device.conditions import cpu_flags

    own = {"machine": platform.machine(), "cpu_flags": " ".join(cpu_flags())}
    tolerance = {"same_processor": {"atol": 1e-5, "why": ""}, "other_processor": {"atol": 9.0, "why": ""}}
    row = {"name": "y", "file": "outputs/y.npy", "dtype": "float32", "shape": [CASES, 3], "tolerance": tolerance}
    runtime = version("onnxruntime")
    for made_on, code in (
        (own, 1), ({**own, "onnxruntime": runtime}, 1), ({**own, "cpu_flags": "other"}, 0),
        ({**own, "onnxruntime": "0.1"}, 0), ({**own, "abacus": "1"}, 0), ({}, 0),
    ):  # fmt: skip
        add_golden(golden, made_on=made_on, outputs={"y": row})
        answers = np.load(golden / "golden/outputs/y.npy")
        np.save(golden / "golden/outputs/y.npy", answers + 1)
        again(golden, signer)
        see(golden, code, f"y is off by 1, {1e-5 if code else 9.0:g} is allowed")


def test_without_golden_cases_it_says_so(bundle: Path, see: See) -> None:
    see(bundle, 0, "holds no golden cases")


def test_without_the_runtime_it_stays_open(
    golden: Path, see: See, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    see(golden, 5, "onnxruntime, which this bundle needs, is not installed")
    see(again(golden, signer, runtime="abacus"), 5, "no runtime is called abacus")


def test_what_is_refused_is_not_run(golden: Path, see: See, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(group: str, name: str) -> Any:
        raise AssertionError("it must not be run")

    monkeypatch.setattr(plugins, "load", load)
    (golden / SIGNATURE).unlink()
    see(golden, 1, "not run: the bundle is refused")


def test_a_strangers_model_is_not_run_unasked(
    golden: Path, trusted: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key named, or none that could be asked: the runtime is not even loaded. --golden runs it, and proves no signer."""
    archive = tmp_path / "bundle.zip"
    pack(golden, archive)
    for place in (golden, archive):
        assert_ran(place, {}, golden=True, ran="5 cases", code=5)
        assert_ran(place, trusted, golden=None, ran="5 cases", code=0)
    real = plugins.load

    def load(group: str, name: str) -> Any:
        raise AssertionError("it must not be run")

    monkeypatch.setattr(plugins, "load", load)
    for place in (golden, archive):
        assert_ran(place, {}, golden=None, ran="not run: no key of yours", code=5)
        assert_ran(place, trusted, golden=False, ran="left out by --no-golden", code=0)
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    assert_ran(golden, trusted, golden=None, ran="not run: no key of yours", code=5)
    monkeypatch.setattr(plugins, "load", real)
    assert_ran(golden, trusted, golden=True, ran="5 cases", code=5)


def assert_ran(place: Path, keys: dict[str, bytes], *, golden: bool | None, ran: str, code: int) -> None:
    """What the last finding says, and the exit code."""
    found = verify_any(place, keys, golden=golden)
    assert (found.findings[-1].check, found.exit_code) == ("golden", code), found.lines()
    assert ran in found.findings[-1].said


def test_the_options_of_the_command(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, said in (
        ([], "skip  golden: not run"),
        (["--golden"], "pass  golden: 5 cases"),
        (["--no-golden"], "skip  golden: left"),
    ):
        assert cli.main(["verify", str(golden), *options]) == 5
        assert said in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["verify", str(golden), "--golden", "--no-golden"])


def test_what_is_run_is_what_was_hashed(golden: Path, see: See, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is exchanged after the check: the answers are still those of the one that was checked."""
    real = plugins.load

    def load(group: str, name: str) -> Any:
        (golden / "model.onnx").write_bytes(b"no model at all")
        return real(group, name)

    monkeypatch.setattr(plugins, "load", load)
    see(golden, 0, "y is off by 0")
    assert (golden / "model.onnx").read_bytes() == b"no model at all"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "has format 2"),
        ({"cases": 10**9}, "cases is no number"),
        ({"cases": 4}, "does not hold 4 cases"),
        ({"batch": True}, "batch is no number"),
        ({"batch": 0}, "batch is no number"),
        ({"batch": LARGEST_BATCH + 1}, "batch is no number"),
        ({"cases": MOST_CASES + 1}, "cases is no number"),
        ({"outputs": {}}, "does not hold every output"),
        ({"inputs": {}}, "does not hold every output"),
        ({"inputs": {"x": {"name": "x", "file": "../../secret.npy"}}}, "none of the files"),
        ({"inputs": {"x": {"name": "z", "file": "inputs/x.npy"}}}, "cannot be run"),
        ({"inputs": {"x": {"name": "x", "file": "index.json"}}}, "cannot be run"),
        ({"made_on": 3}, "cannot be run"),
    ],
    ids=str,
)
def test_an_index_that_is_none(golden: Path, see: See, signer: Signer, changes: dict[str, Any], words: str) -> None:
    add_golden(golden, **changes)
    see(again(golden, signer), 1, words)


def test_an_output_without_golden_answers_is_told(golden: Path, see: See, signer: Signer) -> None:
    outputs = {name: {**TENSOR, "name": name} for name in "yz"}
    see(again(golden, signer, outputs=outputs), 1, "does not hold every output")


def test_a_stranger_gets_no_more_threads_than_any_build(
    golden: Path, see: See, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, asked = plugins.load("runtimes", "onnxruntime"), list[int]()
    real = runtime.load

    def load(path: str, options: dict[str, Any]) -> Any:
        asked.append(options["threads"])
        return real(path, {"threads": 1})

    monkeypatch.setattr(runtime, "load", load)
    for threads in (2, MOST_THREADS, MOST_THREADS + 1, 0, True, "2"):
        see(again(golden, signer, threads=threads), 0, "y is off by 0")
    assert asked == [2, MOST_THREADS, 1, 1, 1, 1]


def test_arrays_that_are_none(golden: Path, see: See, signer: Signer) -> None:
    """A pickle, and a header that speaks of more than the file holds."""
    place = golden / "golden/inputs/x.npy"
    np.save(place, np.array([{"a": 1}] * CASES), allow_pickle=True)
    see(again(golden, signer), 1, "cannot be run")
    add_golden(golden)
    raw = place.read_bytes()
    place.write_bytes(raw.replace(b"(5, 3), }          ", b"(5, 300000000000), }"))
    assert place.read_bytes() != raw
    see(again(golden, signer), 1, "cannot be run")


class Spy:
    """Whoever unpickles it leaves a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.place,)


def test_a_pickle_is_never_opened(golden: Path, see: See, signer: Signer, tmp_path: Path) -> None:
    (golden / "golden/inputs/x.npy").write_bytes(pickle.dumps(Spy(tmp_path / "opened")))
    see(again(golden, signer), 1, "cannot be run")
    assert not (tmp_path / "opened").exists()


def test_answers_of_another_shape_fail(golden: Path, see: See, signer: Signer) -> None:
    """Also where numpy would stretch them."""
    np.save(golden / "golden/inputs/x.npy", np.ones((CASES, 3), np.float32))
    np.save(golden / "golden/outputs/y.npy", np.full((CASES, 1), 2, np.float32))
    see(again(golden, signer), 1, "y has shape (2, 3), not (2, 1)")


def test_it_needs_no_torch(golden: Path, tmp_path: Path, signer: Signer) -> None:
    (tmp_path / "r.pub").write_bytes(public_pem(signer.public))
    script = WITHOUT.replace('"numpy", ', "").replace('"onnxruntime", ', "")
    command = [sys.executable, "-c", script, "verify", str(golden), "--key", "r.pub", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["findings"][-1]["said"].startswith("5 cases")
