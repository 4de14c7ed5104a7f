"""What stands for the tokens a language model lost: a row, made and shifted so that their probability together stays.

A mean of rows answers with the mean of logits, which lies below the log of the mean of their exponentials (Jensen): by
the plain mean the dropped tokens together would become far less likely than they were. So a row counts by how likely
the model itself finds its token on train texts, which is the slope of that log where texts are, and the constant still
missing is one number added to the logit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.models.vocabulary import KeptHead, mean_row
from edgeft.task import logits_at_once

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from edgeft.stage import Context
    from edgeft.stages.prune.subject import Subject

    Floats = NDArray[np.float64]

TEXTS = 256
"""Train texts that the model answers, where their logits fit into memory."""
WIDEST = 50.0
"""Nats, either way: of the search for the shift."""
HALVINGS = 60


@dataclass(frozen=True)
class Others:
    """shares: (of,) float64, how much each token's row counts in the row of the dropped ones; 0 of kept ones, sum 1.
    shift: nats added to that row's logit. texts: train texts these come from. before, after: mean probability of all
    dropped tokens together at a token of those texts, of the model before and with this row."""

    shares: Floats
    shift: float
    texts: int
    before: float
    after: float

    @property
    def told(self) -> str:
        """In words, for the report."""
        return (
            f"the dropped tokens' row is their mean, each weighted by its probability on {self.texts} train texts; "
            f"together they had {self.before:.2%} of the probability there, and have {self.after:.2%}"
        )


def find_others(subject: Subject, head: str, kept: Collection[int], note: str, ctx: Context) -> Others:
    """Ask the whole model about train texts. note: for the terminal meanwhile. Raises StepError without any."""
    import numpy as np

    from edgeft.stages.prune.subject import read_feeds

    feeds, rows = read_feeds(ctx, "train", logits_at_once(ctx.task, ctx.prepared, TEXTS))
    ctx.progress(0, rows.num_rows, "text", note)
    logits = subject.scored_logits(feeds)
    gone = np.ones(logits.shape[1], bool)
    gone[sorted(kept)] = False
    kept_mass, shares, before = _masses(logits, gone)
    alike = (logits @ shares.astype(np.float32)).astype(np.float64) + np.log(int(gone.sum()))
    shift = balance(kept_mass, alike, before) if answers_plainly(subject, head) else 0.0
    after = float(_share(kept_mass, alike + shift).mean())
    ctx.progress(rows.num_rows, rows.num_rows, "text", note)
    return Others(shares, shift + _earlier(subject, head, shares), int(rows.num_rows), before, after)


def _masses(logits: NDArray[np.float32], gone: NDArray[np.bool_]) -> tuple[Floats, Floats, float]:
    """(log of the kept tokens' summed exponentials at each position; each dropped token's part of the probability that
    they have together, 0 for kept ones; that probability, mean over positions)."""
    import numpy as np

    kept_mass, shares = np.empty(len(logits)), np.zeros(len(gone))
    for place, row in enumerate(logits):  # one at a time: a float64 copy of all would treble the memory
        wide = row.astype(np.float64)
        highest = wide.max()
        powers = np.exp(wide - highest)
        shares += np.where(gone, powers, 0) / powers.sum()
        kept_mass[place] = highest + np.log(powers[~gone].sum())
    before = float(shares.sum() / len(logits))
    return kept_mass, shares / shares.sum() if shares.sum() > 0 else gone / gone.sum(), before


def balance(kept: Floats, others: Floats, wanted: float) -> float:
    """The shift with which the others' mean probability over positions is `wanted`; by bisection, within +-WIDEST.

    kept, others: log of the summed exponentials at each position. It is the shift of least KL from the whole model.
    """
    low, high = -WIDEST, WIDEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _share(kept, others + middle).mean() < wanted else (low, middle)
    return round((low + high) / 2, 6)


def answers_plainly(subject: Subject, head: str) -> bool:
    """Whether the head's outputs are the logits: some models scale or cap them, and a shift is not the same before."""
    import numpy as np

    seen: list[Any] = []
    handle = subject.module.get_submodule(head).register_forward_hook(lambda _, __, made: seen.append(made.detach()))
    try:
        logits = subject.logits({name: array[:1] for name, array in subject.feeds.items()})
    finally:
        handle.remove()
    made = seen[0].float().numpy()
    return bool(np.allclose(made, logits[:, : made.shape[1]], rtol=1e-5, atol=1e-5))


def write_row(layer: torch.nn.Module, old: torch.nn.Module, shares: Floats) -> None:
    """The last row of a layer's parameters as the mean of the old layer's rows by these shares. In place."""
    import torch

    places = getattr(old, "places", None)
    spread = torch.from_numpy(shares)
    if places is not None:  # rows that stood for several tokens before
        spread = torch.zeros(len(old.weight), dtype=torch.float64).index_add_(0, places, spread)
    with torch.no_grad():
        for name in ("weight", "bias"):
            tensor = getattr(old, name, None)
            if tensor is not None:
                getattr(layer, name)[-1] = mean_row(tensor, spread)


def _earlier(subject: Subject, head: str, shares: Floats) -> float:
    """Of the shift of an earlier vocabulary pruning, what these logits have in them and the new row has not."""
    layer = subject.module.get_submodule(head)
    if not isinstance(layer, KeptHead):
        return 0.0
    kept = sum(float(shares[id_]) for id_ in layer.kept)
    return layer.shift * (1 - kept)


def _share(kept: Floats, others: Floats) -> Floats:
    """Probability of the others at each position."""
    import numpy as np

    return np.asarray(np.exp(others - np.logaddexp(kept, others)))
