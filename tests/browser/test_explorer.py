import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser.conftest import Browser
from tests.report_run import FinishedRun, build_run
from workflow_scripts import make_explorer
from workflow_scripts.datasets.index import read_index
from workflow_scripts.evaluation.threshold_sweep import ThresholdSweep, even_thresholds
from workflow_scripts.evaluation.truth import read_truth
from workflow_scripts.storage.activations import ActivationReader
from workflow_scripts.storage.chosen_thresholds import ChosenThresholds

pytestmark = pytest.mark.browser

THRESHOLDS = even_thresholds(0.01)
POSITIONS = (0, 7, 30, 55, 99)


def explorer(run: FinishedRun) -> Path:
    page = run.path / "explorer.html"
    flags = run.flags("run", "index", "curves", "methods", "sources", "shards")
    assert make_explorer.main([*flags, "--output", str(page)]) == 0
    return page


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    run = build_run(tmp_path_factory.mktemp("run"), side=50)
    explorer(run)
    return run


@pytest.fixture
def page(browser: Browser, serve: Any, run: FinishedRun) -> str:
    address = f"{serve(run.path)}/explorer.html"
    browser.open(address)
    ready(browser)
    return address


def ready(browser: Browser, view: str = "") -> None:
    """Wait until an image is drawn, any or the one whose name is given."""
    browser.wait("document.documentElement.dataset.ready?.startsWith(arguments[0])", view)


def set_slider(browser: Browser, position: int) -> None:
    browser.run(
        "const slider = document.getElementById('threshold'); slider.value = arguments[0];"
        "slider.dispatchEvent(new Event('input'))",
        position,
    )


def shown(browser: Browser) -> tuple[str, float]:
    image, threshold = browser.run("return document.documentElement.dataset.ready").rsplit(" ", 1)
    return image, float(threshold)


def sweep_of(run: FinishedRun, method: str, image: str, truth: np.ndarray | None) -> ThresholdSweep:
    """The Python sweep of one image; without truth, of all its pixels."""
    [record] = [r for r in read_index(run.index).records if r.id == image]
    sweep = ThresholdSweep(2, THRESHOLDS)
    with ActivationReader(run.path / "0" / method / "activations" / "val-00.safetensors") as reader:
        whole = np.zeros((record.height, record.width), np.uint8)
        truth = whole if truth is None else truth
        activation = reader.read_full(image, record.height, record.width)
        sweep.update(image, activation, record.labels, truth)
    return sweep


def test_loads_without_complaints_or_requests(browser: Browser, page: str) -> None:
    assert browser.complaints() == []
    assert browser.requests() == [page]


@pytest.mark.parametrize("image", ["val0", "val1", "val2", "val3"])
def test_masks_are_those_of_the_sweep(
    browser: Browser, page: str, run: FinishedRun, image: str
) -> None:
    browser.run("location.hash = `#image=${arguments[0]}&t=0.5`", image)
    ready(browser, image)
    [record] = [r for r in read_index(run.index).records if r.id == image]
    for position in POSITIONS:
        set_slider(browser, position)
        for method in ("cam", "amn"):
            card = f"document.querySelector('[data-method={method}]').dataset"
            counts = json.loads(browser.run(f"return {card}.counts"))
            expected = sweep_of(run, method, image, None).confusions()[position].sum(axis=0)
            assert [counts.get(str(label), 0) for label in range(3)] == expected.tolist()
            iou = sweep_of(run, method, image, read_truth(record)).images().iou[0, position]
            assert float(browser.run(f"return {card}.iou")) == pytest.approx(100 * iou, abs=1e-3)


def test_a_link_wins_over_what_the_page_remembers(browser: Browser, page: str) -> None:
    browser.run(
        "location.hash = '#image=val1&t=0.605'; history.replaceState(null, '', '#image=val3&t=0.3')"
    )
    ready(browser, "val1")
    assert shown(browser) == ("val1", 0.605)


def test_curves_of_an_image_are_those_of_the_sweep(
    browser: Browser, page: str, run: FinishedRun
) -> None:
    browser.run("location.hash = '#image=val2&t=0.5'")
    ready(browser, "val2")
    [record] = [r for r in read_index(run.index).records if r.id == "val2"]
    for i, method in enumerate(("cam", "amn")):
        curve = browser.run("return state.views.methods[arguments[0]].iou", i)
        expected = sweep_of(run, method, "val2", read_truth(record)).images().iou[0]
        assert curve == pytest.approx((100 * expected).tolist(), abs=1e-3)


def test_opens_with_an_image_from_the_middle_of_the_ranking(browser: Browser, page: str) -> None:
    assert browser.run("return data.images[state.image].group") == "median"


def test_buttons_go_to_the_best_and_the_used_thresholds(browser: Browser, page: str) -> None:
    texts = browser.run(
        "return [...document.querySelectorAll('#jumps button')].map(b => b.innerText)"
    )
    assert [text.rsplit(" ", 1)[0] for text in texts] == ["CAM best", "AMN best", "used", "used"]
    for number, text in enumerate(texts):
        browser.run("document.querySelectorAll('#jumps button')[arguments[0]].click()", number)
        assert shown(browser)[1] == pytest.approx(float(text.rsplit(" ", 1)[1]), abs=0.0051)


