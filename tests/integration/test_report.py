"""The report that the real workflow renders, in a real browser."""

from typing import Any

import pytest

from tests.browser.conftest import Browser, browser, serve  # noqa: F401
from tests.integration.conftest import TINY, Checkout
from workflow_scripts.report.catalogue import EXPLORER, GALLERY, PAGES, planned_items

# What Snakemake's own page says of itself, and what every browser asks a server for.
NOT_OURS = ("cdn.tailwindcss.com should not be used in production", "favicon.ico")


def test_every_figure_is_there(tiny_run: Checkout):
    run = tiny_run.folder / "results" / TINY["run"]
    for item in planned_items(True, ("cam", "amn"), ["auto"]):
        assert (run / "figures" / item.file).stat().st_size > 1000, item.file
    text = (run / "report.html").read_text(encoding="utf-8")
    for item in (*planned_items(True, ("cam", "amn"), ["auto"]), *PAGES, GALLERY, EXPLORER):
        assert item.title in text, item.title
        assert item.caption.read_text().split("\n")[0].split("`")[0][:30] in text, item.file


@pytest.mark.browser
def test_the_report_opens_without_errors(tiny_run: Checkout, browser: Browser, serve: Any):  # noqa: F811
    address = serve(tiny_run.folder / "results" / TINY["run"])
    browser.open(f"{address}/report.html")
    browser.wait("document.body.innerText.includes('Thresholds')")
    assert [c for c in browser.complaints() if not any(known in c for known in NOT_OURS)] == []


@pytest.mark.browser
def test_every_item_opens(tiny_run: Checkout, browser: Browser, serve: Any):  # noqa: F811
    address = serve(tiny_run.folder / "results" / TINY["run"])
    browser.open(f"{address}/report.html")
    browser.wait("document.body.innerText.includes('Thresholds')")
    items = browser.run("return Object.entries(results).map(([p, r]) => [p, r.mime_type])")
    assert len(items) == len(planned_items(True, ("cam", "amn"), ["t0.50"])) + len(PAGES) + 2
    shown = {
        "text/html": "frame.contentDocument?.querySelector('h1')?.textContent.length > 3",
        "image/svg+xml": "frame.naturalWidth > 300",
    }
    for path, kind in items:
        view = {"text/html": "html", "image/svg+xml": "img"}[kind]
        browser.run(
            "app.setView({content: arguments[1], contentPath: results[arguments[0]].data_uri,"
            " resultPath: arguments[0]})",
            path,
            view,
        )
        browser.wait(
            "[...document.querySelectorAll('iframe, img')].some(frame =>"
            f" frame.getAttribute('src') === results[arguments[0]].data_uri && {shown[kind]})",
            path,
        )
    assert [c for c in browser.complaints() if not any(known in c for known in NOT_OURS)] == []
