"""The search for the fastest (or smallest) artefact that still passes: it only asks and is told, and runs nothing.

Of each family of cheap variants the first is scored by the task's metrics; where it fails, the others race on the
divergence of their outputs, and the best is scored too. Where a cheaper one fails, some of its layers stay in float:
the noise of layer outputs shortlists them, leaving out one at a time orders them by gain per cost, and an exponential,
then binary search (Bentley & Yao 1976) finds how many are needed; at last those that turn out not to be needed are
compressed again.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from math import inf, isfinite

from edgeft.exporter import Variant
from edgeft.targets.search.asking import Answer, Ask, Branch, Budget, Evaluation, Settings, family, identity, spaced
from edgeft.targets.search.ladder import finalists, ladder_bound
from edgeft.targets.search.mix import draw_curves, mix
from edgeft.targets.search.race import Look

__all__ = ["Answer", "Ask", "Branch", "Budget", "Search", "Settings", "bound"]


class Search:
    """Ask and tell. The same answers give the same questions; the budget is never exceeded.

    `ask` returns None when the search is over or the budget spent. `best` may be read at any time.
    """

    def __init__(self, branches: Sequence[Branch], settings: Settings) -> None:
        self.branches = {branch.exporter: branch for branch in branches}
        self.settings = settings
        self.evaluations: list[Evaluation] = []
        self.stopped = ""
        self._known: dict[tuple[str, str, str, int], Evaluation] = {}
        self._each: dict[tuple[str, str], dict[int, float]] = {}
        self._steps = self._strategy()
        self._pending: Ask | None = None
        self._begun = False

    def ask(self) -> Ask | None:
        """The next question, the same one until it is answered; None at the end."""
        if self._pending is None and not self._begun:
            self._begun = True
            self._advance(None)
        if self._pending is not None and (spent := self.spent()):
            self.stopped, self._pending = spent, None
            self._steps.close()
        return self._pending

    def tell(self, answer: Answer) -> Evaluation:
        """The answer to the last question. ValueError where there is none."""
        if self._pending is None:
            raise ValueError("there is no question to answer")
        asked, self._pending = self._pending, None
        cost, estimated = self._cost(asked, answer)
        done = Evaluation(len(self.evaluations) + 1, asked, answer, cost, estimated)
        self.evaluations.append(done)
        self._known[asked.key] = done
        if asked.purpose != "layers":
            self._each.setdefault((asked.exporter, identity(asked.variant)), {}).update(answer.each)
        self._advance(done)
        return done

    def spent(self) -> str:
        """Which part of the budget is used up; empty while there is some left."""
        budget = self.settings.budget
        if len(self.evaluations) >= budget.evaluations:
            return f"the budget of {budget.evaluations} evaluations is spent"
        seconds = sum(done.answer.seconds for done in self.evaluations)
        if budget.minutes is not None and seconds >= 60 * budget.minutes:
            return f"the budget of {budget.minutes:g} minutes is spent"
        return ""

    @property
    def left(self) -> int:
        """Evaluations that may still be asked."""
        return max(0, self.settings.budget.evaluations - len(self.evaluations))

    @property
    def best(self) -> Evaluation | None:
        """The cheapest evaluation that passes and costs less than its float artefact; ties go to the fewest layers in
        float, then to the least divergence, then to the earliest."""
        passing = [done for done in self.evaluations if done.passes and self.worth(done)]
        return min(passing, key=_preference, default=None)

    def worth(self, done: Evaluation) -> bool:
        """Costs less than the float artefact of its exporter, or neither cost is known."""
        limit = self.branches[done.ask.exporter].float_cost
        return limit is None or not isfinite(done.cost) or done.cost < limit

    def find(self, variant: Variant, exporter: str) -> Evaluation | None:
        """The scored evaluation of a variant, if there is one."""
        return self._known.get(("score", exporter, identity(variant), self.settings.cases))

    def seen(self, exporter: str, variant: Variant, cases: int) -> Look | None:
        """Divergence of each of so many cases, evenly spaced, where all of them were run for some question."""
        each = self._each.get((exporter, identity(variant)), {})
        places = spaced(self.settings.cases, cases)
        return tuple(each[place] for place in places) if places and all(place in each for place in places) else None

    def _advance(self, done: Evaluation | None) -> None:
        """Run the strategy to its next new question; what was asked before is answered from memory."""
        try:
            asked = next(self._steps) if done is None else self._steps.send(done)
            while (known := self._known.get(asked.key)) is not None:
                asked = self._steps.send(known)
            self._pending = asked
        except StopIteration:
            self._pending = None

    def _cost(self, asked: Ask, answer: Answer) -> tuple[float, bool]:
        """(cost, whether it is estimated): as told; else the measured cost of the same form with the most of these
        layers in float, plus what each further one costs."""
        if answer.cost is not None:
            return answer.cost, False
        kept = asked.variant.keep_float
        same = [done for done in self.evaluations if _alike(done.ask, asked)]
        below = [done for done in same if not done.estimated and done.ask.variant.keep_float <= kept]
        if not below:
            return inf, True
        base = max(below, key=lambda done: len(done.ask.variant.keep_float))
        costs = {name: item.cost for done in same for name, item in done.answer.noise.items()}
        costs = {name: value for name, value in costs.items() if isfinite(value)}
        extra = sum(costs.get(name, 0.0) for name in kept - base.ask.variant.keep_float)
        return base.cost + extra * self._scale(base, sum(costs.values())), True

    def _scale(self, base: Evaluation, total: float) -> float:
        """With all layers in float a mix costs what float does: times of single layers that add up to more are less."""
        limit = self.branches[base.ask.exporter].float_cost
        return min(1.0, (limit - base.cost) / total) if limit is not None and total > 0 and limit > base.cost else 1.0

    def _strategy(self) -> Generator[Ask, Evaluation, None]:
        scored: list[Evaluation] = []
        for branch in self.branches.values():
            scored += yield from finalists(self, branch)
        mixed = []
        for done in sorted((d for d in scored if not d.passes and not d.answer.refused), key=_preference):
            if self.branches[done.ask.exporter].layers and self._promising(done):
                mixed.append((yield from mix(self, self.branches[done.ask.exporter], done)))
        if self.settings.curves:
            for tried in mixed:
                if tried is not None:
                    yield from draw_curves(self, tried)

    def _promising(self, done: Evaluation) -> bool:
        """Cheaper than float and than what already passes: only then can a mix of it be worth having."""
        found = self.best
        if done.answer.slack == -inf:
            return False  # it breaks a limit on time or size, which layers in float only make worse
        return self.worth(done) and (found is None or not isfinite(done.cost) or done.cost < found.cost)


def bound(branches: Sequence[Branch], settings: Settings) -> int:
    """Most questions that a search may come to ask, as a plan states it: never more than the budget."""
    total = 0
    for branch in branches:
        sizes: dict[str, int] = {}
        for variant in branch.ladder:
            sizes[family(variant)] = sizes.get(family(variant), 0) + 1
        total += sum(ladder_bound(size) for size in sizes.values())
        if branch.layers or not branch.ladder:
            total += settings.budget.evaluations
    return min(total, settings.budget.evaluations)


def _alike(one: Ask, other: Ask) -> bool:
    """The same exporter and form of computing, whatever stays in float and however its ranges were found."""
    return one.exporter == other.exporter and family(one.variant) == family(other.variant)


def _preference(done: Evaluation) -> tuple[float, int, float, int]:
    return done.cost, len(done.ask.variant.keep_float), done.rank, done.number
