"""Whether a gate set is large enough: what each gate needs at best, in the whole and in every subgroup it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgeft.canonical import Facts
from edgeft.errors import RecipeError
from edgeft.evaluate.statistics import NEEDED_CAP
from edgeft.evaluate.subgroups import MAX_SUBGROUPS, split_cases
from edgeft.gate import Gate
from edgeft.metric_names import MASK_FAMILIES, ML_METRICS, RANKING_FAMILIES, RATE_FAMILIES, SPACED_METRICS
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.problems import did_you_mean

SHOWN = 4


@dataclass(frozen=True)
class Held:
    """What a gate set holds: independent units, rows of each label, rows in all (a row may have several labels), and
    the same of the subgroups by column."""

    units: int
    classes: Mapping[str, int] = field(default_factory=dict)
    by: Mapping[str, Mapping[str, Held]] = field(default_factory=dict)
    rows: int = field(default=0, compare=False)

    @property
    def alone(self) -> bool:
        """Whether every unit has one row."""
        return self.rows in (0, self.units)

    @staticmethod
    def of_facts(about: Mapping[str, Any]) -> Held:
        """From a split's facts, as the data step wrote them."""
        by = {
            column: {value: Held.of_facts(part) for value, part in parts.items()}
            for column, parts in about.get("by", {}).items()
        }
        return Held(int(about["units"]), dict(about.get("classes", {})), by, int(about.get("n", 0)))

    @staticmethod
    def of_rows(rows: Any, labels: Sequence[str], several: bool = False) -> Held:
        """From some rows of a split. several: their cases have any number of labels."""
        from edgeft.data.table import by_column, column_array

        def count(part: Any) -> Held:
            truth = part.column("label").to_pylist()
            classes = {label: truth.count(place) for place, label in enumerate(labels)}
            if several:
                classes = {label: sum(code >> place & 1 for code in truth) for place, label in enumerate(labels)}
            return Held(len(set(part.column("unit").to_pylist())), classes, rows=part.num_rows)

        columns = [name.removeprefix(by_column("")) for name in rows.column_names if name.startswith(by_column(""))]
        parts = {
            name: {value: count(rows.take(index)) for value, index in split_cases(column_array(rows, by_column(name)))}
            for name in columns
        }
        whole = count(rows)
        return Held(whole.units, whole.classes, parts, whole.rows)

    def counted(self, unit: str | None) -> Held:
        """The same where a gate counts its own `unit`: rows, or values of a column, in a subgroup at most all."""
        if unit is None:
            return self
        most = self.rows if unit == "row" else len(self.by.get(unit, {}))
        parts = {
            column: {value: replace(part, units=min(part.rows, most)) for value, part in found.items()}
            for column, found in self.by.items()
        }
        return replace(self, units=most, by=parts)

    def units_for(self, metric: str) -> int:
        """Units that can count for the metric, at most: of one label's metric those of the label."""
        family = next((name for name in (*RATE_FAMILIES, *RANKING_FAMILIES) if metric.startswith(name)), None)
        if family is None:
            return self.units
        found = self.classes.get(metric.removeprefix(family), 0)
        others = (self.rows or sum(self.classes.values())) - found
        most = {"specificity_": others, "auroc_": min(found, others)}.get(family, found)
        return min(self.units, most)


@dataclass(frozen=True)
class Short:
    """A part of the gate set on which a gate cannot pass. part: a subgroup, empty for the whole."""

    part: str
    has: int
    needs: int


def find_short(gate: Gate, held: Held) -> list[Short]:
    """The parts that are too small, the whole first. RecipeError for what no number of cases shows."""
    from edgeft.evaluate.gates import needed_at_best

    held = held.counted(gate.unit)
    parts = {"": held, **(held.by.get(gate.by, {}) if gate.by else {})}
    sizes = {name: part.units_for(gate.metric) for name, part in parts.items()}
    needs = {name: needed_at_best(gate, has, alone=parts[name].alone) for name, has in sizes.items()}
    return [Short(name, sizes[name], need) for name, need in needs.items() if need is not None]


def can_pass(gates: Sequence[Gate], held: Held) -> bool:
    """Whether every blocking gate could pass on what is held, were nothing lost."""
    return all(gate.severity != "block" or not find_short(gate, held) for gate in gates)