def test_figures_follow_the_slider(browser: Browser, page: str) -> None:
    set_slider(browser, 20)
    row = browser.run("return document.querySelectorAll('#figures tr')[2].innerText").split()
    mean = browser.run("return data.methods[1].curve.mean[20]")
    assert row[:2] == ["AMN", f"{mean:.1f}"]


def test_palette_and_theme_change_colours(browser: Browser, page: str) -> None:
    swatch = "return document.querySelector('#legend .swatch').style.backgroundColor"
    background = "return getComputedStyle(document.body).backgroundColor"
    safe, paper = browser.run(swatch), browser.run(background)
    browser.run("document.getElementById('safe').click(); document.getElementById('theme').click()")
    assert browser.run(swatch) != safe
    assert browser.run(background) != paper


def test_thresholds_chosen_by_rule_are_marked(browser: Browser, serve: Any, tmp_path: Path) -> None:
    run = build_run(tmp_path)
    for method, threshold in (("cam", 0.23), ("amn", 0.41)):
        chosen = ChosenThresholds.around(threshold, "otsu", 0.1, {})
        chosen.write(run.path / "0" / method / "auto" / "thresholds.json")
    page = run.path / "explorer.html"
    flags = [*run.flags("run", "index", "curves", "methods", "shards"), "--sources", "auto"]
    assert make_explorer.main([*flags, "--output", str(page)]) == 0
    browser.open(f"{serve(run.path)}/explorer.html")
    ready(browser)
    diamonds = "return [...document.querySelectorAll('#chart path title')].map(t => t.textContent)"
    assert browser.run(diamonds) == ["CAM auto 0.23", "AMN auto 0.41"]
    rings = "return [...document.querySelectorAll('#chart .ring title')].map(t => t.textContent)"
    assert [text.split(":")[0] for text in browser.run(rings)] == ["CAM", "AMN"]


def test_keys_move_threshold_and_image(browser: Browser, page: str) -> None:
    from selenium.webdriver.common.keys import Keys

    first, threshold = shown(browser)
    browser.press(Keys.ARROW_RIGHT)
    assert shown(browser) == (first, pytest.approx(threshold + 0.01))
    browser.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert shown(browser) == (first, pytest.approx(threshold - 0.01))
    browser.press(Keys.HOME)
    assert shown(browser)[1] == 0.005
    browser.press(Keys.ARROW_DOWN)
    browser.wait("!document.documentElement.dataset.ready.startsWith(arguments[0])", first)
    browser.press(Keys.ARROW_UP)
    ready(browser, first)


def test_keys_do_the_same_with_the_slider_in_focus(browser: Browser, page: str) -> None:
    from selenium.webdriver.common.keys import Keys

    _, threshold = shown(browser)
    browser.run("document.getElementById('threshold').focus()")
    browser.press(Keys.ARROW_RIGHT)
    assert shown(browser)[1] == pytest.approx(threshold + 0.01)


def test_link_restores_the_view(browser: Browser, page: str) -> None:
    browser.open(f"{page}#image=val2&t=0.235")
    ready(browser, "val2 0.235")
    set_slider(browser, 40)
    browser.wait("location.hash === '#image=val2&t=0.405'")
    link = browser.run("return location.href")
    browser.open(link)
    ready(browser, "val2 0.405")
    assert browser.run("return document.getElementById('value').textContent") == "0.405"


def test_touch_on_the_curves_moves_the_threshold(browser: Browser, page: str) -> None:
    browser.run(
        "const svg = document.querySelector('#chart svg'), box = svg.getBoundingClientRect();"
        "svg.setPointerCapture = () => {};"
        "svg.dispatchEvent(new PointerEvent('pointerdown',"
        " {clientX: box.left + box.width * 0.9, clientY: box.top + 50, pointerType: 'touch'}))"
    )
    assert shown(browser)[1] == pytest.approx(0.9, abs=0.05)


def test_views_have_text_alternatives(browser: Browser, page: str) -> None:
    labels = browser.run(
        "return [...document.querySelectorAll('canvas')].map(c => c.getAttribute('aria-label'))"
    )
    assert len(labels) == 6
    assert all(labels)


@pytest.mark.parametrize("width", [390, 1280])
def test_fits_the_width(browser: Browser, page: str, width: int) -> None:
    with browser.of_width(width):
        browser.open(page)
        ready(browser)
        assert browser.run("return document.documentElement.scrollWidth") <= width


def test_without_masks_truth_is_left_out(browser: Browser, serve: Any, tmp_path: Path) -> None:
    run = build_run(tmp_path, with_masks=False)
    explorer(run)
    browser.open(f"{serve(run.path)}/explorer.html")
    ready(browser)
    assert browser.complaints() == []
    hidden = "return document.getElementById(arguments[0]).hidden"
    assert browser.run(hidden, "chart-section")
    assert browser.run(hidden, "outline-option")
    assert browser.run("return document.querySelector('[data-view=\"ground truth\"]')") is None
    assert browser.run("return document.querySelector('[data-method=cam]').dataset.iou") == ""
    counts = browser.run("return document.querySelector('[data-method=cam]').dataset.counts")
    assert sum(json.loads(counts).values()) == 48 * 48
