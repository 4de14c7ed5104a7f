"""Dividing rows among splits: whole blocks, fractions held, labels balanced, the same for any order of the rows.

A block is a set of rows that must stay together: rows of one group, rows with the same text, and whatever these chain
together. Blocks go largest first; each is drawn into a split with probability proportional to what the splits still
need of its labels (sequential proportional assignment; the need per label is that of iterative stratification,
Sechidis et al. 2011), among the splits that it does not overfill in any label. So a block's size decides its split
only where it does not fit, and the fractions come out to within about one block. Order and draws come from SHA-256 over
seed and content: no generator state, no dependence on row order, platform or hash seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from edgeft.data.rows import Rows, normalise


@dataclass(frozen=True)
class Block:
    """Rows that stay together. key: digest of what they share, independent of row order."""

    key: str
    rows: tuple[int, ...]
    labels: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.rows)


def blocks_of(rows: Rows) -> list[Block]:
    """Connected components of rows joined by group, by normalised text and by equal pixels, sorted by key."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while (above := parent.setdefault(node, node)) != node:
            parent[node] = parent[above]
            node = parent[node]
        return node

    texts = [_node("text", normalise(value)) for value in rows.values]
    for place, text in enumerate(texts):
        root(text)
        for kind, column in (("group", rows.groups), ("pixels", rows.pixels)):
            if column is not None and column[place]:
                one, other = sorted((root(text), root(_node(kind, column[place]))))
                parent[other] = one
    members: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        members.setdefault(root(text), []).append(place)
    # the smaller digest always becomes the root, so a block's root is its smallest member whatever the order
    return [
        Block(key, tuple(places), Counter(rows.labels[place] for place in places))
        for key, places in sorted(members.items())
    ]


def divide(blocks: Sequence[Block], fractions: Mapping[str, float], seed: int) -> dict[str, list[Block]]:
    """Split name -> blocks. fractions: positive shares, of any sum. A split may come out empty when blocks are few.

    Every label is given to the first split at least once if it has a block at all, and no split stays empty while
    another has two blocks to spare.
    """
    total: Counter[str] = Counter()
    for block in blocks:
        total.update(block.labels)
    whole = sum(fractions.values())
    need = {name: {label: n * share / whole for label, n in total.items()} for name, share in fractions.items()}
    parts: dict[str, list[Block]] = {name: [] for name in fractions}
    for block in sorted(blocks, key=lambda block: (-len(block), _draw(seed, "order", block.key))):
        name = _choose(block, need, _draw(seed, "split", block.key))
        parts[name].append(block)
        for label, n in block.labels.items():
            need[name][label] -= n
    _repair(parts, total)
    return parts


def take_blocks(blocks: Sequence[Block], rows: int, seed: int) -> list[Block]:
    """Whole blocks of at most `rows` rows together, in an order drawn by seed; what does not fit is passed over."""
    taken, left = [], rows
    for block in sorted(blocks, key=lambda block: _draw(seed, "limit", block.key)):
        if len(block) <= left:
            taken.append(block)
            left -= len(block)
    return taken


def _choose(block: Block, need: Mapping[str, Mapping[str, float]], draw: float) -> str:
    """Split drawn in proportion to its need of the block's labels, among those that need a row of each label or more.

    A block too large for every split goes where its labels are needed most.
    """
    weights = {name: sum(n * of[label] for label, n in block.labels.items()) for name, of in need.items()}
    fits = [name for name, of in need.items() if all(of[label] > n - 1 for label, n in block.labels.items())]
    if not fits:
        return max(weights, key=weights.__getitem__)
    mark = draw * sum(weights[name] for name in fits)
    for name in fits:
        mark -= weights[name]
        if mark < 0:
            return name
    return fits[-1]


def _repair(parts: dict[str, list[Block]], total: Mapping[str, int]) -> None:
    """Move single blocks, the smallest that serves, into empty splits and to labels that the first split lacks."""
    for name, blocks in parts.items():
        donors = [other for other in parts if len(parts[other]) > 1]
        if not blocks and donors:
            _move(max(donors, key=lambda other: sum(map(len, parts[other]))), name, parts, None)
    first = next(iter(parts))
    for label in sorted(total):
        held = {name: sum(block.labels.get(label, 0) for block in blocks) for name, blocks in parts.items()}
        donors = [name for name in parts if held[name] and len(parts[name]) > 1]
        if not held[first] and donors:
            _move(max(donors, key=held.__getitem__), first, parts, label)


def _move(source: str, target: str, parts: dict[str, list[Block]], label: str | None) -> None:
    candidates = [block for block in parts[source] if label is None or label in block.labels]
    block = min(candidates, key=lambda block: (len(block), block.key))
    parts[source].remove(block)
    parts[target].append(block)


def _node(kind: str, value: str) -> str:
    return sha256(f"{kind}\0{value}".encode("utf-8", "surrogatepass")).hexdigest()


def _draw(seed: int, purpose: str, key: str) -> float:
    """A number in [0, 1) that depends on seed, purpose and key only."""
    return int.from_bytes(sha256(f"{seed}\0{purpose}\0{key}".encode()).digest()[:8]) / 2**64
