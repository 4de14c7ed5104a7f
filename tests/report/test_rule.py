"""The baseline without a network stands beside source and artefact, in the table, the figures and the terminal."""

from __future__ import annotations

from edgeft.record import GateSetRow
from edgeft.report.views import gate_blocks

GATES = GateSetRow(
    n=64, units=64, source={"mean_dice": 0.93}, artefact={"mean_dice": 0.92}, confusion=[[5, 1], [1, 5]],
    flips={"both_right": 60, "both_wrong": 2, "lost": 1, "gained": 1},
)  # fmt: skip
RULED = GATES.model_copy(update={"rule": "two thresholds on the brightness", "by_rule": {"mean_dice": 0.81}})


def test_its_column_is_there_where_the_recipe_has_one() -> None:
    shown = str(gate_blocks(RULED, ["a", "b"]))
    assert "no network, but two thresholds on the brightness, fitted on the train split" in shown
    assert "'Rule', 'Source', 'Artefact'" in shown and "0.810" in shown
    plain = str(gate_blocks(GATES, ["a", "b"]))
    assert "'Rule'" not in plain and "no network" not in plain
