"""What must hold of a divided dataset before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from edgeft.data.rows import SHOWN, Rows, classes_of, normalise
from edgeft.data.source import Warn
from edgeft.data.split import Block
from edgeft.errors import StepError

MAX_BLOCK_SHARE = 0.5
Parts = Mapping[str, Sequence[int]]


def check_groups(rows: Rows, parts: Parts) -> None:
    """StepError listing the groups that lie in more than one split."""
    if rows.groups is None:
        return
    homes: dict[str, set[str]] = {}
    for name, places in parts.items():
        for place in places:
            homes.setdefault(rows.groups[place], set()).add(name)
    torn = sorted(group for group, names in homes.items() if len(names) > 1)
    if torn:
        shown = "; ".join(f"'{group}' in {', '.join(sorted(homes[group]))}" for group in torn[:SHOWN])
        more = "; ..." if len(torn) > SHOWN else ""
        what = f"{len(torn)} group{'s' * (len(torn) > 1)} in more than one split: {shown}{more}"
        raise StepError(what, where=rows.where, hint="put each group in one split, or let edgeft divide the rows")


def check_leakage(rows: Rows, parts: Parts, warn: Warn) -> int:
    """Number of texts (`normalise`d) that occur in more than one split.

    One that is in gate and elsewhere is a StepError: the gate would be answered by what was seen before. Others warn.
    """
    homes: dict[str, dict[str, str]] = {}
    for name, places in parts.items():
        for place in places:
            homes.setdefault(normalise(rows.values[place]), {}).setdefault(name, rows.ids[place])
    shared = [where for where in homes.values() if len(where) > 1]
    sealed = [where for where in shared if "gate" in where]
    if sealed:
        named = [", ".join(f"{name} row {where[name]}" for name in parts if name in where) for where in sealed[:SHOWN]]
        more = "; ..." if len(sealed) > SHOWN else ""
        what = f"{len(sealed)} of the gate set's texts also stand in another split: {'; '.join(named)}{more}"
        hint = "remove them from one side, or leave `split:`/`paths:` out: edgeft then keeps equal texts in one split"
        raise StepError(what, where=rows.where, hint=hint)
    if shared:
        example = next(iter(shared))
        pairs = ", ".join(f"{name} row {row}" for name, row in example.items())
        warn(f"{len(shared)} texts stand in more than one split (for instance {pairs})")
    return len(shared)


def check_pixels(rows: Rows, parts: Parts, warn: Warn) -> int:
    """Number of rows whose decoded image stood in an earlier row already; 0 where the source does not say.

    One image in two splits is a StepError that names both rows: the files may differ in every byte and still show the
    same patient. Inside one split it warns.
    """
    if rows.pixels is None:
        return 0
    first: dict[str, tuple[str, str]] = {}
    torn: list[str] = []
    again: list[str] = []
    for name, places in parts.items():
        for place in places:
            pixels, row = rows.pixels[place], rows.ids[place]
            if not pixels:
                continue
            home, other = first.setdefault(pixels, (name, row))
            if home != name:
                torn.append(f"{other} in {home} and {row} in {name}")
            elif other != row:
                again.append(f"{other} and {row} in {name}")
    if torn:
        what = f"the same image stands in two splits, {len(torn)} time{'s' * (len(torn) > 1)}: {_few(torn)}"
        hint = "remove one of each pair, or leave `split:`/`paths:` out: edgeft then keeps equal images in one split"
        raise StepError(what, where=rows.where, hint=hint)
    if again:
        warn(f"{len(again)} images stand twice in one split: {_few(again)}")
    return len(again)


def _few(named: Sequence[str]) -> str:
    return "; ".join(named[:SHOWN]) + ("; ..." if len(named) > SHOWN else "")


def count_conflicts(rows: Rows, warn: Warn) -> int:
    """Number of texts that have more than one label; warns with an example."""
    labels: dict[str, dict[str, str]] = {}
    for place, value in enumerate(rows.values):
        labels.setdefault(normalise(value), {}).setdefault(rows.labels[place], rows.ids[place])
    torn = [found for found in labels.values() if len(found) > 1]
    if torn:
        example = ", ".join(f"row {row} '{label}'" for label, row in torn[0].items())
        warn(f"{len(torn)} texts have more than one label (for instance {example})")
    return len(torn)


def count_duplicates(rows: Rows) -> int:
    """Rows whose text (`normalise`d) stood in an earlier row already."""
    return len(rows) - len({normalise(value) for value in rows.values})


def check_sizes(rows: Rows, parts: Parts, shares: Mapping[str, float], blocks: int) -> None:
    """StepError, saying what is needed, when a split that should exist (those in `shares`) came out empty."""
    empty = [name for name in shares if not parts.get(name)]
    if empty:
        grouped = f" in {blocks} groups that stay together" if blocks < len(rows) else ""
        needed = max(len(shares), round(sum(shares.values()) / min(shares.values())))
        what = f"too few rows: {len(rows)} rows{grouped} leave {', '.join(empty)} empty"
        hint = f"at least {len(shares)} groups and about {needed} rows are needed; see data.fractions"
        raise StepError(what, where=rows.where, hint=hint)


def check_blocks(rows: Rows, blocks: Sequence[Block]) -> None:
    """StepError when over half of the rows must stay together, naming the group or the text that holds them."""
    largest = max(blocks, key=len)
    if len(largest) <= len(rows) * MAX_BLOCK_SHARE or len(rows) < 2:
        return
    texts = Counter(normalise(rows.values[place]) for place in largest.rows)
    groups = Counter(rows.groups[place] for place in largest.rows) if rows.groups is not None else Counter[str]()
    text, times = texts.most_common(1)[0]
    what = f"{len(largest)} of {len(rows)} rows must stay together, so the rows cannot be divided"
    if len(groups) == 1:
        hint = f"they are all of group '{next(iter(groups))}': choose a finer data.group"
    else:
        through = f"{len(groups)} groups share texts" if groups else "they have one text"
        hint = f"{through}; the most frequent, {times} times: '{text[:60]}'. Remove such rows first"
    raise StepError(what, where=rows.where, hint=hint)


def check_classes(rows: Rows, parts: Parts, labels: Sequence[str], trains: bool, warn: Warn) -> None:
    """A class without rows: StepError in train when something trains, otherwise a warning per split.

    StepError too when search or gate hold one class of several: nothing can be told from them.
    """
    for name, places in parts.items():
        counts = Counter(label for place in places for label in classes_of(rows, place, labels))
        absent = [label for label in labels if not counts[label]]
        if not absent:
            continue
        shown = ", ".join(f"'{label}'" for label in absent[:SHOWN]) + (", ..." if len(absent) > SHOWN else "")
        if name == "train" and trains:
            hint = "add rows of it, or leave it out of the data and of data.labels"
            raise StepError(f"no row in train has the label {shown}", where=rows.where, hint=hint)
        if name in ("search", "gate") and len(counts) == 1 and len(labels) > 1:
            what = f"every row in {name} has the label '{next(iter(counts))}': always saying so would look perfect"
            hint = "give rows of every label; rows sorted by label need shuffling"
            raise StepError(what, where=rows.where, hint=hint)
        if name != "train":
            warn(f"no row in {name} has the label {shown}")
