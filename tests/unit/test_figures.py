import json
import shutil
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import font_manager, rcParams

from tests.report_run import CLASSES, SHARDS, TRIALS, FinishedRun, build_run
from workflow_scripts import compare, make_gallery, make_pages, plot_figures
from workflow_scripts.datasets.consistency import Described, write_dataset
from workflow_scripts.datasets.index import IndexRow
from workflow_scripts.doors.method import METHODS
from workflow_scripts.evaluation.run_results import RunFolder
from workflow_scripts.evaluation.threshold_sweep import ThresholdSweep, even_thresholds
from workflow_scripts.methods.cam import Cam
from workflow_scripts.report.catalogue import (
    EXPLORER,
    EXPLORER_ASSETS,
    FIGURES,
    GALLERY,
    GALLERY_ASSETS,
    PAGES,
    planned_figures,
)
from workflow_scripts.report.claim import Verdict, answer_of, verdict
from workflow_scripts.report.comparison import (
    figure_columns,
    figure_groups,
    read_run,
    text_table,
)
from workflow_scripts.report.figure_style import canvas, fonts_for, label_of
from workflow_scripts.report.names import (
    colours_of,
    compared_pair,
    figure_name,
    method_name,
    refinement_of,
)
from workflow_scripts.report.run_data import Curve, RunData
from workflow_scripts.report.threshold_figures import (
    _bins,
    best_thresholds,
    network_points,
    sweep_curves,
)
from workflow_scripts.storage.chosen_thresholds import ChosenThresholds


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return build_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def maskless(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return build_run(tmp_path_factory.mktemp("maskless"), with_masks=False)


def draw(run: FinishedRun, output: Path, *extra: str) -> int:
    names = ("run", "summary", "curves", "trials", "methods", "sources", "shards", "benchmarks")
    return plot_figures.main([*run.flags(*names, "histories"), "--output", str(output), *extra])


def pages(run: FinishedRun, folder: Path, *figures: Path) -> dict[str, str]:
    flags = [*run.flags("summary", "differences", "index", "trials"), "--seeds", "3", "4"]
    flags += ["--configuration", str(run.path / "config.yaml")]
    if figures:
        flags += ["--figures", *map(str, figures)]
    for item in PAGES:
        flags += [f"--{Path(item.file).stem.replace('_', '-')}", str(folder / item.file)]
    assert make_pages.main(flags) == 0
    return {item.file: (folder / item.file).read_text() for item in PAGES}


class Outline(HTMLParser):
    """Checks that elements are closed in order, and keeps text and addresses."""

    VOID = frozenset(("meta", "link", "input", "img", "br"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.addresses += [v or "" for k, v in attributes if k in ("src", "href")]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for k, v in attributes if k in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_every_item_has_a_caption_of_one_to_four_lines() -> None:
    for item in (*FIGURES, *PAGES, GALLERY, EXPLORER):
        lines = item.caption.read_text().strip().splitlines()
        assert 1 <= len(lines) <= 4, item.file
    assert all(path.is_file() for path in (*GALLERY_ASSETS, *EXPLORER_ASSETS))


def test_planned_figures_depend_on_masks_methods_and_thresholds() -> None:
    everything = planned_figures(True, ["cam", "amn"], [0.3, 0.5])
    assert everything == [item.file for item in FIGURES]
    assert set(everything) == set(plot_figures.DRAW)
    one = planned_figures(True, ["cam", "amn"], [0.5])
    assert set(everything) - set(one) == {"segmentation_by_threshold.svg"}
    assert planned_figures(False, ["cam"], [0.5]) == [
        "seed_composition.svg", "training_curves.svg", "wall_time.svg",
    ]  # fmt: skip
    assert "sweep_curves.svg" not in planned_figures(True, ["full"], [0.5])


def test_planned_figures_are_written_and_parse(run: FinishedRun, tmp_path: Path) -> None:
    assert draw(run, tmp_path) == 0
    planned = planned_figures(True, run.methods, [0.5, 0.3])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(planned)
    for path in tmp_path.iterdir():
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_without_masks_the_rest_is_written(maskless: FinishedRun, tmp_path: Path) -> None:
    assert draw(maskless, tmp_path) == 0
    planned = planned_figures(False, maskless.methods, [0.5, 0.3])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(planned)


def test_the_same_run_gives_the_same_bytes(run: FinishedRun, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert draw(run, tmp_path / name, "--figures", "plateau.svg") == 0
    first, second = (tmp_path / name / "plateau.svg" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_figure_without_data_or_name_is_an_error(
    maskless: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw(maskless, tmp_path, "--figures", "sweep_curves.svg") == 2
    assert draw(maskless, tmp_path, "--figures", "sweep.svg") == 2
    assert "unknown" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.svg"))


def test_pages_are_whole_and_load_nothing(run: FinishedRun, tmp_path: Path) -> None:
    texts = {name: Outline(text) for name, text in pages(run, tmp_path).items()}
    for page in texts.values():
        assert all(address.startswith("data:") for address in page.addresses)
    assert "fully supervised reference" in texts["front_page.html"].text
    assert " ± " in texts["front_page.html"].text
    assert CLASSES[1] in texts["summary_table.html"].text
    provenance = texts["provenance.html"].text
    assert "imported from" not in provenance
    assert "thresholds: [0.5, 0.3]" in provenance
    assert "seed of trial 1 4" in provenance


def test_provenance_names_imported_networks(run: FinishedRun, tmp_path: Path) -> None:
    path = run.path / "config.yaml"
    kept = path.read_text()
    given = "checkpoints: {cam: my cam.pth, amn: null, boundary: {amn: irn.pth}}"
    path.write_text(f"{kept}\n{given}\n")
    try:
        text = Outline(pages(run, tmp_path)["provenance.html"]).text
    finally:
        path.write_text(kept)
    assert "Network cam imported from my cam.pth" in text
    assert "Network amn/boundary imported from irn.pth" in text
    assert "Network amn imported" not in text


def test_front_page_shows_each_plot_with_its_caption(run: FinishedRun, tmp_path: Path) -> None:
    assert draw(run, tmp_path / "figures") == 0
    figures = sorted((tmp_path / "figures").iterdir())
    text = pages(run, tmp_path, *figures)["front_page.html"]
    assert text.count('<img src="data:image/svg+xml;base64,') == len(figures) == len(FIGURES)
    page = Outline(text)
    assert all(address.startswith("data:") for address in page.addresses)
    for item in FIGURES:
        assert f"{item.title}." in page.text
        assert " ".join(item.caption.read_text().split())[:60] in page.text
    order = [page.text.index(f"{item.title}.") for item in FIGURES]
    assert order == sorted(order)


def test_front_page_gives_the_interval_of_all_trials(run: FinishedRun, tmp_path: Path) -> None:
    text = Outline(pages(run, tmp_path)["front_page.html"]).text
    assert "95 % interval" in text
    assert "network on val, at 0.50 AMN − CAM" in text
    assert f"2 of {len(TRIALS)}" in text


def test_networks_are_compared_at_every_threshold(run: FinishedRun, tmp_path: Path) -> None:
    text = Outline(pages(run, tmp_path)["front_page.html"]).text
    for key in ("0.50", "0.30"):
        assert f"mIoU of the segmentation network on val, pseudo-masks at {key}, %" in text


def test_table_shows_methods_side_by_side(run: FinishedRun, tmp_path: Path) -> None:
    text = Outline(pages(run, tmp_path)["summary_table.html"]).text
    assert text.count("Pseudo-masks on train, at 0.50") == 1
    assert text.count("mIoU at the best threshold, %") == 2  # train and val
    assert "image miou" not in text
    assert " · " in text


def test_front_page_says_supported_when_it_is(run: FinishedRun, tmp_path: Path) -> None:
    text = Outline(pages(run, tmp_path)["front_page.html"]).text
    assert " supported All 6 comparisons " in text
    assert "✗" not in text


def test_front_page_says_not_supported_when_methods_are_swapped(tmp_path: Path) -> None:
    swapped = build_run(tmp_path / "run", swapped=True)
    text = Outline(pages(swapped, tmp_path)["front_page.html"]).text
    assert " not supported None of the 6 comparisons " in text
    assert ", against the claim" in text
    assert "✓" not in text


def test_front_page_without_masks_claims_nothing(maskless: FinishedRun, tmp_path: Path) -> None:
    text = Outline(pages(maskless, tmp_path)["front_page.html"]).text
    assert "cannot be tested" in text
    assert "no ground-truth masks" in text


def summary(cam: list[float], amn: list[float]) -> dict:
    def figures(values: list[float]) -> dict:
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        miou = {"mean": float(np.mean(values)), "std": spread, "values": values}
        return {
            "activations": {"val": {"best_miou": miou}},
            "segmentation": {"val": {"miou": miou}},
        }

    methods = {"cam": figures(cam), "amn": figures(amn)}
    return {"run": "r", "trials": len(cam), "classes": [], "methods": methods}


def difference(low: float, high: float) -> dict[str, str]:
    return {
        "section": "segmentation", "split": "val", "threshold": "0.50", "first": "cam",
        "second": "amn", "low": str(low), "high": str(high),
    }  # fmt: skip


def judge(cam: list[float], amn: list[float], low: float = 1, high: float = 9) -> Verdict:
    return verdict(summary(cam, amn), [difference(low, high)], "val")


def test_differences_within_the_spread_do_not_count() -> None:
    assert judge([40, 42], [50, 52]).answer == "supported"
    assert judge([40, 60], [45, 65]).answer == "not supported"
    assert judge([50, 52], [40, 42]).answer == "not supported"


def test_differences_within_chance_do_not_count() -> None:
    within = judge([40, 42], [50, 52], low=-1)
    assert within.answer == "partly supported"
    assert "within chance" in within.findings[1].relation


@pytest.mark.parametrize(
    ("held", "answer"),
    [(0, "not supported"), (2, "not supported"), (3, "partly supported"), (6, "supported")],
)
def test_less_than_half_is_no_support(held: int, answer: str) -> None:
    pattern = judge([40, 42], [50, 52]).findings[0]
    findings = [replace(pattern, holds=number < held) for number in range(6)]
    assert answer_of(findings) == answer


def test_a_single_trial_is_said_to_be_one() -> None:
    assert "single trial" in judge([40], [50]).paragraph
    assert "means of 2 trials" in judge([40, 41], [50, 51]).paragraph


def test_an_image_whose_threshold_does_not_matter_has_no_best_one() -> None:
    sweep = ThresholdSweep(1, even_thresholds(0.1))
    truth = np.zeros((8, 8), np.uint8)
    sweep.update("empty", np.zeros((0, 8, 8), np.float32), (), truth)
    truth[:, :4] = 1
    activation = np.full((1, 8, 8), 0.2, np.float32)
    activation[0, :, :4] = 0.8
    sweep.update("object", activation, (1,), truth)
    [best] = best_thresholds(sweep)
    assert 0.2 < best < 0.8


def test_histogram_bins_are_borders_of_the_sweep() -> None:
    thresholds = even_thresholds(0.01)
    edges, first = _bins(thresholds)
    assert set(edges[1:-1]) <= set(thresholds.tolist())
    counts = np.arange(len(thresholds) + 1)
    assert np.add.reduceat(counts, first).sum() == counts.sum()
    # A bin's first count is the one just above its lower edge.
    assert (first[1:] == np.searchsorted(thresholds, edges[1:-1]) + 1).all()
    assert np.diff(edges) == pytest.approx(0.04, abs=0.021)


def test_plateau_ranges_cover_the_plateau() -> None:
    thresholds = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    curve = Curve(thresholds, np.array([[10.0, 99.0, 10.0, 100.0, 100.0]]))
    assert np.array(curve.plateau_ranges) == pytest.approx(np.array([[0.15, 0.25], [0.35, 0.55]]))


def test_figures_say_what_refined_the_masks() -> None:
    assert figure_name("activations", "refined_mean_miou")[0].startswith("mIoU after CRF,")
    after_par = figure_name("activations", "refined_mean_miou", refinement="PAR")[0]
    assert after_par == "mIoU after PAR, mean over thresholds, %"
    assert refinement_of({}) == "CRF" and refinement_of({"refinement": "par"}) == "PAR"


def test_a_plug_in_has_one_name_in_reports_whether_it_is_loaded_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plugged = {
        "lse_cam": type("LseCam", (Cam,), {"name": "lse_cam"}),
        "our_net": type("OurNet", (Cam,), {"name": "our_net", "title": "OurNet"}),
    }
    monkeypatch.setattr(METHODS, "_plugged", plugged)
    assert method_name("lse_cam") == "LSE-CAM" and method_name("amn_on_lse_cam") == "AMN on LSE-CAM"
    assert method_name("our_net_deep") == "OurNet, deep"


def test_names_and_colours() -> None:
    assert method_name("full") == "fully supervised reference"
    assert method_name("amn_no_balance") == "AMN, no balance"
    assert method_name("imported") == "imported"
    assert method_name("vit_cam") == "ViT-CAM" and method_name("vit_cam_max") == "ViT-CAM, max"
    assert method_name("recam") == "ReCAM" and method_name("clip_cam") == "CLIP-CAM"
    assert method_name("amn_on_vit_cam") == "AMN on ViT-CAM"
    assert method_name("lse_cam") == "LSE-CAM" and method_name("lse_cam_sharp") == "LSE-CAM, sharp"
    assert method_name("amn_on_lse_cam") == "AMN on LSE-CAM"
    assert method_name("mine_on_cam") == "MINE on CAM" and method_name("cam") == "CAM"
    assert compared_pair(["full", "cam", "amn"]) == ("cam", "amn")
    assert compared_pair(["full", "amn"]) is None
    assert compared_pair(["cam", "variant"]) == ("cam", "variant")
    colours = colours_of(["cam", "amn", "full", "x", "y"])
    assert len(set(colours.values())) == 5
    assert colours_of(["cam", "amn"]) | {"full": colours["full"]} == colours_of(
        ["full", "cam", "amn"]
    )


def gallery(run: FinishedRun, folder: Path, *extra: str) -> dict:
    page = folder / "gallery.html"
    flags = [*run.flags("run", "index", "methods", "shards"), "--source", "t0.50"]
    assert make_gallery.main([*flags, "--output", str(page), *extra]) == 0
    text = page.read_text()
    assert "http" not in text.replace("http://www.w3.org", "")
    Outline(text[: text.index("<script type")] + "</body></html>")
    return json.loads(text.split('id="data">')[1].split("</script>")[0])


def test_gallery_holds_what_each_image_has(run: FinishedRun, tmp_path: Path) -> None:
    data = gallery(run, tmp_path)
    assert len(data["images"]) == 8
    by_id = {image["id"]: image for image in data["images"]}
    titles = {
        row["name"]: [picture["title"] for picture in row["pictures"]]
        for row in by_id["val1"]["rows"]
    }
    assert titles == {
        "": ["photo", "ground truth"],
        "CAM": ["activation", "seeds", "prediction"],
        "AMN": ["activation", "seeds", "prediction"],
        "fully supervised reference": ["prediction"],
    }
    assert by_id["train1"]["rows"][1]["pictures"][2]["title"] == "pseudo-mask"
    assert by_id["val1"]["labels"] == list(CLASSES)
    assert by_id["val1"]["gain"] == pytest.approx(
        by_id["val1"]["iou"]["AMN"] - by_id["val1"]["iou"]["CAM"], abs=0.11
    )


def test_gallery_of_few_images_and_without_masks(maskless: FinishedRun, tmp_path: Path) -> None:
    data = gallery(maskless, tmp_path, "--gallery-images", "4")
    assert [image["id"] for image in data["images"]] == ["val0", "val3", "train0", "train3"]
    assert all(image["gain"] is None for image in data["images"])


def test_gallery_has_the_images_to_look_at_first(
    maskless: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the shown set that is predicted to be best: other trials and sources come first in the table."""
    table = tmp_path / "images.csv"
    rows = ["1/amn/t0.50,train0,1,9,", "0/amn/t0.30,train0,1,9,", "0/amn/t0.50,train3,2,0.1,0.4"]
    rows += ["0/amn/t0.50,train2,1,0.5,0.25", "0/cam/t0.50,train1,1,3,"]
    table.write_text("set,image,look,gain,difference\n" + "\n".join(rows) + "\n")
    flags = ["--gallery-images", "6", "--judged", str(table)]
    data = gallery(maskless, tmp_path, *flags)
    # A third of the places of each split, and evenly spaced over the others.
    assert [image["id"] for image in data["images"]] == [
        "val0", "val2", "val3", "train2", "train0", "train3",
    ]  # fmt: skip
    assert data["judged"] == "0/amn/t0.50"
    assert data["looks"] == [["train2", 1, 0.5], ["train3", 2, 0.1]]
    by_id = {image["id"]: image["look"] for image in data["images"]}
    assert by_id["train2"] == {"place": 1, "gain": 0.5, "difference": 0.25}
    assert by_id["train0"] is None
    table.write_text("image,look\ntrain0,1\n")
    page = [*maskless.flags("run", "index", "methods", "shards"), "--source", "t0.50"]
    assert make_gallery.main([*page, "--output", str(tmp_path / "p.html"), *flags]) == 2
    assert "images.csv: not the table of images that judge writes" in capsys.readouterr().err


def test_gallery_knows_images_that_judge_by_hand_called_by_their_paths(
    maskless: FinishedRun, tmp_path: Path
) -> None:
    """Sets have other names then, and the first one of the table is shown."""
    table = tmp_path / "images.csv"
    rows = [
        "mine,train1.jpg,3,0.1",
        "mine,sub/x.png,1,2",
        "mine,train2.png,2,0.5",
        "theirs,train3,1,9",
    ]
    table.write_text("set,image,look,gain\n" + "\n".join(rows) + "\n")
    data = gallery(maskless, tmp_path, "--judged", str(table))
    assert data["judged"] == "mine"
    assert data["looks"] == [["sub_x", 1, 2.0], ["train2", 2, 0.5], ["train1", 3, 0.1]]
    places = {image["id"]: image["look"]["place"] for image in data["images"] if image["look"]}
    assert places == {"train2": 2, "train1": 3}


def test_compare_prints_figures_and_differing_settings(
    run: FinishedRun, maskless: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (maskless.path / "config.yaml").write_text("run: demo\nseed: 9\nthresholds: [0.5, 0.3]\n")
    page = tmp_path / "comparison.html"
    assert compare.main([str(run.path), str(maskless.path), "--output", str(page)]) == 0
    out = capsys.readouterr().out
    assert "Segmentation network on val, masks at 0.50" in out
    assert out.count("AMN: mIoU at the best threshold, %") == 2  # train and val
    assert ["seed", "3", "9"] in [line.split() for line in out.splitlines()]
    assert not any(line.startswith("thresholds") for line in out.splitlines())
    text = page.read_text()
    assert "<svg" in text
    assert "demo (2)" in Outline(text).text
    assert text.index("Segmentation network on val") < text.index("Configuration")


def test_compare_names_a_folder_that_is_no_run(
    run: FinishedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main([str(run.path), str(tmp_path)]) == 2
    assert "summary.json" in capsys.readouterr().err
    assert compare.main([str(run.path)]) == 2


def test_two_runs_get_a_difference(run: FinishedRun) -> None:
    one, other = (read_run(run.path, "config.yaml") for _ in range(2))
    figure = other.summary["methods"]["amn"]["activations"]["val"]["best_miou"]
    figure["mean"] += 2.5
    rows = {row[0]: row for row in figure_groups([one, other])["Activations on val"]}
    assert rows["AMN: mIoU at the best threshold, %"][-1] == "+2.5"
    assert figure_columns([one, other]) == ["Figure", "demo (1)", "demo (2)", "Difference"]
    assert figure_columns([one] * 3)[-1] == "demo (3)"


def test_text_table_is_aligned() -> None:
    assert text_table(["a", "b"], [["long", "1"]]).splitlines() == ["a     b", "-------", "long  1"]


def test_thresholds_chosen_by_rule_are_marked(run: FinishedRun, tmp_path: Path) -> None:
    for trial in TRIALS:
        for method, threshold in (("cam", 0.2), ("amn", 0.4)):
            chosen = ChosenThresholds.around(threshold + trial / 10, "otsu", 0.1, {})
            chosen.write(run.path / str(trial) / method / "auto" / "thresholds.json")
    folder = RunFolder.of(run.path, SHARDS)
    data = RunData(
        folder,
        TRIALS,
        run.methods,
        ("t0.50", "auto"),
        run.path / "summary.json",
        run.path / "curves.csv",
        None,
    )
    assert data.thresholds == (0.5,)
    assert data.chosen_thresholds("auto") == pytest.approx({"cam": 0.25, "amn": 0.45})
    assert data.chosen_thresholds("validation") == {}
    sweep_curves(data, tmp_path / "sweep_curves.svg")
    assert ElementTree.parse(tmp_path / "sweep_curves.svg").getroot().tag.endswith("svg")


def test_networks_at_chosen_thresholds_stand_where_those_lie() -> None:
    miou = {"mean": 60.0, "std": None, "values": [60.0]}
    network = {"segmentation": {"val": {"miou": miou}}}
    chosen = {"pseudo_masks": {"train": {"threshold": {"mean": 0.42, "std": None, "values": []}}}}
    points = network_points({"0.30": network, "auto": network | chosen, "validation": network})
    assert points == {"0.30": (0.3, 60.0, 0.0), "auto": (0.42, 60.0, 0.0)}


@pytest.mark.parametrize("figure", ["per_class_iou.svg", "confusion.svg"])
def test_figures_show_names_as_they_are_written(run, tmp_path, figure):
    assert draw(run, tmp_path, "--figures", figure) == 0
    # Of each label's text Matplotlib leaves a comment beside its outlines.
    assert f"<!-- {escape(label_of(CLASSES[1]))} -->" in (tmp_path / figure).read_text()
    assert len(label_of(CLASSES[1])) < len(CLASSES[1])


def test_formulas_in_a_name_are_letters(tmp_path):
    """`$x_1^2$` would be a formula, and `$x_$` an error of its syntax."""
    with canvas(tmp_path / "f.svg", 2, 2) as figure:
        figure.text(0.1, 0.5, r"$x_$ \\alpha_b")
    assert r"$x_$ \\alpha_b" in (tmp_path / "f.svg").read_text()


def test_what_no_font_shows_is_said_once(tmp_path, caplog, monkeypatch):
    private = "猫"
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    with fonts_for(["cat", private, f"{private} dog"]):
        for number in range(2):
            with canvas(tmp_path / f"{number}.svg", 2, 2) as figure:
                figure.text(0.1, 0.5, private)
    [message] = [record.getMessage() for record in caplog.records]
    assert private in message and "font" in message


def test_names_that_the_usual_font_shows_need_no_other(caplog):
    with fonts_for(["cat", "Möwe", "собака", "كلب"]):
        assert rcParams["font.family"] == ["DejaVu Sans"]
    assert not caplog.records


def test_a_further_font_helps_where_one_is_installed(caplog):
    """Of the fonts that come with Matplotlib, the serifs have a small capital turned Ou."""
    with fonts_for(["\u1d15"]):
        first, *others = rcParams["font.family"]
    assert first == "DejaVu Sans" and others == ["DejaVu Serif"]
    assert not caplog.records


def test_pages_tell_how_the_dataset_agrees(run: FinishedRun, tmp_path: Path) -> None:
    rows = [
        IndexRow("a", "a.jpg", 8, 8, "train", CLASSES, "a.png"),
        IndexRow("b", "b.jpg", 8, 8, "train", CLASSES[:1], "b.png"),
        IndexRow("c", "c.jpg", 8, 8, "val", (), ""),
    ]
    shown = (CLASSES, CLASSES[1:], None)
    images = (Described(row, names) for row, names in zip(rows, shown, strict=True))
    dataset = run.index.with_name("dataset.json")
    write_dataset(tmp_path / "made", CLASSES, images, {"archives": ["x.zip"]})
    shutil.copy(tmp_path / "made" / "dataset.json", dataset)
    texts = pages(run, tmp_path)
    dataset.unlink()
    front, provenance = (
        Outline(texts[name]).text for name in ("front_page.html", "provenance.html")
    )
    # images, without labels, masks, agree, other classes, classes missing, no class
    assert "train 2 0 2 1 1 1 0" in front and "val 1 1 0 0 0 0 0" in front
    assert "left out: 1 archives" in front
    assert "1 time(s) a mask shows a class that its image's labels do not name" in front
    assert f"1 {CLASSES[0]} 2 1 0 0" in provenance and f"2 {CLASSES[1]} 1 2 0 0" in provenance
