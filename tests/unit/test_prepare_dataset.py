import shlex
from pathlib import Path

import pytest

from tests.loopback import Loopback
from tests.miniatures import build_coco, build_folder, build_voc
from workflow_scripts.datasets.index import read_index
from workflow_scripts.datasets.voc12 import Voc12DatasetSettings
from workflow_scripts.prepare_dataset import main
from workflow_scripts.settings.base import render_flags, validate

# pycocotools' arrays are of NumPy 1's protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_demo(tmp_path: Path):
    flags = ["--train-images", "3", "--val-images", "2", "--image-size", "64"]
    assert main(["demo", "--output", str(tmp_path / "out"), *flags]) == 0
    assert len(read_index(tmp_path / "out" / "index.csv").records) == 5


def test_voc12_from_rendered_flags(tmp_path: Path):
    voc = build_voc(tmp_path / "made")
    with Loopback(voc.files()) as server:
        values = voc.settings(server, tmp_path / "data")
        settings = validate(Voc12DatasetSettings, values, "test")
        flags = shlex.split(render_flags(settings, exclude=frozenset({"kind"})))
        assert main(["voc12", "--output", str(tmp_path / "out"), *flags]) == 0
    assert len(read_index(tmp_path / "out" / "index.csv").records) == 12


def test_coco14(tmp_path: Path):
    root = build_coco(tmp_path / "made").root
    assert main(["coco14", "--output", str(tmp_path / "out"), "--root", str(root)]) == 0
    assert len(read_index(tmp_path / "out" / "index.csv").records) == 12


def test_folder(tmp_path: Path):
    made = build_folder(tmp_path / "mine")
    arguments = ["--root", str(made.root), "--classes", *made.classes]
    assert main(["folder", "--output", str(tmp_path / "out"), *arguments]) == 0
    assert len(read_index(tmp_path / "out" / "index.csv").records) == 30


def test_mistakes_end_without_a_traceback(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["folder", "--output", str(tmp_path), "--root", str(tmp_path / "none")]) == 2
    assert main(["voc21", "--output", str(tmp_path)]) == 2
    err = capfd.readouterr().err
    assert "no such folder" in err
    assert "'voc21' is no kind of dataset" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_names_the_kinds(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == 0
    assert "{demo,voc12,coco14,folder}" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["demo", "voc12", "coco14", "folder"])
def test_help_of_a_kind(kind: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main([kind, "--help"])
    assert caught.value.code == 0
    assert "--output PATH" in capsys.readouterr().out
