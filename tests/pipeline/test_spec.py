"""What enters a step's key."""

from __future__ import annotations

from typing import Any

from edgeft.pipeline.spec import Spec, material


def spec(*columns: str) -> Spec:
    return Spec("a", "A step", "a", 1, "record", lambda inputs, out, ctx: {}, {}, reads=("train",), columns=columns)


def dataset(site: str) -> dict[str, Any]:
    return {"labels": ["a", "b"], "splits": {"train": {"digest": "rows", "columns": {"site": site, "age": "years"}}}}


def test_a_column_counts_where_a_step_chooses_its_rows_by_it() -> None:
    """The split's own digest leaves such columns out, so that gates by subgroup train nothing again."""
    one, other = dataset("north and south"), dataset("north and west")
    assert material(spec("site"), {}, one) != material(spec("site"), {}, other)
    assert material(spec("site"), {}, one) == material(spec("site"), {}, dataset("north and south"))
    assert material(spec("age"), {}, one) == material(spec("age"), {}, other)
    assert material(spec(), {}, one) == material(spec(), {}, other)
