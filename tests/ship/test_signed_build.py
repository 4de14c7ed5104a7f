"""A real build signs what passed, says so, and leaves nothing of the key in what it writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeft.ship import verify
from edgeft.ship.keys import new_key
from tests.pipeline.conftest import Workbench, shared_store, workbench

__all__ = ["shared_store", "workbench"]
pytestmark = pytest.mark.ml
Bench = Callable[..., Workbench]


def test_a_build_signs_what_passed_and_says_so(workbench: Bench, tmp_path: Path) -> None:
    bench = workbench()
    plain = bench.run("build", "recipe.yaml")
    assert plain.returncode == 0, plain.stderr
    out = bench.folder / "out/tiny"
    assert "files: targets/local-cpu (not signed)" in plain.stdout
    assert "(not signed)" in (out / "report.html").read_text()
    assert not (out / "targets/local-cpu/manifest.sig").exists()

    signer = new_key(tmp_path / "release.pem")
    run = bench.run("build", "recipe.yaml", "--sign-key", "release.pem")
    assert run.returncode == 0, run.stderr
    assert f"files: targets/local-cpu (signed by key {signer.id})" in run.stdout
    assert f"(signed by key {signer.id})" in (out / "report.html").read_text()
    assert bench.record()["targets"][0]["signed_by"] == signer.id
    assert verify.verify_folder(out / "targets/local-cpu", {signer.id: signer.public}).exit_code == 0
    checked = bench.run("verify", "out/tiny", "--key", "release.pem.pub")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "pass  golden: 8 cases: logits is off by" in checked.stdout and "same processor" in checked.stdout
    assert bench.run("run", "out/tiny", "text").returncode == 0, "the signature is no foreign file"

    secret = (tmp_path / "release.pem").read_bytes().splitlines()[1]
    for folder in (out, bench.store):
        for path in folder.rglob("*"):
            assert not path.is_file() or secret not in path.read_bytes(), path


def test_what_failed_is_not_signed(workbench: Bench, tmp_path: Path) -> None:
    bench = workbench(replace=[("artifact_mb, at_most: 25", "artifact_mb, at_most: 0.001")])
    new_key(tmp_path / "release.pem")
    run = bench.run("build", "recipe.yaml", "--sign-key", "release.pem")
    assert run.returncode == 1, run.stderr
    assert list((bench.folder / "out/tiny").rglob("manifest.json"))
    assert not list((bench.folder / "out/tiny").rglob("manifest.sig"))


def test_a_key_that_cannot_be_opened_ends_the_build_at_once(workbench: Bench) -> None:
    bench = workbench(fresh=True)
    run = bench.run("build", "recipe.yaml", "--sign-key", "none.pem", timeout=60)
    assert run.returncode == 2 and "the signing key cannot be read" in run.stderr
    assert not bench.store.exists() and not (bench.folder / "out").exists()
