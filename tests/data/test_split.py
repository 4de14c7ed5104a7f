"""What dividing promises: blocks stay whole, fractions hold, labels balance, row order does not matter."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeft.data.rows import Rows, normalise
from edgeft.data.split import Block, blocks_of, divide, take_blocks

FRACTIONS = {"train": 0.7, "validation": 0.08, "calibration": 0.02, "search": 0.08, "gate": 0.12}


def make(values: list[str], labels: list[str], groups: list[str] | None) -> Rows:
    ids = [str(place) for place in range(len(values))]
    return Rows("here", "text", ids, values, labels, groups, groups, None)


@st.composite
def some_rows(draw: st.DrawFn) -> Rows:
    n = draw(st.integers(1, 120))
    texts = draw(st.lists(st.integers(0, 90), min_size=n, max_size=n))
    labels = draw(st.lists(st.sampled_from("abc"), min_size=n, max_size=n))
    groups = draw(st.none() | st.lists(st.integers(0, 25).map(str), min_size=n, max_size=n))
    return make([f"text {number}" for number in texts], labels, groups)


@settings(max_examples=80, deadline=None)
@given(some_rows(), st.integers(0, 5))
def test_groups_and_equal_texts_stay_together_and_no_row_is_lost(rows: Rows, seed: int) -> None:
    parts = divide(blocks_of(rows), FRACTIONS, seed)
    home: dict[str, str] = {}
    places: list[int] = []
    for name, blocks in parts.items():
        for place in (place for block in blocks for place in block.rows):
            places.append(place)
            assert home.setdefault(f"text {rows.values[place]}", name) == name
            if rows.groups is not None:
                assert home.setdefault(f"group {rows.groups[place]}", name) == name
    assert sorted(places) == list(range(len(rows)))


@settings(max_examples=50, deadline=None)
@given(some_rows(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(rows: Rows, seed: int, shuffler: random.Random) -> None:
    order = list(range(len(rows)))
    shuffler.shuffle(order)

    def contents(rows: Rows) -> dict[str, list[tuple[str, str]]]:
        parts = divide(blocks_of(rows), FRACTIONS, seed)
        return {
            name: sorted((rows.values[place], rows.labels[place]) for block in blocks for place in block.rows)
            for name, blocks in parts.items()
        }

    assert contents(rows) == contents(rows.take(order))


@settings(max_examples=30, deadline=None)
@given(st.integers(200, 600), st.integers(0, 100), st.floats(0.1, 0.6))
def test_single_rows_hold_fractions_and_labels_within_two_rows(n: int, seed: int, rare: float) -> None:
    labels = ["rare" if place < n * rare else "often" for place in range(n)]
    rows = make([f"text {place}" for place in range(n)], labels, None)
    parts = divide(blocks_of(rows), FRACTIONS, seed)
    for name, share in FRACTIONS.items():
        for label in ("rare", "often"):
            got = sum(block.labels[label] for block in parts[name])
            # every label's need is filled until less than one row of it is left, in each split
            assert abs(got - share * labels.count(label)) < 2 * len(FRACTIONS)
        assert abs(sum(map(len, parts[name])) - share * n) <= 2 * len(FRACTIONS)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=80, max_size=200), st.integers(0, 100))
def test_groups_hold_fractions_within_two_of_the_largest(sizes: list[int], seed: int) -> None:
    groups = [str(group) for group, size in enumerate(sizes) for _ in range(size)]
    rows = make([f"text {place}" for place in range(len(groups))], ["a"] * len(groups), groups)
    parts = divide(blocks_of(rows), FRACTIONS, seed)
    for name, share in FRACTIONS.items():
        assert abs(sum(map(len, parts[name])) - share * len(rows)) <= 2 * max(sizes), name


def test_group_size_does_not_decide_the_split() -> None:
    """Over seeds, a group of 10 rows is as likely in gate as its share, like a group of one."""
    sizes = [10] * 20 + [1] * 200
    groups = [str(group) for group, size in enumerate(sizes) for _ in range(size)]
    rows = make([f"text {place}" for place in range(len(groups))], ["a"] * len(groups), groups)
    blocks = blocks_of(rows)
    seeds = 150
    large = sum(len(block) == 10 for seed in range(seeds) for block in divide(blocks, FRACTIONS, seed)["gate"])
    # binomial: 3000 draws at 0.12 have a standard deviation of 18, i.e. 0.006
    assert abs(large / (20 * seeds) - 0.12) < 4 * 0.006


def test_another_seed_divides_otherwise_and_the_same_seed_the_same() -> None:
    rows = make([f"text {place}" for place in range(300)], ["a", "b"] * 150, None)

    def gate(seed: int) -> set[int]:
        return {place for block in divide(blocks_of(rows), FRACTIONS, seed)["gate"] for place in block.rows}

    assert gate(1) == gate(1)
    assert len(gate(1) & gate(2)) < len(gate(1)) / 2


def test_a_known_division_stays_as_it_is() -> None:
    """Pins the algorithm: a change here must raise the data step's version."""
    rows = make([f"text {place}" for place in range(40)], ["a", "b"] * 20, None)
    parts = divide(blocks_of(rows), FRACTIONS, 7)
    assert {name: len(blocks) for name, blocks in parts.items()} == {
        "train": 28,
        "validation": 3,
        "calibration": 2,
        "search": 2,
        "gate": 5,
    }
    assert sorted(place for block in parts["gate"] for place in block.rows) == [6, 7, 11, 19, 38]


def test_every_label_reaches_train_and_every_split_gets_a_block() -> None:
    labels = ["often"] * 60 + ["twice"] * 2
    rows = make([f"text {place}" for place in range(62)], labels, None)
    for seed in range(40):
        parts = divide(blocks_of(rows), FRACTIONS, seed)
        assert any("twice" in block.labels for block in parts["train"])
        assert all(parts.values())


def test_blocks_chain_groups_through_texts() -> None:
    rows = make(["a", "A ", "b", "c"], ["x"] * 4, ["1", "2", "2", "3"])
    assert sorted(block.rows for block in blocks_of(rows)) == [(0, 1, 2), (3,)]


def test_normalise_folds_space_case_and_composition() -> None:
    assert normalise(" Caf\u00e9\n\tAU  lait") == normalise("cafe\u0301 au LAIT")
    assert normalise("stra\u00dfe") == normalise("STRASSE")
    assert normalise("a b") != normalise("ab")


def test_take_blocks_takes_whole_blocks_up_to_the_limit() -> None:
    blocks = [Block(str(number), tuple(range(number * 3, number * 3 + 3)), {"a": 3}) for number in range(10)]
    taken = take_blocks(blocks, 10, 1)
    assert len(taken) == 3
    assert taken == take_blocks(blocks[::-1], 10, 1)
