"""A disk that is really full, a file system that is really read-only: named, and nothing half-written left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeft.errors import StoreError
from edgeft.store import StepResult, Store, step_key

Put = Callable[..., StepResult]
MATERIAL = {"id": "big"}
SIZE = 1_000_000


def mounted(*command: str) -> bool:
    try:
        return subprocess.run(["mount", *command], capture_output=True, check=False, timeout=20).returncode == 0
    except OSError:
        return False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MB. Where mounting is not allowed the tests below say so and are skipped;
    `test_a_file_size_limit_is_named` then still meets a real refusal of the kernel."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mounted("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)):
        pytest.skip("mounting a file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_step_that_fills_the_disk_is_told_so_and_leaves_nothing(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    with pytest.raises(StoreError, match="disk full") as caught, store.workspace() as folder:
        (folder / "huge").write_bytes(bytes(2 * SIZE))
    assert "edgeft gc --keep 20GB" in caught.value.hint
    assert "EDGEFT_STORE" in caught.value.hint
    assert "free" in caught.value.what
    assert str(small_disk) in caught.value.where
    store.close()
    assert not any("huge" in name for name in files_below(small_disk))


def test_other_libraries_disk_full_errors_are_recognised(small_disk: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    store = Store(small_disk / "store")
    with pytest.raises(StoreError, match="disk full"), store.workspace() as folder:
        save_file({"w": np.zeros(2 * SIZE, np.uint8)}, folder / "model.safetensors")
    store.close()


def test_a_commit_on_a_full_disk_is_whole_or_absent(small_disk: Path, tmp_path: Path) -> None:
    """The free space is cut so that the refusal comes at every point of the commit in turn."""
    store = Store(small_disk / "store")
    outcomes = set()
    for left in range(0, 90_000, 4096):
        key = step_key({**MATERIAL, "left": left})
        folder = tmp_path / f"made-{left}"
        folder.mkdir()
        (folder / "data").write_bytes(os.urandom(20_000))
        ballast = small_disk / "ballast"
        try:
            with ballast.open("wb") as stream:
                free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
                stream.write(bytes(max(0, free - left)))
            store.commit(key, {**MATERIAL, "left": left}, "record", folder, {}, 1)
            outcomes.add("whole")
        except StoreError as error:
            assert "disk full" in error.what
            assert not store.layout.step(key).exists()
            outcomes.add("absent")
        finally:
            ballast.unlink(missing_ok=True)
        whole = {path.stem for path in store.layout.steps.glob("*.json")}
        assert len([path for path in store.layout.objects.glob("*/*") if path.is_dir()]) == len(whole)
        assert store.find(key) is None or key in whole
    assert outcomes == {"whole", "absent"}
    store.close()
    assert not any(name.startswith("tmp/") for name in files_below(store.root))


def test_gc_works_on_a_full_disk(small_disk: Path, put: Put) -> None:
    store = Store(small_disk / "store")
    put("a", {"f": bytes(300_000)}, into=store)
    store.close()
    with pytest.raises(OSError), (small_disk / "ballast").open("wb") as stream:
        stream.write(bytes(SIZE))
    report = Store(small_disk / "store").gc(keep_bytes=0)
    assert report.freed > 300_000
    assert report.after < 50_000


def test_an_opening_on_a_full_disk_is_not_half_written(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    store.record_opening("d", "demo", {}, "now")
    before = store.layout.openings.read_bytes()
    with pytest.raises(OSError), (small_disk / "ballast").open("wb") as stream:
        stream.write(bytes(SIZE))
    with pytest.raises(StoreError, match="disk full"):
        store.record_opening("d", "demo", {"a": "x" * 10_000}, "now")
    assert store.layout.openings.read_bytes() == before
    (small_disk / "ballast").unlink()
    assert store.record_opening("d", "demo", {}, "now") == 2


def test_a_read_only_file_system_is_named(small_disk: Path) -> None:
    Store(small_disk / "store").close()
    assert mounted("-o", "remount,ro", str(small_disk))
    with pytest.raises(StoreError, match="read-only") as caught:
        Store(small_disk / "another")
    assert "EDGEFT_STORE" in caught.value.hint
    with pytest.raises(StoreError, match="read-only"):
        Store(small_disk / "store").remember_latest("demo", "step", "0" * 64, {})


LIMITED = """
import resource, signal, sys
from pathlib import Path
from edgeft.errors import StoreError
from edgeft.store import Store
store = Store(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with store.workspace() as folder:
        (folder / "huge").write_bytes(bytes(200_000))
except StoreError as error:
    print(error.render())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits")
def test_a_file_size_limit_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "file too large" in done.stdout
    assert "hint: make room" in done.stdout


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to become someone else")
def test_no_permission_is_named(tmp_path: Path) -> None:
    store = tmp_path / "store"
    Store(store).close()
    code = (
        "import os, sys, filelock, shutil; from pathlib import Path; from edgeft.errors import StoreError; from edgeft.store import Store\n"
        "os.setuid(65534)\n"
        "try:\n    Store(Path(sys.argv[1])).record_opening('d', 'b', {}, 'now')\n"
        "except StoreError as error:\n    print(error.render())\n"
    )
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o055) if "pytest" in str(folder) else None
    store.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", code, str(store)], capture_output=True, text=True, timeout=60, check=True
    )
    assert "no permission" in done.stdout
    assert "hint: choose a folder you can write to" in done.stdout
