"""One target of a record as its page: the choice, then every kind of evidence for it in a section of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeft.record import GateSetRow, TargetRow
from edgeft.report.candidates import candidates_table, notes_table, ordered, refused_table
from edgeft.report.confusion import shade_matrix, top_confusions
from edgeft.report.evidence import (
    conditions_blocks,
    latency_blocks,
    operators_blocks,
    placement_blocks,
    roofline_blocks,
)
from edgeft.report.examples import example_blocks
from edgeft.report.figures import key_figures
from edgeft.report.front import plot_front
from edgeft.report.limits import cost_metric
from edgeft.report.search import search_blocks
from edgeft.report.sections import Block, Section, caption, grid, keep, text, wide
from edgeft.report.series import runtime_keys
from edgeft.report.summary import counts_text, signature_text, target_sentence
from edgeft.report.tables import Table, device_table, differences_table, parity_table, table
from edgeft.report.validity import hide_time
from edgeft.report.verdicts import subgroup_blocks, verdicts_table
from edgeft.report.words import amount, count_text, metric_name

FLIPS = (
    ("both_right", "right in both"),
    ("lost", "lost: right in the source only"),
    ("gained", "gained: right in the artefact only"),
    ("both_wrong", "wrong in both"),
)
EMULATED = (
    "Emulated: answers are those of this processor's instructions, times would be the emulator's own. "
    "No time and no memory is shown."
)


@dataclass(frozen=True)
class TargetPage:
    """One target's page. lead: what was chosen and why; folder: where its files are, and who signed them."""

    id: str
    title: str
    how: str
    sentence: str
    chosen: str | None
    lead: str
    folder: str | None
    signature: str
    sections: Sequence[Section]


def view_target(target: TargetRow, index: int, labels: Sequence[str]) -> TargetPage:
    """Everything target.html.j2 lays out; pictures are marked as safe markup."""
    target = hide_time(target)
    name = f"target-{index}"
    choice = f"Chosen: {target.chosen}" if target.chosen else "Nothing was chosen"
    sections = [
        Section("verdicts", "Verdicts", grid(verdicts_table(target.verdicts))),
        Section("subgroups", "Subgroups", subgroup_blocks(target.verdicts)),
        Section("candidates", "Candidates", _candidates(target)),
        Section("search", "Search", search_blocks(target)),
        Section("latency", "Latency", latency_blocks(target)),
        Section("conditions", "Measurement conditions", conditions_blocks(target.candidates)),
        Section("operators", "Operators", operators_blocks(ordered(target.candidates))),
        Section("placement", "Placement", placement_blocks(ordered(target.candidates))),
        Section("roofline", "Roofline, estimated", roofline_blocks(target.candidates, target.probe)),
        Section("differences", "Differences between targets", _differences(target)),
        Section("parity", "Parity with the model", _parity(target)),
        Section("gate-set", "On the gate set", gate_blocks(target.gate_set, labels) if target.gate_set else []),
        Section("examples", "Worst, median and best case", example_blocks(target, labels)),
        Section("device", "Device", _device(target)),
    ]
    return TargetPage(
        id=name,
        title=target.device,
        how="not run" if target.not_run else target.how,
        sentence=target_sentence(target),
        chosen=target.chosen,
        lead=f"{choice}{f', {target.why}' if target.why else ''}. {counts_text(target)}",
        folder=target.folder,
        signature=signature_text(target),
        sections=[
            Section(f"{name}-{part.id}", part.title, part.blocks) for part in keep(_with_cards(target, sections))
        ],
    )


