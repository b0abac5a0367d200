import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loopback import Loopback
from tests.miniatures import build_coco, build_folder, build_voc
from workflow_scripts.datasets.index import read_index
from workflow_scripts.datasets.kinds.voc12 import Voc12DatasetSettings
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
    assert "there is no dataset `voc21`; did you mean `voc12`?" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_names_the_kinds(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == 0
    assert "{coco14,demo,folder,voc12}" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["demo", "voc12", "coco14", "folder"])
def test_help_of_a_kind(kind: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main([kind, "--help"])
    assert caught.value.code == 0
    assert "--output PATH" in capsys.readouterr().out


PLUGIN = """
from typing import ClassVar, Literal

from PIL import Image
from pydantic import Field

from workflow_scripts.datasets.consistency import Described, write_dataset
from workflow_scripts.datasets.index import IndexRow
from workflow_scripts.doors.dataset import DatasetSettings


class Stripes(DatasetSettings):
    \"\"\"Striped images.\"\"\"

    name: ClassVar[str] = "stripes"

    kind: Literal["stripes"] = "stripes"
    images: int = Field(2, ge=2, description="number of images")

    def prepare(self, output, processes, progress=None):
        output.mkdir(parents=True, exist_ok=True)
        rows = []
        for number in range(self.images):
            Image.new("RGB", (8, 6)).save(output / f"{number}.png")
            split = "train" if number else "val"
            row = IndexRow(str(number), f"{number}.png", 8, 6, split, ["stripe"], "")
            rows.append(Described(row, None))
        write_dataset(output, ["stripe"], rows)
"""


def test_a_plug_in_is_a_kind_of_dataset(tmp_path: Path) -> None:
    """In a process of its own: plug-ins stay loaded."""
    (tmp_path / "stripes.py").write_text(PLUGIN)
    command = [sys.executable, "-m", "workflow_scripts.prepare_dataset", "stripes", "--images", "3"]
    command += ["--plugins", str(tmp_path / "stripes.py"), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    index = read_index(tmp_path / "out" / "index.csv")
    assert (index.classes, len(index.of_split("train"))) == (("stripe",), 2)
    assert json.loads((tmp_path / "out/dataset.json").read_text())["splits"]["val"]["images"] == 1


def test_images_labels_and_masks_are_counted(tmp_path: Path) -> None:
    made = build_folder(tmp_path / "mine")
    assert main(["folder", "--output", str(tmp_path / "out"), "--root", str(made.root)]) == 0
    found = json.loads((tmp_path / "out/dataset.json").read_text())
    index = read_index(tmp_path / "out/index.csv")
    for split, counts in found["splits"].items():
        records = index.of_split(split)
        assert counts["images"] == len(records)
        assert counts["masks"] == sum(record.mask is not None for record in records)
        assert counts["without_labels"] == sum(not record.labels for record in records)
    for number, row in enumerate(found["classes"], start=1):
        assert (row["number"], row["name"]) == (number, index.classes[number - 1])
        for split in found["splits"]:
            count = sum(number in record.labels for record in index.of_split(split))
            assert row["images"][split] == count
