"""The pages of a registry's history and of a self-test in a real browser: nothing wider than a phone, nothing fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeft.report.history import render_history
from edgeft.report.selftest import render_selftest
from edgeft.ship.registry.core import Registry
from edgeft.ship.registry.view import version_rows
from edgeft.ship.selftest.items import ItemRow, SelftestRecord
from tests.report.test_browser import PHONE, browser, probe
from tests.ship.registry.kit import make_bundle

__all__ = ["browser"]


def history(folder: Path) -> str:
    """Fifteen versions with long names, on two gate sets."""
    registry = Registry(str(folder / "models"), index=folder / "index.sqlite")
    name = "a-rather-long-name-of-a-model-for-a-certain-device"
    for seed in range(1, 16):
        bundle = make_bundle(folder / str(seed), seed, accuracy=0.8 + seed / 100, gate_set="ab"[seed > 9] * 64)
        registry.add(bundle, name, f"2026.11.{seed}-rc.1+build", by="a person with a rather long name")
    state = registry.sound()
    return render_history(name, version_rows(registry, state), state.entries)


def selftest(folder: Path) -> str:
    """Every status, with a long answer."""
    rows = [
        ItemRow(group="Group", name="A question " * 6, source="a book " * 9, status=status, said="x" * 600, seconds=1)
        for status in ("PASS", "FAIL", "SKIPPED")
    ]
    host = {"processor": "a processor", "CPU flags": "avx2 " * 20}
    versions = {f"a-package-{number}": f"1.{number}.0+cpu" for number in range(60)}
    return render_selftest(
        SelftestRecord(edgeft="0", started="now", seconds=90, host=host, versions=versions, items=rows)
    )


@pytest.mark.parametrize("page", [history, selftest], ids=lambda page: page.__name__)
def test_a_page_fits_a_phone(browser: str, page: object, tmp_path: Path) -> None:
    html = page(tmp_path)  # type: ignore[operator]
    result = probe(browser, tmp_path, html, PHONE)
    assert (result["beyond"], result["clipped"], result["resources"]) == ([], [], 0)
    assert result["scroll"] <= PHONE
    assert len(result["svgs"]) == html.count("<svg")
    assert all(result["sections"])
