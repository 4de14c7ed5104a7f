"""The report in a real browser: silent console, no request, nothing wider than a phone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from edgeft.report import render_html
from edgeft.report.profile import render_profile
from tests.report import sample, sample_profile

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-extensions"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
PHONE = 400
PROBE = """<!doctype html><html><body style="margin:0"><iframe id="page" style="border:0;width:%dpx;height:900px"></iframe>
<script>
const frame = document.getElementById('page');
frame.onload = () => {
  const page = frame.contentDocument, wide = frame.contentWindow.innerWidth;
  const scrolls = e => { for (let p = e; p; p = p.parentElement) if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(p).overflowX)) return true; return false; };
  const beyond = [...page.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > wide + 0.5 && !scrolls(e));
  const result = {wide, scroll: page.documentElement.scrollWidth, beyond: beyond.map(e => e.tagName + '.' + e.className).slice(0, 9),
    svgs: [...page.querySelectorAll('svg')].map(e => e.getBoundingClientRect()).map(r => [r.width, r.height]),
    resources: frame.contentWindow.performance.getEntriesByType('resource').length,
    sections: [...page.querySelectorAll('nav a')].map(a => !!page.querySelector(a.getAttribute('href'))),
    scrolling: [...page.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 40)),
    clipped: [...page.querySelectorAll('svg')].flatMap(s => [...s.querySelectorAll('text')].filter(t => {
      const a = t.getBoundingClientRect(), b = s.getBoundingClientRect(); return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1;
    }).map(t => t.textContent))};
  const out = document.createElement('pre'); out.id = 'result'; out.textContent = JSON.stringify(result); document.body.append(out);
};
frame.srcdoc = %s;
</script></body></html>"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        reason = "no Chromium or Chrome on this machine"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and CI must look at the report")
        pytest.skip(reason)
    return found


def visit(browser: str, page: Path, profile: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [browser, *FLAGS, f"--user-data-dir={profile}", *more, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def probe(browser: str, folder: Path, html: str, width: int) -> dict[str, Any]:
    """What a page of this width looks like from inside; its content policy is lifted, so a request would be made."""
    opened = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    assert opened != html
    outer = folder / "outer.html"
    outer.write_text(PROBE % (width, json.dumps(opened).replace("</", "<\\/")), encoding="utf-8")
    done = visit(
        browser, outer, folder / "profile", "--window-size=1300,1000", "--dump-dom", "--virtual-time-budget=4000"
    )
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stderr[-2000:]
    return dict(json.loads(unescape(found[1])))


@pytest.mark.parametrize("name", ["passed", "matrix", "error"])
def test_nothing_is_wider_than_a_phone_or_fetched(browser: str, name: str, tmp_path: Path) -> None:
    html = render_html(sample.EVERY[name]())
    result = probe(browser, tmp_path, html, PHONE)
    assert result["wide"] == PHONE
    assert result["beyond"] == []
    assert result["scroll"] <= PHONE
    assert result["resources"] == 0
    assert all(result["sections"])
    assert len(result["svgs"]) == html.count("<svg")
    assert all((width > 100 and height > 15) or (width, height) == (0, 0) for width, height in result["svgs"])  # folded
    assert result["clipped"] == []


@pytest.mark.parametrize("name", sample_profile.EVERY)
def test_a_profile_fits_a_phone(browser: str, name: str, tmp_path: Path) -> None:
    result = probe(browser, tmp_path, render_profile(sample_profile.EVERY[name]()), PHONE)
    assert (result["beyond"], result["clipped"], result["resources"]) == ([], [], 0)
    assert result["scroll"] <= PHONE


@pytest.mark.parametrize("name", ["passed", "matrix"])
def test_on_a_desk_no_table_scrolls(browser: str, name: str, tmp_path: Path) -> None:
    result = probe(browser, tmp_path, render_html(sample.EVERY[name]()), 1200)
    assert result["scroll"] <= 1200
    assert result["scrolling"] == []
    assert result["clipped"] == []


def test_the_console_stays_silent(browser: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render_html(sample.record()), encoding="utf-8")
    done = visit(browser, page, tmp_path / "profile", "--enable-logging=stderr", "--v=0", "--dump-dom")
    assert "</html>" in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