def check_gate_set(loaded: LoadedRecipe, dataset: Facts) -> None:
    """Each gate must be able to pass at this n even when nothing flips; the needed n is named otherwise."""
    held = Held.of_facts(dataset["splits"]["gate"])
    for index, gate in enumerate(loaded.recipe.gates):
        check_label(loaded, index, dataset["labels"])
        if problem := spacing_problem(gate, int(dataset.get("spacing", 0))):
            raise loaded.error(("gates", index, "metric"), *problem)
        if gate.by is not None and len(held.by.get(gate.by, {})) > MAX_SUBGROUPS:
            raise loaded.error(
                ("gates", index, "by"),
                f"'{gate.by}' has {len(held.by[gate.by])} values in the gate set, at most {MAX_SUBGROUPS} can be "
                "subgroups",
                "name a column of fewer values, or bring them together in the data",
            )
        if gate.severity == "block" and (short := find_short(gate, held)):
            counted = gate.unit or dataset["unit"]
            unit = "cases" if counted == "row" else f"units ({counted})"
            raise loaded.error(("gates", index), *_too_small(gate, short, unit))


def check_possible(loaded: LoadedRecipe, index: int) -> None:
    """What no number of cases can show is an error at the gate's place in the recipe."""
    from edgeft.evaluate.gates import needed_at_best

    try:
        needed_at_best(loaded.recipe.gates[index], NEEDED_CAP)
    except RecipeError as error:
        raise loaded.error(("gates", index), error.what, error.hint) from error


def check_planned(loaded: LoadedRecipe, gates: Sequence[Gate], device: str, cases: int, held: Held) -> None:
    """An emulated device answers part of the gate set: each gate must be able to pass on that part."""
    for gate in gates:
        short = find_short(gate, held) if gate.severity == "block" else []
        if short:
            where = f" of {gate.by} '{short[0].part}'" if short[0].part else ""
            raise loaded.error(
                ("gates", loaded.recipe.gates.index(gate)),
                f"'{gate.describe()}' cannot pass on {device}: {loaded.recipe.measure.emulated_minutes:g} minutes "
                f"allow too few cases, {cases} in {short[0].has} units{where}; even with no case lost it needs "
                f"{short[0].needs} units",
                "raise measure.emulated_minutes, or widen the margin on this device if the application allows it",
            )


def check_label(loaded: LoadedRecipe, index: int, labels: Sequence[str]) -> None:
    """A metric of one label, such as sensitivity_malignant, must name one that there is."""
    metric = loaded.recipe.gates[index].metric
    families = dict.fromkeys((*RATE_FAMILIES, *RANKING_FAMILIES), labels)
    families |= dict.fromkeys(MASK_FAMILIES, labels[1:])
    for family, known in families.items():
        label = metric.removeprefix(family)
        if metric.startswith(family) and label not in known:
            hint = did_you_mean(label, known, "labels")
            raise loaded.error(("gates", index, "metric"), f"no label is called '{label}'", hint)


def spacing_problem(gate: Gate, stated: int) -> tuple[str, str] | None:
    """(what, hint) of a metric in mm or ml where cases state too few numbers of spacing: 0, 2 or 3; None if it can be
    had."""
    if not gate.metric.startswith(SPACED_METRICS) or stated >= (3 if gate.metric.startswith(ML_METRICS) else 2):
        return None
    if stated:
        what = f"{gate.metric} needs the spacing of slices besides that of rows and columns"
        return what, "state three numbers (slices, rows, columns), or gate volume_error, which needs none"
    what = f"{gate.metric} is in mm, and the data do not say how large a pixel is"
    hint = (
        "image-masks: options: {spacing: [0.7, 0.7]} for all images, or a column spacing in cases.csv ('0.7 0.7', rows "
        "and columns in mm); or gate mean_dice, which needs none"
    )
    return what, hint


def _too_small(gate: Gate, short: Sequence[Short], unit: str) -> tuple[str, str]:
    """(what, hint) of a gate that cannot pass on what there is."""
    first = short[0]
    if not first.part:
        what = f"'{gate.describe()}' cannot pass on {first.has} {unit}: even with no case lost it needs {first.needs}"
        hint = "give the gate set more rows (data.fractions.gate), or widen the margin if the application allows it"
        return what, hint
    named = ", ".join(f"'{part.part}' has {part.has}" for part in short[:SHOWN]) + (", ..." * (len(short) > SHOWN))
    what = (
        f"'{gate.describe()}' cannot pass: {len(short)} subgroup{'s are' if len(short) > 1 else ' is'} too small: "
        f"{named}; even with no case lost each needs {first.needs} {unit}"
    )
    return what, "give the gate set more rows of them, bring values together in the data, or say severity: warn"
