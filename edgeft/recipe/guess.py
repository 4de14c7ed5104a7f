"""Which column is what, by name first and by content second; every guess says what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeft.errors import RecipeError
from edgeft.recipe.look import Look
from edgeft.recipe.problems import did_you_mean

TEXT_NAMES = (
    *("text", "sentence", "query", "question", "utterance", "review", "message", "content", "body"),
    *("comment", "document", "tweet", "headline", "description", "title"),
)
LABEL_NAMES = ("label", "labels", "class", "category", "target", "intent", "topic", "sentiment", "area", "tag", "y")
GROUP_NAMES = (
    *("group", "group_id", "document", "doc", "doc_id", "document_id", "user", "user_id", "author", "author_id"),
    *("patient", "patient_id", "subject", "subject_id", "session", "session_id", "speaker", "source", "module", "url"),
)
SPLIT_NAMES = ("split", "set", "subset", "partition", "fold")
MOST_CLASSES = 1000
FEWEST_GROUPS = 20


@dataclass(frozen=True)
class Guess:
    """A column and why it was taken."""

    column: str
    why: str


@dataclass(frozen=True)
class Guesses:
    """The columns a recipe needs; text is None for images."""

    text: Guess | None
    label: Guess
    group: Guess | None
    split: Guess | None


def guess_columns(look: Look, where: str, text: str | None, label: str | None, group: str | None) -> Guesses:
    """Text, label, group and split columns; those given are taken as they are. RecipeError names the columns found."""
    for name in (text, label, group):
        if name is not None and name not in look.columns:
            raise RecipeError(
                f"no column '{name}'", where=where, hint=did_you_mean(name, tuple(look.columns), "columns")
            )
    if look.source == "image-folder":
        return Guesses(None, Guess("label", "the folder an image lies in"), None, None)
    if look.source == "image-masks":
        own = _given(group, "--group") or _by_name(look, GROUP_NAMES, (None,), lambda found: _is_group(found, look))
        return Guesses(None, Guess("value", "the values of the masks"), own, None)
    texts = _given(text, "--text") or _guess_text(look, label)
    if texts is None:
        raise _unsure(look, where, "text")
    labels = _given(label, "--label") or _guess_label(look, texts.column)
    if labels is None:
        raise _unsure(look, where, "label")
    taken = (texts.column, labels.column)
    groups = _given(group, "--group") or _by_name(look, GROUP_NAMES, taken, lambda values: _is_group(values, look))
    return Guesses(texts, labels, groups, _by_name(look, SPLIT_NAMES, taken, _is_split))


def _given(name: str | None, option: str) -> Guess | None:
    return Guess(name, f"given by {option}") if name else None


def _guess_text(look: Look, label: str | None) -> Guess | None:
    named = _by_name(look, TEXT_NAMES, (label,), lambda values: _mean_words(values) >= 1.5)
    if named:
        return named
    words = {name: _mean_words(values) for name, values in look.columns.items() if name != label}
    best = max(words, key=words.__getitem__, default=None)
    if best is None or words[best] < 3 or _distinct(look.columns[best]) < len(look.columns[best]) / 2:
        return None
    return Guess(best, f"the longest values, {words[best]:.0f} words on average")


def _guess_label(look: Look, text: str) -> Guess | None:
    named = _by_name(look, LABEL_NAMES, (text,), _is_label)
    if named:
        return named
    counts = {
        name: _distinct(values)
        for name, values in look.columns.items()
        if name != text and _is_label(values) and not _is_split(values)
    }
    if len(counts) != 1:
        return None
    name, count = next(iter(counts.items()))
    return Guess(name, f"the only column with few different values, {count}")


def _by_name(
    look: Look, names: Sequence[str], taken: Sequence[str | None], fits: Callable[[list[str]], bool]
) -> Guess | None:
    lower = {column.lower(): column for column in reversed(look.columns) if column not in taken}
    for name in names:
        if name in lower and fits(look.columns[lower[name]]):
            return Guess(lower[name], "by its name")
    return None


def _unsure(look: Look, where: str, what: str) -> RecipeError:
    shown = ", ".join(
        f"{name} ({_distinct(values)} different values, {_mean_words(values):.0f} words)"
        for name, values in list(look.columns.items())[:12]
    )
    return RecipeError(
        f"which column is the {what} cannot be guessed; columns: {shown}", where=where, hint=f"name it: --{what} COLUMN"
    )


def _distinct(values: Sequence[str]) -> int:
    return len(set(values))


def _mean_words(values: Sequence[str]) -> float:
    filled = [value for value in values if value]
    return sum(len(value.split()) for value in filled) / len(filled) if filled else 0.0


def _is_label(values: list[str]) -> bool:
    return 2 <= _distinct(values) <= min(MOST_CLASSES, max(2, len(values) // 5)) and "" not in values


def _is_group(values: list[str], look: Look) -> bool:
    return FEWEST_GROUPS <= _distinct(values) < len(values) and look.rows > 0


def _is_split(values: list[str]) -> bool:
    from edgeft.data.stated import ALIASES

    return {value.lower() for value in values} <= set(ALIASES) and _distinct(values) > 1
