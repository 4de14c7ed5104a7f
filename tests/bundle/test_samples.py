"""The samples in a bundle: run and compiled as a receiver would, and failing where the bundle is not what it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.bundle.conftest import Built, alone, build
from tests.pipeline.image_nets import CONV, write_digits
from tests.pipeline.test_images import CLASSES
from tests.ship.conftest import seal

pytestmark = pytest.mark.ml

ORT_HEADERS = Path(os.environ.get("EDGEFT_ORT_HEADERS", "/usr/include/onnxruntime"))
RUNTIMES = {"openvino": "openvino", "litert": "ai_edge_litert", "ncnn": "ncnn,cv2"}


def run(command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=180, env={**os.environ, **env})


def copied(built: Built, folder: Path) -> Path:
    shutil.copytree(built.bundle, folder / "copy")
    return folder / "copy"


def golden(bundle: Path, packages: str = "numpy,onnxruntime,tokenizers") -> subprocess.CompletedProcess[str]:
    return run(alone(packages, bundle / "samples/python/golden_test.py"))


def test_the_python_golden_test_passes_with_numpy_the_runtime_and_tokenizers_alone(text: Built) -> None:
    found = golden(text.bundle)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "8 cases" in found.stdout and "PASS" in found.stdout
    assert golden(text.bundle, "numpy,tokenizers").returncode != 0, "the runtime is really kept out"
    again = text.bench.run("run", str(text.bundle), "a text", "--json")
    assert again.returncode == 0, "the samples left nothing behind in the bundle: " + again.stderr


def test_the_python_sample_answers_as_edgeft_does(text: Built) -> None:
    question = "Render a template with a context of variables."
    found = run(alone("numpy,onnxruntime,tokenizers", text.bundle / "samples/python/sample.py", question))
    assert found.returncode == 0, found.stderr
    own = json.loads(text.bench.run("run", str(text.bundle), question, "--json").stdout)
    share, label = found.stdout.splitlines()[0].split(maxsplit=1)
    assert label == own["label"] and float(share) == pytest.approx(own["probability"], abs=1e-4)


def test_the_golden_test_fails_on_other_answers(text: Built, tmp_path: Path) -> None:
    bundle = copied(text, tmp_path)
    row = text.json("golden/index.json")["outputs"]["logits"]
    path = bundle / "golden" / row["file"]
    changed = np.load(path)
    changed[3, 1] += 1.5 * row["tolerance"]["other_processor"]["atol"]
    np.save(path, changed)
    found = golden(bundle)
    assert found.returncode == 1 and "FAIL logits is off" in found.stdout


def test_the_golden_test_fails_on_another_tokenizer(text: Built, tmp_path: Path) -> None:
    bundle = copied(text, tmp_path)
    content = json.loads((bundle / "tokenizer.json").read_text())
    content["normalizer"]["lowercase"] = not content["normalizer"]["lowercase"]
    (bundle / "tokenizer.json").write_text(json.dumps(content))
    found = golden(bundle)
    assert found.returncode == 1 and "token ids of" in found.stdout


def compiled(bundle: Path, out: Path, *flags: str) -> list[Path]:
    """golden_test and sample of samples/cpp, warnings being errors."""
    made = []
    for name in ("golden_test", "sample"):
        source = bundle / f"samples/cpp/{name}.cpp"
        done = run(["g++", "-std=c++17", "-Wall", "-Wextra", "-O1", str(source), "-o", str(out / name), *flags])
        assert done.returncode == 0, done.stderr[-3000:]
        made.append(out / name)
    return made


def check_cpp(built: Built, out: Path, libraries: str, *flags: str) -> None:
    test, sample = compiled(built.bundle, out, *flags)
    found = run([str(test), str(built.bundle)], LD_LIBRARY_PATH=libraries)
    assert found.returncode == 0 and "PASS" in found.stdout, found.stdout + found.stderr
    answer = run([str(sample), str(built.bundle)], LD_LIBRARY_PATH=libraries)
    shares = [float(line.split()[0]) for line in answer.stdout.splitlines()]
    assert len(shares) == len(built.json("postprocess.json")["labels"]) and sum(shares) == pytest.approx(1, abs=1e-3)
    bundle = copied(built, out)
    (row,) = built.json("golden/index.json")["outputs"].values()
    path = bundle / "golden" / row["file"]
    changed = np.load(path)
    changed.flat[-1] += 1.5 * row["tolerance"]["other_processor"]["atol"]
    np.save(path, changed)
    found = run([str(test), str(bundle)], LD_LIBRARY_PATH=libraries)
    assert found.returncode == 1 and "FAIL" in found.stdout


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.skipif(not ORT_HEADERS.is_dir(), reason="needs ONNX Runtime's C++ headers: EDGEFT_ORT_HEADERS")
def test_the_cpp_samples_run_on_onnx_runtime(text: Built, tmp_path: Path) -> None:
    import onnxruntime

    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    (tmp_path / "libonnxruntime.so.1").symlink_to(library)
    flags = (f"-I{ORT_HEADERS}", f"-L{tmp_path}", "-l:libonnxruntime.so.1")
    check_cpp(text, tmp_path, str(tmp_path), *flags)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small image classifier's code and data, and a store of its own."""
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder / "images")
    (folder / "net.py").write_text(CONV)
    return folder


