from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Browser
from tests.report_run import CLASSES, build_run
from workflow_scripts import make_gallery
from workflow_scripts.report.judged_table import in_order, read_looks

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = build_run(tmp_path_factory.mktemp("run"))
    flags = [*run.flags("run", "index", "methods", "shards"), "--source", "t0.50"]
    page = run.path / "gallery.html"
    assert make_gallery.main([*flags, "--output", str(page), "--gallery-page", "3"]) == 0
    # As `judge` writes it: of each set the images in the order of the index.
    looks = [("train0", 3, 0.2), ("train1", 1, 1.5), ("train2", 4, 0.1), ("train3", 2, 0.7)]
    rows = [f"0/amn/t0.50,{name},{place},{gain},50,0.{place}" for name, place, gain in looks]
    rows += [f"0/cam/t0.50,{name},{5 - place},{gain},50,0.5" for name, place, gain in looks]
    table = run.path / "images.csv"
    table.write_text("set,image,look,gain,iou,difference\n" + "\n".join(rows) + "\n")
    page = run.path / "judged.html"
    assert make_gallery.main([*flags, "--output", str(page), "--judged", str(table)]) == 0
    table.write_text("set,image,look,gain\nmine,elsewhere.jpg,1,1\n")
    page = run.path / "elsewhere.html"
    assert make_gallery.main([*flags, "--output", str(page), "--judged", str(table)]) == 0
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


@pytest.fixture
def judged_page(browser: Browser, serve: Any, folder: Path) -> str:
    address = f"{serve(folder)}/judged.html"
    browser.open(address)
    return address


def saved(browser: Browser, press: str) -> str:
    """What a button saves: the text that the browser would write."""
    browser.run(
        "window.kept = null; URL.createObjectURL = blob => {"
        " blob.text().then(text => { window.kept = text; }); return 'about:blank#'; };"
        "HTMLAnchorElement.prototype.click = function () { window.saved_as = this.download; };"
        "document.getElementById(arguments[0]).click()",
        press,
    )
    browser.wait("window.kept !== null")
    assert browser.run("return window.saved_as") == "look_first.csv"
    return browser.run("return window.kept")


def test_without_judge_nothing_is_offered(browser: Browser, page: str) -> None:
    assert browser.run("return getComputedStyle(document.getElementById('save')).display") == "none"
    orders = browser.run("return [...document.querySelectorAll('#order option')].map(o => o.value)")
    assert orders == ["largest gain first", "smallest gain first", "by name"]


def test_an_order_that_names_no_image_of_the_page_is_not_offered(
    browser: Browser, serve: Any, folder: Path
) -> None:
    browser.open(f"{serve(folder)}/elsewhere.html")
    orders = browser.run("return [...document.querySelectorAll('#order option')].map(o => o.value)")
    assert orders == ["largest gain first", "smallest gain first", "by name"]
    assert "to look at first" not in browser.run(
        "return document.getElementById('rule').textContent"
    )


def test_the_order_of_judge_and_its_first_images_are_saved(
    browser: Browser, judged_page: str, tmp_path: Path
) -> None:
    choose(browser, "order", "largest expected gain of a correction first")
    assert shown(browser) == ["train1", "train3", "train0", "train2"]
    heading = browser.run("return document.querySelector('article h2').textContent")
    assert "look 1 of 4" in heading and "a correction gains +1.50 points" in heading
    browser.run(
        "const first = document.getElementById('first'); first.value = 2;"
        "first.dispatchEvent(new Event('input'))"
    )
    worth = browser.run("return document.getElementById('worth').textContent")
    assert worth.startswith("2 of 4 images of 0/amn/t0.50, 88 % of the gains")
    table = tmp_path / "look_first.csv"
    table.write_text(saved(browser, "save-first"))
    names = {name: (name,) for name in ("train0", "train1", "train2", "train3")}
    assert in_order(table, names) == ["train1", "train3"]
    assert browser.complaints() == []


def test_ticked_images_are_saved_and_stay_ticked(
    browser: Browser, judged_page: str, tmp_path: Path
) -> None:
    assert browser.run("return document.getElementById('save-ticked').disabled")
    choose(browser, "order", "where the judged sets differ most first")
    assert shown(browser) == ["train2", "train0", "train3", "train1"]
    for place in (0, 1):
        browser.run("document.querySelectorAll('article input')[arguments[0]].click()", place)
    choose(browser, "order", "by name")
    assert browser.run(
        "return [...document.querySelectorAll('article input')].map(box => box.checked)"
    ) == [True, False, True, False]
    assert browser.run("return document.getElementById('save-ticked').textContent") == (
        "Save the ticked (2)"
    )
    table = tmp_path / "look_first.csv"
    table.write_text(saved(browser, "save-ticked"))
    [(name, looks)] = read_looks(table).items()
    assert name == "0/amn/t0.50"
    assert {image: look.place for image, look in looks.items()} == {"train0": 3, "train2": 4}


@pytest.mark.parametrize("width", [390, 1280])
def test_fits_the_width(browser: Browser, judged_page: str, width: int) -> None:
    with browser.of_width(width):
        browser.open(judged_page)
        assert browser.run("return document.documentElement.scrollWidth") <= width
