"""What is wrong with a recipe, collected so that one run names every mistake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from edgeft.errors import RecipeError
from edgeft.recipe.tree import Mark, RecipePath, dotted

SHOWN_WIDTH = 100
SHOWN_MORE = 8
DID_YOU_MEAN = "did you mean"


@dataclass(frozen=True)
class Problem:
    """A mistake at a place. path: where it is in the recipe, empty for the file as a whole."""

    mark: Mark
    path: RecipePath
    what: str
    hint: str = ""

    @property
    def where(self) -> str:
        """`demo.yaml:4:17 steps[0].prune.ratio`; an override is its own place: `--set prune.ratio`."""
        if not self.mark.source.lines or not self.path:
            return str(self.mark)
        return f"{self.mark} {dotted(self.path)}"

    @property
    def brief(self) -> str:
        """One line: the place, what is wrong, and the near word where that is the hint."""
        near_word = f" ({self.hint})" if self.hint.startswith(DID_YOU_MEAN) and "\n" not in self.hint else ""
        return f"{self.where}: {self.what}{near_word}"

    def error(self, more: Sequence[Problem] = ()) -> RecipeError:
        """The error, which lists `more` briefly below its hint."""
        hint = self.hint
        if more:
            lines = [f"  {problem.brief}" for problem in more[:SHOWN_MORE]]
            if len(more) > SHOWN_MORE:
                lines.append(f"  and {len(more) - SHOWN_MORE} after these")
            hint = "\n".join([hint or "correct the line above", f"and {len(more)} more:", *lines])
        return RecipeError(self.what, where=self.where, hint=hint, excerpt=excerpt(self.mark))


class Problems:
    """Collects problems; `stop` raises the first by place with the others below it."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, mark: Mark, path: RecipePath, what: str, hint: str = "") -> None:
        """One more."""
        self.found.append(Problem(mark, path, what, hint))

    def stop(self) -> None:
        """Raise RecipeError if anything was added."""
        if not self.found:
            return
        sources = list({id(problem.mark.source): None for problem in self.found})
        ordered = sorted(self.found, key=lambda p: (sources.index(id(p.mark.source)), p.mark.line, p.mark.column))
        raise ordered[0].error(ordered[1:])


def excerpt(mark: Mark) -> str:
    """The line with a caret under the column; a long line is cut around it."""
    lines = mark.source.lines
    if not 1 <= mark.line <= len(lines):
        return ""
    # A tab would move the caret; an escape character would reach the terminal.
    text = "".join(letter if letter.isprintable() else " " for letter in lines[mark.line - 1])
    start = 0 if mark.column <= SHOWN_WIDTH - 20 else mark.column - SHOWN_WIDTH // 2
    number = str(mark.line)
    shown = text[start : start + SHOWN_WIDTH].rstrip()
    return f"  {number} | {shown}\n  {' ' * len(number)} | {' ' * (mark.column - 1 - start)}^"


def near(word: str, known: Sequence[str]) -> str | None:
    """The known word that was probably meant; upper and lower case do not matter."""
    lower = {name.lower().replace("-", "_"): name for name in known}
    found = get_close_matches(word.lower().replace("-", "_"), lower, n=1, cutoff=0.6)
    return lower[found[0]] if found else None


def did_you_mean(word: str, known: Sequence[str], what: str) -> str:
    """`did you mean 'rank'?`, or the list of what there is."""
    meant = near(word, known)
    if meant is not None and meant != word:
        return f"{DID_YOU_MEAN} '{meant}'?"
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return f"{what}: {shown or 'none'}"
