"""The fence around processes that parse: what it forbids, what it leaves, and that its limit on memory holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os, shutil, socket, subprocess, sys
from edgeft.confined import fence, set_limits
folder, other = sys.argv[1:]
unlimited = set_limits(64 << 20, 1 << 20)
fence(lambda path: path.startswith(folder + os.sep))
def tried(what):
    try:
        what()
    except BaseException as error:
        return type(error).__name__
    return "done"
print(json.dumps({
    "unlimited": unlimited,
    "write inside": tried(lambda: open(folder + "/a", "w").close()),
    "read outside": tried(lambda: open(other).close()),
    "memory": tried(lambda: bytearray(256 << 20)),
    "write outside": tried(lambda: open(other, "a")),
    "create outside": tried(lambda: os.open(other + "x", os.O_CREAT | os.O_WRONLY)),
    "create for reading": tried(lambda: os.open(other + "y", os.O_CREAT | os.O_RDONLY)),
    "empty for reading": tried(lambda: os.open(other, os.O_TRUNC | os.O_RDONLY)),
    "folder": tried(lambda: os.mkdir(other + "z")),
    "mode": tried(lambda: os.chmod(other, 0)),
    "signal": tried(lambda: os.kill(os.getppid(), 0)),
    "remove": tried(lambda: os.remove(other)),
    "rename": tried(lambda: os.rename(other, folder + "/b")),
    "run": tried(lambda: subprocess.run(["true"])),
    "shell": tried(lambda: os.system("true")),
    "socket": tried(socket.socket),
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's address space")
def test_a_parser_reads_and_writes_its_own_and_nothing_else(tmp_path: Path) -> None:
    folder, other = tmp_path / "own", tmp_path / "other"
    folder.mkdir()
    other.write_text("kept")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(other)], capture_output=True, text=True, check=True, timeout=60
    )
    said = json.loads(done.stdout)
    assert said.pop("unlimited") == []
    assert {said.pop("write inside"), said.pop("read outside")} == {"done"}
    assert said.pop("memory") == "MemoryError"
    assert set(said.values()) == {"PermissionError"}, said
    assert other.read_text() == "kept" and [path.name for path in folder.iterdir()] == ["a"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "own"]
