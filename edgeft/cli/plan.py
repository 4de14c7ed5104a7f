"""`edgeft plan`: what a build would do, and why."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from edgeft.cli.build import add_recipe_options
from edgeft.metric_names import FLIP_RATE, LABEL_ACCURACY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeft.pipeline.plan import PlanRow
    from edgeft.recipe.load import LoadedRecipe

HELP = "Show what a build would do, why, and what it would cost; run nothing"
DESCRIPTION = """Show each step's state: cached, will run (and which part of its key changed), or waits on another.

Times, memory and disk are estimates, each with what it rests on: the same step's last run on this machine,
or a formula. Nothing is run and nothing is downloaded; what would be downloaded is named."""
EPILOG = """examples:
  edgeft plan recipe.yaml
  edgeft plan recipe.yaml --set finetune.rank=8      see what a change would cost
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `plan`."""
    add_recipe_options(parser)
    parser.add_argument("--json", action="store_true", help="the table as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    from edgeft import plugins
    from edgeft.pipeline.checks import gate_sizes, preflight
    from edgeft.pipeline.checks.by_hand import left_notes
    from edgeft.pipeline.checks.gate_names import name_gates
    from edgeft.pipeline.checks.only_rows import check_only
    from edgeft.pipeline.checks.reach import known_fleet
    from edgeft.pipeline.given.find_folder import NeedsDownload
    from edgeft.pipeline.given.inputs import resolve_inputs
    from edgeft.pipeline.judging.released import check_all_labels, open_released
    from edgeft.pipeline.plan import known_dataset, make_plan, plan_rows
    from edgeft.recipe.load import load_recipe
    from edgeft.ship.bundle import open_bundle
    from edgeft.store import Store

    store = Store()
    loaded = load_recipe(args.recipe, args.sets)
    devices = preflight.load_devices(loaded)
    loaded = name_gates(loaded, devices)
    preflight.check_recipe(loaded, devices, plugins.load("tasks", loaded.recipe.model.task)())
    try:
        inputs = resolve_inputs(loaded, store, offline=args.offline, download=False)
    except NeedsDownload as need:
        return _print_download(need.what, as_json=args.json)
    released = open_released(loaded, open_bundle, inputs.labels)
    plan = make_plan(loaded, inputs, store, devices, known_fleet(devices, store).facts)
    if dataset := known_dataset(plan, store):
        gate_sizes.check_gate_set(loaded, dataset)
        check_only(loaded, dataset)
        check_all_labels(loaded, released, dataset["labels"])
    rows = plan_rows(plan, store)
    preflight.check_disk(rows, store, str(store.root))
    about = inputs.about.get("notes", ())
    notes = [*about, *left_notes(loaded, devices), *account_notes(loaded), *answer_notes(loaded)]
    if args.json:
        print(json.dumps({"steps": [asdict(row) for row in rows], "downloads": [], "notes": notes}, indent=1))
    else:
        print("\n".join([*table(rows), *(f"note: {text}" for text in notes)]))
    return 0


def account_notes(loaded: LoadedRecipe) -> Iterator[str]:
    """What each margin lacks for someone to answer for it."""
    for index, gate in enumerate(loaded.recipe.gates):
        if gate.unaccounted:
            lacks = " and ".join(f"`{name}:`" for name in gate.unaccounted)
            yield f"{loaded.where(('gates', index))}: the margin of '{gate.describe()}' has no {lacks}"


def answer_notes(loaded: LoadedRecipe) -> Iterator[str]:
    """Gates on the likeliest label, where the bundle will answer by a threshold that another gate froze."""
    gates = loaded.recipe.gates
    points = sorted({gate.point.label for gate in gates if gate.point is not None})
    for index, gate in enumerate(gates):
        likeliest = gate.metric in ("accuracy", "macro_f1", FLIP_RATE, LABEL_ACCURACY)
        if points and likeliest:
            labels = ", ".join(f"'{label}'" for label in points)
            yield (
                f"{loaded.where(('gates', index))}: {gate.metric} is of the likeliest label, the bundle will answer "
                f"{labels} by a frozen threshold: only gates with the same point hold those answers"
            )


def _print_download(name: str, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"steps": [], "downloads": [name]}))
    else:
        print(f"download  {name} from the Hugging Face hub; its size is known after the first build")
        print("the steps depend on its files and can be planned once it is on this machine")
    return 0


def table(rows: Sequence[PlanRow]) -> list[str]:
    """The plan as text: state, step, why, estimates with their basis, and totals of what is left to do."""
    width = max(len(row.id) for row in rows)
    lines = [f"{row.state:<9} {row.id:<{width}}  {row.why}{_cost(row)}" for row in rows]
    left = [row for row in rows if row.state != "cached"]
    known = [row.seconds for row in left if row.seconds is not None]
    lines.append("")
    if not left:
        lines.append(f"{len(rows)} steps, all cached; the gate set is asked after the choice")
        return lines
    total = (
        f"about {_seconds(sum(known))} for the {len(known)} of them with an estimate" if known else "no estimate yet"
    )
    lines.append(f"{len(rows)} steps, {len(left)} to run: {total}; downloads: none")
    return lines


def _cost(row: PlanRow) -> str:
    if row.state == "cached":
        return ""
    parts = []
    if row.seconds is not None:
        parts.append(_seconds(row.seconds))
    if row.memory_mb:
        parts.append(f"{row.memory_mb / 1e3:.1f} GB memory")
    if row.disk_mb:
        parts.append(f"{row.disk_mb:,.0f} MB disk")
    return f"  [~{', '.join(parts)}: {row.basis}]" if parts else ""


def _seconds(value: float) -> str:
    from edgeft.pipeline.progress import duration

    return duration(value)
