"""Start-up promises: `--help` and `plan` import nothing heavy; every command explains itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgeft.cli import COMMANDS

HEAVY = {
    "torch",
    "transformers",
    "numpy",
    "pyarrow",
    "onnx",
    "onnxruntime",
    "pandas",
    "peft",
    "datasets",
    "sklearn",
    "scipy",
}
NOT_FOR_HELP = HEAVY | {"pydantic", "ruamel", "rich", "jinja2", "importlib.metadata", "json", "email"}


def imported_by(*arguments: str) -> set[str]:
    """Top-level and dotted modules that `python -m edgeft ARGUMENTS` imports."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "edgeft", *arguments], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-2000:]
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


def test_help_imports_nothing_heavy() -> None:
    assert imported_by("--help") & NOT_FOR_HELP == set()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_each_command_explains_itself_without_heavy_imports(command: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "edgeft", command, "--help"], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0
    assert run.stdout.startswith(f"usage: edgeft {command}")
    assert "example" in run.stdout
    assert imported_by(command, "--help") & HEAVY == set()


BREAK = """
import sys
from edgeft import cli
import edgeft.cli.{command} as command
def fail(args):
    raise {error}
command.run = fail
sys.exit(cli.main(["{command}", "x"]))
"""


@pytest.mark.parametrize(
    ("command", "error", "code"),
    [("build", "BrokenPipeError", 130), ("plan", "BrokenPipeError", 0), ("plan", "ZeroDivisionError", 3)],
)
def test_what_ends_a_command_from_outside_is_no_verdict(command: str, error: str, code: int) -> None:
    """0 says that every gate passed and 1 (Python's own code for an exception) that one failed."""
    run = subprocess.run(
        [sys.executable, "-c", BREAK.format(command=command, error=error)], capture_output=True, text=True
    )
    assert run.returncode == code
    assert ("fault of edgeft" in run.stderr) == (error == "ZeroDivisionError")


def test_a_terminal_without_a_letter_is_answered_all_the_same() -> None:
    told = "import sys; from edgeft import cli; code = cli.main(['schema']); print('\\xe9 \\xd7'); sys.exit(code)"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, env=environment)
    assert run.returncode == 0
    assert run.stdout.rstrip().endswith(rb"\xe9 \xd7")


def test_version_and_unknown_command() -> None:
    version = subprocess.run([sys.executable, "-m", "edgeft", "--version"], capture_output=True, text=True)
    assert version.stdout.startswith("edgeft 0.")
    wrong = subprocess.run([sys.executable, "-m", "edgeft", "biuld"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "did you mean 'build'?" in wrong.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_every_command(shell: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "edgeft", "completion", shell], capture_output=True, text=True, check=True
    )
    assert all(command in run.stdout for command in COMMANDS)


def test_bash_completion_completes() -> None:
    script = subprocess.run(
        [sys.executable, "-m", "edgeft", "completion", "bash"], capture_output=True, text=True, check=True
    )
    ask = "COMP_WORDS=(edgeft build --of) COMP_CWORD=2; _edgeft; echo ${COMPREPLY[@]}"
    run = subprocess.run(["bash", "-c", f"{script.stdout}\n{ask}"], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["--offline"]
