"""Seconds that it takes to profile the quickstart's whole matrix on this machine in quick mode: every candidate.

Latency, operators and the probe of each are measured again; training, exports and answers come from the store, so the
first build (some minutes) is not counted.
"""

from __future__ import annotations

import sys

from bench.build import Built, build

RECIPE = "edgeft:text/quickstart"
LIMIT_SECONDS = 240.0
PARTS = ("latency", "operators", "probe")
"""Last parts of the measuring steps' names."""


def main() -> bool:
    """Print the seconds of each part and their sum; whether that is under the limit."""
    build(RECIPE)
    found = build(RECIPE, "--remeasure")
    spent = count_seconds(found)
    profiled = [row for row in found.record["targets"][0]["candidates"] if row["latency"]]
    invalid = sum(not row["latency"]["valid"] for row in profiled)
    print(f"{len(profiled)} candidates of {RECIPE} on local-cpu, quick protocol, {invalid} with INVALID times")
    for name, seconds in spent.items():
        print(f"{seconds:7.1f} s  {name}")
    whole = sum(spent.values())
    print(f"{whole:7.1f} s  in all; the goal is under {LIMIT_SECONDS:.0f} s")
    return 0 < whole < LIMIT_SECONDS


def count_seconds(found: Built) -> dict[str, float]:
    """Part -> seconds of its steps that ran in this build."""
    spent = dict.fromkeys(PARTS, 0.0)
    for row in found.record["steps"]:
        part = row["id"].rpartition("/")[2]
        if part in spent and row["state"] == "ran":
            spent[part] += float(row["seconds"])
    return spent


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
