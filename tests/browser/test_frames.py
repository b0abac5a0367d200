import base64
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Browser
from workflow_scripts.render_report import framed

pytestmark = pytest.mark.browser


def test_a_long_page_opens_in_a_frame(browser: Browser, serve: Any, tmp_path: Path) -> None:
    """As a data address it does not: Chromium shows nothing beyond 2 MB."""
    page = f"<!DOCTYPE html><meta charset='utf-8'/><p>±</p><!-- {'x' * 3_000_000} -->"
    address = (
        "data:text/html;charset=utf8;filename=a.html;base64,"
        + base64.b64encode(page.encode()).decode()
    )
    text = f"<html><body><script>var results = {{a: {{data_uri: '{address}'}}}};</script></body></html>"
    (tmp_path / "report.html").write_text(framed(text))
    browser.open(f"{serve(tmp_path)}/report.html")
    browser.run(
        "const frame = document.createElement('iframe'); frame.src = results.a.data_uri;"
        "document.body.append(frame)"
    )
    inside = "document.querySelector('iframe').contentDocument?.querySelector('p')?.textContent"
    browser.wait(f"{inside} === '±'")