def built_for(digits: Path, exporter: str) -> Built:
    pytest.importorskip(RUNTIMES.get(exporter, exporter).partition(",")[0])
    return build(digits, digits.with_name("digits-store"), CLASSES.replace("[onnx]", f"[{exporter}]"))


@pytest.mark.slow
@pytest.mark.parametrize("exporter", RUNTIMES)
def test_other_runtimes_pass_their_golden_test_without_edgeft(digits: Path, exporter: str) -> None:
    built = built_for(digits, exporter)
    found = golden(built.bundle, f"numpy,PIL,{RUNTIMES[exporter]}")
    assert found.returncode == 0, found.stdout + found.stderr
    sample = alone(f"numpy,PIL,{RUNTIMES[exporter]}", built.bundle / "samples/python/sample.py")
    picture = str(next((digits / "images/0").glob("*.png")))
    answer = run([*sample, picture])
    own = json.loads(built.bench.run("run", str(built.bundle), picture, "--json").stdout)
    assert answer.stdout.split()[1] == own["label"], answer.stderr


@pytest.mark.slow
@pytest.mark.parametrize("exporter", [*RUNTIMES, "executorch"])
def test_verify_runs_the_golden_cases_of_each_runtime(digits: Path, exporter: str, tmp_path: Path) -> None:
    """And says so where an answer is another one."""
    built = built_for(digits, exporter)
    found = built.bench.run("verify", str(built.bundle), "--golden")
    assert "pass  golden: 8 cases" in found.stdout and exporter in found.stdout, found.stdout
    changed = copied(built, tmp_path)
    (row,) = built.json("golden/index.json")["outputs"].values()
    answers = np.load(changed / "golden" / row["file"])
    answers.flat[-1] += 1.5 * row["tolerance"]["same_processor"]["atol"]
    np.save(changed / "golden" / row["file"], answers)
    seal(changed, **{key: value for key, value in built.json("manifest.json").items() if key != "files"})
    refused = built.bench.run("verify", str(changed), "--golden")
    assert refused.returncode != 0 and "is off by" in refused.stdout, refused.stdout


@pytest.mark.slow
def test_an_artefact_that_takes_texts_is_called_from_python_only(text: Built, text_recipe: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_extensions")
    recipe = text_recipe.replace("length: 32}", "length: 32, embed_preprocessing: string}")
    built = build(tmp_path, text.bench.store, recipe.replace("[int8-dynamic]", "[float]"))
    found = golden(built.bundle, "numpy,onnxruntime,onnxruntime_extensions")
    assert found.returncode == 0, found.stdout + found.stderr
    assert [path.name for path in (built.bundle / "samples").iterdir()] == ["python"]
    page = (built.bundle / "INTEGRATION.md").read_text()
    assert (
        "takes the text itself" in page
        and "onnxruntime-extensions-android" in page
        and "written for Python only" in page
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_the_cpp_samples_run_on_openvino(digits: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    built, root = built_for(digits, "openvino"), Path(openvino.__file__).parent
    (library,) = (root / "libs").glob("libopenvino.so.*")
    flags = (f"-I{root / 'include'}", str(library), f"-Wl,-rpath,{root / 'libs'}", "-Wno-unused-parameter")
    check_cpp(built, tmp_path, str(root / "libs"), *flags)
