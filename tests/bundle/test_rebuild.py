"""The same recipe and data, from two empty stores: what reproduce.json promises is what happens."""

from __future__ import annotations

import pytest

from tests.bundle.conftest import Built, build

pytestmark = pytest.mark.ml


def test_a_second_build_makes_the_same_bytes_where_it_is_promised(
    text: Built, text_recipe: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    again = build(tmp_path_factory.mktemp("again"), tmp_path_factory.mktemp("two-store"), text_recipe)
    about = text.json("reproduce.json")
    assert about == again.json("reproduce.json")
    assert {"model.onnx", "tokenizer.json", "golden/index.json", "golden/outputs/logits.npy", "cases.csv",
            "split_groups.csv", "sbom.cdx.json", "INTEGRATION.md", "recipe.resolved.yaml"} <= set(about["same"])  # fmt: skip
    other = [name for name in about["same"] if (text.bundle / name).read_bytes() != (again.bundle / name).read_bytes()]
    assert other == []
    assert all(not (text.bundle / name).exists() or why for name, why in about["differs"].items())
    report = (text.bundle / "report.html").read_text(encoding="utf-8")
    for name, why in about["differs"].items():
        assert f"<code>{name}</code> ({why})" in report, "the report says what differs, too"
    measured = [(item.bundle / "latency.json").read_bytes() for item in (text, again)]
    assert measured[0] != measured[1], "they were really built twice"
