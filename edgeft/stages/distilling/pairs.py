"""What of a student is compared with what of its teacher: pairs of hidden states, and projections between widths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

from edgeft.errors import StepError

if TYPE_CHECKING:
    import torch

RIDGE = 1e-3
"""Share of the mean squared activation that is added to the diagonal of the least-squares fit, so that it has one
answer when there are fewer positions than features."""


@dataclass(frozen=True)
class Pair:
    """Hidden state `student` (0: the embeddings) learns from the teacher's `teacher`. projected: the widths differ."""

    student: int
    teacher: int
    projected: bool


def uniform_map(student: int, teacher: int) -> tuple[int, ...]:
    """For each of the student's hidden states, the teacher's at the same relative depth, first to first, last to last.

    uniform_map(4, 7) is (0, 2, 4, 6): a student of 3 layers under a teacher of 6. TinyBERT's uniform strategy.
    """
    if student == 1:
        return (teacher - 1,)
    span = student - 1
    return tuple((2 * index * (teacher - 1) + span) // (2 * span) for index in range(student))


def layer_pairs(
    student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor], stated: Sequence[int] | None, where: str
) -> tuple[Pair, ...]:
    """Pairs of hidden states, from the recipe's layer_map or evenly spaced. Raises StepError where they do not line up.

    student, teacher: hidden states of the same rows, (n, positions, width) or (n, channels, ...).
    """
    chosen = tuple(stated) if stated is not None else uniform_map(len(student), len(teacher))
    if len(chosen) != len(student) or any(not 0 <= at < len(teacher) for at in chosen):
        raise StepError(
            f"layer_map has {len(chosen)} entries up to {max(chosen)}: the student has {len(student)} hidden states, "
            f"the teacher {len(teacher)}",
            where=where,
            hint=f"the default here is layer_map: {list(uniform_map(len(student), len(teacher)))}",
        )
    pairs = []
    for index, at in enumerate(chosen):
        ours, theirs = positions(student[index]), positions(teacher[at])
        if ours.shape[:2] != theirs.shape[:2]:
            raise StepError(
                f"hidden state {index} of the student has {ours.shape[1]} positions, the teacher's {at} has "
                f"{theirs.shape[1]}: they cannot be compared one by one",
                where=where,
                hint="set hidden_weight: 0, or give a layer_map of states of the same resolution",
            )
        pairs.append(Pair(index, at, ours.shape[2] != theirs.shape[2]))
    return tuple(pairs)


def positions(hidden: torch.Tensor) -> torch.Tensor:
    """(n, positions, width) of a sequence, which is so already, a feature map (n, channels, h, w) or (n, width)."""
    if hidden.ndim == 2:
        return hidden.unsqueeze(1)
    return hidden.flatten(2).transpose(1, 2) if hidden.ndim > 3 else hidden


def fit_projections(
    pairs: Sequence[Pair], student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor]
) -> torch.nn.ModuleDict:
    """A trainable linear map for each pair of unequal widths, from student to teacher (TinyBERT's W_h).

    Each starts as the ridge regression of the teacher's states on the student's over the given rows: a random start
    would have to be unlearnt at the model's own small learning rate.
    """
    import torch

    made = torch.nn.ModuleDict()
    for pair in pairs:
        if pair.projected:
            ours, theirs = positions(student[pair.student]), positions(teacher[pair.teacher])
            # `skip_init`: nothing is drawn from the generator that dropout and shuffling use.
            linear = torch.nn.utils.skip_init(torch.nn.Linear, ours.shape[2], theirs.shape[2], bias=False)
            linear.weight.data = _least_squares(ours, theirs)
            made[str(pair.student)] = linear
    return made


def _least_squares(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """(teacher width, student width) weights; computed in float64 on the CPU, where every device has it."""
    import torch

    x, y = (states.detach().flatten(0, 1).double().cpu() for states in (ours, theirs))
    gram = x.T @ x
    gram += RIDGE * gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram, x.T @ y).T.float().contiguous().to(ours.device)


def choose_heads(student: int, teacher: int, wanted: int, *, stated: bool, where: str) -> int:
    """Heads for relations between projections of these widths: `wanted`, or the most below it that divide both.

    Raises StepError where the recipe stated a number that does not divide both.
    """
    common = gcd(student, teacher)
    if stated and common % wanted:
        raise StepError(
            f"relation_heads: {wanted} does not divide the widths of the projections, {student} and {teacher}",
            where=where,
            hint=f"divisors of {common} do",
        )
    return max(heads for heads in range(1, min(wanted, common) + 1) if common % heads == 0)