def gate_blocks(gates: GateSetRow, labels: Sequence[str]) -> list[Block]:
    """Metrics, flips and confusions of the one opening."""
    units = f" in {count_text(gates.units, 'unit')}" if gates.units != gates.n else ""
    names = sorted({*gates.artefact, *gates.source})
    sides = [*([gates.by_rule] if gates.rule else []), gates.source, gates.artefact]
    heads = ["Metric", *(["Rule"] if gates.rule else []), "Source", "Artefact"]
    rows = [[metric_name(m), *(amount(m, side.get(m)) for side in sides)] for m in names]
    total = sum(gates.flips.values()) or 1
    flips = [[words, f"{gates.flips.get(key, 0):,}", f"{gates.flips.get(key, 0) / total:.2%}"] for key, words in FLIPS]
    opened = "opened after the candidate was fixed; the source was scored in the same opening."
    blocks = text(f"{count_text(gates.n, 'case')}{units}, {opened}")
    if gates.rule:
        blocks += text(f"Rule: no network, but {gates.rule}, fitted on the train split.")
    blocks += grid(
        table(heads, rows, tuple(range(1, len(heads)))), table(["Case by case", "Cases", "Share"], flips, (1, 2))
    )
    matrix = shade_matrix(gates.confusion, labels)
    # Only a task that answers per pixel counts more than one answer for a case.
    counted = ", in pixels" if sum(map(sum, gates.confusion)) > gates.n else ""
    if matrix:
        return [
            *blocks,
            *text(f"Confusion of the artefact{counted}; shade is the share of the true class."),
            Block("matrix", matrix=matrix),
        ]
    confusions: Table = top_confusions(gates.confusion, labels)
    if not confusions.rows:
        return blocks
    words = f"The most frequent of the confusions among {len(gates.confusion)} classes:"
    return [*blocks, *text(words), *grid(confusions)]


def _with_cards(target: TargetRow, sections: list[Section]) -> list[Section]:
    cards = key_figures(target)
    notice = text(EMULATED) if target.how == "emulated" else []
    notice += text(f"{target.not_run[0].upper()}{target.not_run[1:]}.") if target.not_run else []
    blocks = [*notice, *([Block("cards", cards=cards)] if cards else [])]
    return [Section("choice", "", blocks), *sections]


def _candidates(target: TargetRow) -> list[Block]:
    front = plot_front(target)
    keys = [
        (f"swatch s{series}", name) for series, name in runtime_keys([row for row in target.candidates if row.metrics])
    ]
    keys += [("swatch s0 hollow", "rejected"), ("swatch ringed", "chosen"), ("dash front", "front")]
    if any(row.latency and not row.latency.valid for row in target.candidates):
        keys.insert(-2, ("swatch s0 faint", "INVALID times"))
    blocks = [Block("keys", keys=keys), *wide(front), *caption(_front_note(target))] if front else []
    return [
        *blocks,
        *grid(candidates_table(target)),
        *grid(refused_table(target)),
        *grid(notes_table(target.candidates)),
    ]


def _front_note(target: TargetRow) -> str:
    size = " Latency is not shown: under emulation it means nothing." if target.how == "emulated" else ""
    times = " INVALID times are drawn faint and never on the front." if cost_metric(target) != "artifact_mb" else ""
    return (
        "Bars are intervals, both ways; some are narrower than the mark. The front joins what no other candidate beats "
        "in both respects. Dashed red lines are gate limits; the gates themselves are decided on the gate set."
        f"{times}{size}"
    )


def _differences(target: TargetRow) -> list[Block]:
    rows = differences_table(target.differences, target.device)
    words = (
        "The same candidate over the same cases: what another processor or instruction set changes in the outputs. "
        "The files are the same bytes unless the row says in what they were made differently for the two."
    )
    return [*text(words), *grid(rows)] if rows.rows else []


def _parity(target: TargetRow) -> list[Block]:
    rows = parity_table({row.name: row.parity for row in target.candidates if row.parity})
    return (
        [*text("Each float export against the model it was made from, on real inputs."), *grid(rows)]
        if rows.rows
        else []
    )


def _device(target: TargetRow) -> list[Block]:
    return [*text("As the device said of itself."), *grid(device_table(target.conditions))] if target.conditions else []
