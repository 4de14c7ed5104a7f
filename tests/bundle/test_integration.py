"""Every runtime's page and samples can be written, and no name of a tensor or a label can break out of them."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from edgeft import plugins
from edgeft.artifact import Signature, TensorSpec
from edgeft.ship.integration import FILES, MODEL, Integration, kotlin_literal, literal, write_integration
from edgeft.ship.packages import LANGUAGES, PACKAGES

FILE = {"onnxruntime": "model.onnx", "litert": "model.tflite", "openvino": "model.xml", "executorch": "model.pte",
        "ncnn": "model.param", "coreml": "model.mlpackage"}  # fmt: skip
NASTY = 'in"); system("$HOME `|\\(1)\n'


def written(folder: Path, runtime: str, name: str = "input_0", label: str = "yes") -> Path:
    """INTEGRATION.md and samples of an imagined artefact in `folder`."""
    folder.mkdir()
    if FILE[runtime].endswith("package"):
        (folder / FILE[runtime]).mkdir()
    else:
        (folder / FILE[runtime]).write_bytes(b"")
    post = {
        "labels": [label, "no"],
        "output": "logits",
        "activation": "softmax",
        "axis": 1,
        "rule": "argmax",
        "thresholds": {},
    }
    preprocess = {"kind": "text", "length": 8, "pad_id": 0, "inputs": ["input_ids"]}
    tolerance = {"other_processor": {"atol": 0.1, "why": "because"}}
    about = {"file": "inputs/input_ids.npy", "name": name, "dtype": "int64", "shape": [8, 8]}
    index = {
        "cases": 8, "batch": 1, "tokenizer": {"vectors": 600, "pad_side": "right"}, "inputs": {"input_ids": about},
        "outputs": {"logits": {"file": "outputs/logits.npy", "name": "output_0", "dtype": "float32", "shape": [8, 2],
                               "tolerance": tolerance}},
    }  # fmt: skip
    for file, content in (("postprocess.json", post), ("preprocess.json", preprocess), ("index.json", index)):
        (folder / file).write_text(json.dumps(content))
    signature = Signature(
        {"input_ids": TensorSpec(name, "int64", ("batch", 8))},
        {"logits": TensorSpec("output_0", "float32", ("batch", 2))},
    )
    needed = {plugins.load("runtimes", runtime).DISTRIBUTIONS[0]: "1.2.3+cpu", "tokenizers": "0.22"}
    write_integration(
        folder, Integration("n", "d", runtime, 2, {"opset": None}, signature, needed, folder / "index.json")
    )
    return folder


@pytest.mark.parametrize("runtime", sorted(PACKAGES))
def test_every_runtime_has_a_page_and_samples_in_the_languages_it_has(tmp_path: Path, runtime: str) -> None:
    folder = written(tmp_path / "b", runtime)
    page = (folder / "INTEGRATION.md").read_text()
    assert "1.2.3" in page and "+cpu" not in page.split("## Packages")[1].split("Least version")[0]
    assert {path.name for path in (folder / "samples").iterdir()} == set(LANGUAGES[runtime])
    for language in LANGUAGES[runtime]:
        names = {path.name for path in (folder / "samples" / language).iterdir()}
        more = {"preprocess.py"} if language == "python" else set()
        assert names == {*FILES[language], MODEL[language], *more}
        assert "@{" not in "".join(path.read_text() for path in (folder / "samples" / language).iterdir())
    for path in (folder / "samples/python").iterdir():
        ast.parse(path.read_text())
    for language in {"python", "cpp", "kotlin", "swift"} - set(LANGUAGES[runtime]):
        assert f"{runtime} has no interface for it" in page, language


def test_every_runtime_that_edgeft_knows_has_packages() -> None:
    assert set(plugins.names("runtimes")) <= set(PACKAGES) == set(LANGUAGES) == set(FILE)


def test_what_was_not_compiled_is_said(tmp_path: Path) -> None:
    page = (written(tmp_path / "b", "onnxruntime") / "INTEGRATION.md").read_text()
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    assert "not compiled and not run" in rows["Kotlin"] and "not compiled and not run" in rows["Swift"]
    assert "run by edgeft's tests" in rows["Python"]


def test_names_cannot_break_out_of_what_is_written(tmp_path: Path) -> None:
    folder = written(tmp_path / "b", "onnxruntime", NASTY, NASTY)
    for name in ("sample.py", "golden_test.py", "model.py"):
        tree = ast.parse((folder / "samples/python" / name).read_text())
        calls = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "system" not in calls
    assert "$HOME" not in (folder / "samples/kotlin/GoldenTest.kt").read_text().replace("\\$HOME", "")
    rows = [line for line in (folder / "INTEGRATION.md").read_text().splitlines() if line.startswith("| input_ids")]
    assert len(rows) == 1 and rows[0].count("`") == 4 and rows[0].replace("\\|", "").count("|") == 5


def test_literals_are_read_back_as_they_were() -> None:
    for text in ("plain", 'quo"te', "back\\slash", "ünïcode 漢"):
        assert ast.literal_eval(literal(text)) == text
    assert kotlin_literal("a$b") == '"a\\$b"' and literal("a\nb\u202ec") == '"abc"'


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_the_reader_of_golden_tensors_compiles_and_reads(tmp_path: Path) -> None:
    """The C++ files that need no runtime, whatever the machine has."""
    import numpy as np

    folder = written(tmp_path / "b", "onnxruntime")
    array = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    np.save(tmp_path / "a.npy", array)
    np.save(tmp_path / "b.npy", np.array([5, 7], np.int64))
    (tmp_path / "main.cpp").write_text(
        '#include <cstdio>\n#include "npy.hpp"\nint main() {\n  const Tensor a = read_npy("a.npy"), last = a.slice(2, 2);\n'
        '  Tensor b = read_npy("b.npy");\n  std::printf("%zu %lld %g %g %s %g %g\\n", a.shape.size(),\n'
        "    static_cast<long long>(last.shape[0]), last.at(0), last.at(7), b.dtype.c_str(), b.at(1),\n"
        "    difference(a, last, 1));\n}\n"
    )
    build = [
        "g++",
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{folder / 'samples/cpp'}",
        "main.cpp",
        "-o",
        "main",
    ]
    subprocess.run(build, cwd=tmp_path, check=True)
    found = subprocess.run([tmp_path / "main"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert found.split() == ["3", "2", "8", "11", "<i8", "7", "8"]
