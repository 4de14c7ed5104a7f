"""A site whose cases are answered worse ends a build that looks good in the whole: the real command on real texts, labelled by a classifier."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.material import LIBRARIES
from tests.pipeline.conftest import STEPS, Workbench

pytestmark = pytest.mark.ml
WHOLE = "  - {metric: accuracy, no_worse_than: source, margin: 0.08}\n"
GATES = """\
  - {metric: accuracy, at_least: 0.3}
  - {metric: accuracy, at_least: 0.35, by: site}
  - {metric: flip_rate, at_most: 0.2, by: site, severity: warn}
  - {metric: ece, no_worse_than: source, margin: 0.2, owner: A. Hughes, justification: "read by people, not by rules"}
"""


def write_sites(source: Path, path: Path) -> None:
    """The texts with a site each; the annex, a quarter of them, calls every label by another's name."""
    with source.open(encoding="utf-8", newline="") as given, path.open("w", encoding="utf-8", newline="") as taken:
        writer = csv.DictWriter(taken, ["text", "label", "group", "site"])
        writer.writeheader()
        for number, row in enumerate(csv.DictReader(given)):
            site = "annex" if number % 4 == 0 else ("north", "south")[number // 4 % 2]
            if site == "annex":
                row["label"] = LIBRARIES[(LIBRARIES.index(row["label"]) + 1) % len(LIBRARIES)]
            writer.writerow({**row, "site": site})


def test_the_worst_site_decides(
    workbench: Callable[..., Workbench], text_csv: Path, tiny_bert: Path, answered: tuple[Path, Path]
) -> None:
    model, texts = answered
    untrained = [(STEPS.format(method="lora"), ""), (str(tiny_bert), str(model)), (str(text_csv), "sites.csv")]
    bench = workbench(replace=[*untrained, (WHOLE, GATES), ("optimise: size", "optimise: size, candidates: [float]")])
    write_sites(texts, bench.folder / "sites.csv")
    run = bench.run("build", "recipe.yaml")
    assert run.returncode == 1, run.stdout + run.stderr
    assert "in site 'annex'" in run.stdout and (bench.folder / "out/tiny/rejected/local-cpu").is_dir()
    whole, by_site, flips, calibration = bench.record()["targets"][0]["verdicts"][1:]
    assert (whole["status"], by_site["status"], by_site["subgroup"]) == ("PASS", "FAIL", "annex")
    parts = {part["subgroup"]: part for part in by_site["parts"]}
    sites = {name: part["status"] for name, part in parts.items() if name}
    assert sites == {"annex": "FAIL", "north": "PASS", "south": "PASS"} and parts[""]["status"] != "FAIL"
    assert sum(part["n"] for name, part in parts.items() if name) == parts[""]["n"] == whole["n"]
    assert flips["parts"] and calibration["owner"] == "A. Hughes" and calibration["unaccounted"] == []
    page = (bench.folder / "out/tiny/report.html").read_text(encoding="utf-8")
    assert "annex" in page and "A. Hughes" in page and "read by people, not by rules" in page
    plan = bench.run("plan", "recipe.yaml", "--set", "gates.3.owner=null")
    assert "has no `owner:`" in plan.stdout
