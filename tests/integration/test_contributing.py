"""CONTRIBUTING.md does what it says: its five recipes run the whole workflow, as plug-ins of a user's."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from tests.integration.conftest import PARTS, REPOSITORY, Checkout

PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))
PLUGINS = ["my_backbone.py", "my_dataset.py", "my_segmenter.py", "my_rule.py"]


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A checkout beside which somebody wrote the page's files, and the finished run."""
    folder = tmp_path_factory.mktemp("contributor")
    for name in (*PARTS, "docs"):
        source = REPOSITORY / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    for name, content in FILES.items():
        (folder / name).write_text(content)
    checkout = Checkout(folder, base=())
    (folder / "tiny.yaml").write_text(FILES["mine.yaml"])
    checkout.snakemake("all")
    return checkout


def test_the_page_has_a_recipe_for_each_door():
    assert [*FILES] == [*PLUGINS, "mine.yaml"]
    assert "[docs/lse_cam.py](docs/lse_cam.py)" in PAGE
    lines = len((REPOSITORY / "docs/lse_cam.py").read_text().splitlines())
    assert f"{lines} lines." in PAGE


def test_each_entry_was_used_and_the_run_is_complete(mine):
    results = mine.folder / "results/mine"
    summary = json.loads((results / "summary.json").read_text())
    assert list(summary["methods"]) == ["lse_cam", "amn"]
    assert summary["dataset"] == "shapes"
    assert (results / "report.html").is_file()
    for method in ("lse_cam", "amn"):
        chosen = json.loads((results / f"0/{method}/auto/thresholds.json").read_text())
        assert chosen["rule"] == "third"
        model = json.loads((results / f"0/{method}/auto/segmentation/model.json").read_text())
        assert model["segmenter"] == "linear" and model["kind"] == "segmentation"


def test_an_edited_plug_in_reruns_what_uses_it_and_nothing_else(mine):
    assert mine.planned() == set()
    segmenter = mine.folder / "my_segmenter.py"
    text = segmenter.read_text()
    segmenter.write_text(text.replace('"""One 1×1 convolution."""', '"""A 1×1 convolution."""'))
    assert mine.planned() == set()
    segmenter.write_text(text.replace("classes + 1, 1)", "classes + 1, 1, bias=False)"))
    planned = mine.planned()
    segmenter.write_text(text)
    assert "train_segmentation" in planned
    assert not {"prepare_dataset", "train lse_cam", "infer amn", "choose_thresholds"} & planned
    method = mine.folder / "docs/lse_cam.py"
    text = method.read_text()
    method.write_text(
        text.replace("loss(self, network", "loss(self, network").replace(".mean(dim=1)", ".sum(1)")
    )
    planned = mine.planned()
    method.write_text(text)
    assert {"train lse_cam", "infer lse_cam", "make_pseudo_masks", "train_segmentation"} <= planned
    # AMN learns from CAM's seeds here.
    assert not {"prepare_dataset", "train cam", "train amn", "infer amn"} & planned


def test_a_line_of_the_log_can_be_pasted(mine):
    """Flags of a plug-in's settings, and of the stage that is told of it."""
    done = subprocess.run(
        [sys.executable, "-m", "workflow_scripts.train", "lse_cam", "--plugins", "docs/lse_cam.py",
         "my_backbone.py", "--backbone-name", "small_vit", "--help"],
        cwd=mine.folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "--sharpness X" in done.stdout and "--backbone-width N" in done.stdout
    log = (mine.folder / "results/mine/logs/train/0-lse_cam.log").read_text()
    assert "--plugins docs/lse_cam.py my_backbone.py" in log
