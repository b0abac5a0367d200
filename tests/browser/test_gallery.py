from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Browser
from tests.report_run import CLASSES, build_run
from workflow_scripts import make_gallery

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = build_run(tmp_path_factory.mktemp("run"))
    flags = [*run.flags("run", "index", "methods", "shards"), "--source", "t0.50"]
    page = run.path / "gallery.html"
    assert make_gallery.main([*flags, "--output", str(page), "--gallery-page", "3"]) == 0
    return run.path


@pytest.fixture
def page(browser: Browser, serve: Any, folder: Path) -> str:
    address = f"{serve(folder)}/gallery.html"
    browser.open(address)
    return address


def shown(browser: Browser) -> list[str]:
    return browser.run(
        "return [...document.querySelectorAll('article h2')].map(h => h.firstChild.textContent)"
    )


def choose(browser: Browser, name: str, value: str) -> None:
    browser.run(
        "const select = document.getElementById(arguments[0]); select.value = arguments[1];"
        "select.dispatchEvent(new Event('change'))",
        name,
        value,
    )


def test_loads_without_complaints_or_requests(browser: Browser, page: str) -> None:
    assert browser.complaints() == []
    assert browser.requests() == [page]
    assert browser.run("return [...document.images].every(i => i.naturalWidth > 0 && i.alt)")


def test_pages_hold_every_image_once(browser: Browser, page: str) -> None:
    seen = shown(browser)
    while not browser.run("return document.getElementById('next').disabled"):
        browser.run("document.getElementById('next').click()")
        seen += shown(browser)
    assert sorted(seen) == [f"{split}{n}" for split in ("train", "val") for n in range(4)]


def test_order_split_and_class(browser: Browser, page: str) -> None:
    choose(browser, "split", "val")
    choose(browser, "order", "by name")
    assert shown(browser) == ["val0", "val1", "val2"]
    choose(browser, "class", CLASSES[1])
    assert shown(browser) == ["val1", "val2"]
    choose(browser, "class", "")
    gains = []
    for order in ("largest gain first", "smallest gain first"):
        choose(browser, "order", order)
        gains.append(shown(browser))
    assert gains[0][0] == browser.run(
        "return data.images.filter(i => i.split === 'val').sort((a, b) => b.gain - a.gain)[0].id"
    )
    assert gains[0] != gains[1]


def test_pictures_of_a_kind_stand_below_one_another(browser: Browser, page: str) -> None:
    lefts = browser.run(
        "return [...document.querySelectorAll('[data-kind=prediction]')]"
        ".map(f => f.getBoundingClientRect().left)"
    )
    assert lefts
    assert len(set(lefts)) == 1


def test_arrow_keys_turn_pages(browser: Browser, page: str) -> None:
    from selenium.webdriver.common.keys import Keys

    first = shown(browser)
    browser.press(Keys.ARROW_RIGHT)
    assert shown(browser) != first
    browser.press(Keys.ARROW_LEFT)
    assert shown(browser) == first


@pytest.mark.parametrize("width", [390, 1280])
def test_fits_the_width(browser: Browser, page: str, width: int) -> None:
    with browser.of_width(width):
        browser.open(page)
        assert browser.run("return document.documentElement.scrollWidth") <= width
