"""What counts as a change of a dataset that is already here."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.miniatures import build_coco, build_folder, build_voc
from workflow_scripts.datasets.kinds.coco14 import Coco14DatasetSettings
from workflow_scripts.datasets.kinds.demo import DemoDatasetSettings
from workflow_scripts.datasets.kinds.folder import FolderDatasetSettings, prepare
from workflow_scripts.datasets.kinds.voc12 import Voc12DatasetSettings

OLD = 1_000_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build_folder(tmp_path / "mine", 8).root


def state(root: Path) -> dict[str, str]:
    return FolderDatasetSettings(root=str(root)).state()


def an_image(root: Path) -> Path:
    return next((root / "images").glob("*.jpg"))


def relabel(root: Path) -> None:
    """A label of the same length, with the old time of modification."""
    table = root / "labels.csv"
    before = table.stat()
    table.write_text(table.read_text().replace("class 001", "class 002", 1))
    os.utime(table, (before.st_atime, before.st_mtime))


def replace_by_an_older_one(root: Path) -> None:
    """As large as before: only its time says that it is another one."""
    image = an_image(root)
    image.write_bytes(image.read_bytes()[::-1])
    os.utime(image, (OLD, OLD))


CHANGES: dict[str, Callable[[Path], object]] = {
    "another label": relabel,
    "a replaced image": replace_by_an_older_one,
    "a new image": lambda root: shutil.copy(an_image(root), root / "images" / "new.jpg"),
    "a new image below": lambda root: shutil.copy(an_image(root), root / "images/sub folder/n.PNG"),
    "an image less": lambda root: an_image(root).unlink(),
    "another name": lambda root: an_image(root).rename(root / "images" / "other.jpg"),
    "a mask less": lambda root: next((root / "masks").glob("*.png")).unlink(),
    "no masks": lambda root: shutil.rmtree(root / "masks"),
    "no table": lambda root: (root / "labels.csv").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_shows(root: Path, change: str) -> None:
    before = state(root)
    CHANGES[change](root)
    assert state(root) != before


def test_what_no_stage_reads_does_not_show(root: Path) -> None:
    before = state(root)
    for name in ("images/Thumbs.db", "images/.hidden.jpg", "masks/notes.txt", "read me.txt"):
        (root / name).touch()
    (root / "images/.cache").mkdir()
    (root / "images/.cache/small.jpg").touch()
    (root / "labels.csv").touch()
    assert state(root) == before


def test_a_copy_that_keeps_times_is_the_same(root: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(root, tmp_path / "elsewhere")
    assert list(state(copied).values()) == list(state(root).values())
    assert state(copied) != state(root)


def test_linked_folders_and_masks_of_other_kinds_count(root: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    shutil.copy(an_image(root), tmp_path / "far/far.jpg")
    before = state(root)
    (root / "images/link").symlink_to(tmp_path / "far")
    linked = state(root)
    assert linked != before
    os.utime(tmp_path / "far/far.jpg", (OLD, OLD))
    assert state(root) != linked
    (root / "masks/new.TIF").touch()
    assert state(root) not in (before, linked)


def test_images_beside_the_table(root: Path) -> None:
    for image in (root / "images").rglob("*.*"):
        shutil.copy2(image, root / image.name)
    shutil.rmtree(root / "images")
    before = state(root)
    assert len(before) == 3
    next((root / "masks").glob("*.png")).unlink()
    changed = {place for place, value in state(root).items() if value != before[place]}
    assert changed == {str(root / "masks")}


def test_a_replaced_image_gives_another_index(root: Path, tmp_path: Path) -> None:
    """Snakemake and checkpoints of interrupted trainings look at the index alone."""
    settings = FolderDatasetSettings(root=str(root))
    prepare(settings, tmp_path / "before", 1)
    index = (tmp_path / "before/index.csv").read_bytes()
    for path in (an_image(root), next((root / "masks").glob("*.png"))):
        os.utime(path, (OLD, OLD))
        prepare(settings, tmp_path / "after", 1)
        changed = (tmp_path / "after/index.csv").read_bytes()
        assert changed != index
        index = changed


def test_lists_of_voc(tmp_path: Path) -> None:
    build_voc(tmp_path)
    root = next(tmp_path.rglob("ImageSets")).parent
    sbd = next(tmp_path.rglob("cls")).parent
    settings = Voc12DatasetSettings(root=str(root), sbd_root=str(sbd))
    before = settings.state()
    assert {Path(path).name for path in before} >= {"train.txt", "val.txt"}
    assert any(path.startswith(str(sbd)) for path in before)
    (sbd / "train.txt").write_text("")
    assert settings.state() != before


def test_annotations_of_coco(tmp_path: Path) -> None:
    build_coco(tmp_path)
    file = next(tmp_path.rglob("instances_train2014.json"))
    settings = Coco14DatasetSettings(root=str(file.parents[1]))
    before = settings.state()
    assert len(before) == 2
    os.utime(file, (OLD, OLD))
    assert settings.state() != before


def test_nothing_to_look_at(tmp_path: Path) -> None:
    absent = FolderDatasetSettings(root=str(tmp_path / "absent"))
    for settings in (DemoDatasetSettings(), Voc12DatasetSettings(), absent):
        assert settings.state() == {}
        assert settings.tables() == []
