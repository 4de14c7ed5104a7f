"""docs/regression.md is true: its workflow is one, its commands parse, its figures are the code's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from edgeft import cli
from edgeft.cli import check
from edgeft.evaluate.gates import needed_at_best
from edgeft.gate import Gate
from edgeft.ship.check.stated import DEFAULT_MARGIN

PAGE = (Path(__file__).parents[2] / "docs/regression.md").read_text(encoding="utf-8")


def workflow() -> dict[str, Any]:
    """The page's GitHub Actions example, parsed."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 1
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(blocks[0])
    return content


def parse(command: str) -> Any:
    words = shlex.split(command)
    assert words[:2] == ["edgeft", "check"]
    return cli.command_parser("check", check).parse_args(words[2:])


def test_the_workflow_is_one() -> None:
    content = workflow()
    assert set(content) == {"name", "on", "permissions", "jobs"} and content["permissions"]["contents"] == "read"
    job = content["jobs"]["check"]
    assert set(job) == {"runs-on", "steps"}
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step) and set(step) <= {"name", "uses", "run", "with", "env", "if"}
        assert "uses" not in step or re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])
        assert "github.event" not in step.get("run", ""), "what a stranger may write goes through the environment"


def test_its_command_and_those_of_the_page_parse() -> None:
    runs = [step["run"] for step in workflow()["jobs"]["check"]["steps"] if "edgeft check" in step.get("run", "")]
    assert len(runs) == 1
    asked = parse(runs[0])
    assert str(asked.junit) == "check.xml" and str(asked.markdown) == "check.md" and asked.no_latency
    blocks = re.findall(r"```text\n(.*?)```", PAGE, flags=re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("edgeft check")]
    assert commands and all(parse(line) for line in commands)
    assert all(parse(line.strip()) for line in check.EPILOG.splitlines() if line.strip().startswith("edgeft check"))


def test_options_on_the_page_exist_and_figures_are_the_codes() -> None:
    known = cli.command_parser("check", check)._option_string_actions
    named = set(re.findall(r"`(--[a-z-]+)", PAGE))
    assert named and named <= set(known)
    assert f"else {DEFAULT_MARGIN:g} of the task's first metric" in PAGE
    gate = Gate(metric="accuracy", no_worse_than="source", margin=DEFAULT_MARGIN)
    assert f"needs {needed_at_best(gate, 1)}\ncases if no answer changes" in PAGE
    assert PAGE.count(f"| {check.DEFAULT_SHARE} |") == 2


def test_what_the_workflow_installs_is_what_the_page_makes() -> None:
    """edgeft is on no index: a wheel and a list, both made from its repository. test_no_torch.py installs the two."""
    (install,) = [step["run"] for step in workflow()["jobs"]["check"]["steps"] if "pip install" in step.get("run", "")]
    assert install.splitlines() == [
        "pip install -r tools/requirements-check.txt",
        "pip install --no-deps tools/edgeft-*.whl",
    ]
    assert install in PAGE, "as the page has it for any machine"
    assert "\npip wheel --no-deps --wheel-dir tools .\ncp requirements-check.txt tools\n" in PAGE
    assert (Path(__file__).parents[2] / "requirements-check.txt").is_file()
    for name in ("models/candidate", "models/released", "models/test.csv"):
        assert PAGE.count(name) >= 2, "said where it comes from"


def test_the_page_says_how_volumes_are_checked_and_none_says_that_they_are_not() -> None:
    assert "## Volumes" in PAGE and "`nibabel` is needed" in PAGE
    root = Path(__file__).parents[2]
    for page in (root / "README.md", *(root / "docs").rglob("*.md"), *(root / "edgeft/ship/check").glob("*.py")):
        text = " ".join(page.read_text(encoding="utf-8").split())
        assert not re.search(r"volumes cannot be checked|does not take volumes", text), page.name
