import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from workflow_scripts.datasets import compositing
from workflow_scripts.datasets.compositing import Materials, compose_scene
from workflow_scripts.datasets.images import read_image, read_mask
from workflow_scripts.datasets.index import read_index
from workflow_scripts.datasets.kinds import demo
from workflow_scripts.datasets.kinds.demo import DemoDatasetSettings

SMALL = DemoDatasetSettings(train_images=20, val_images=9, image_size=80)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    demo.prepare(SMALL, folder, processes=1)
    return folder


def manifest() -> list[dict[str, str]]:
    with (demo.RESOURCES / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_index_lists_every_scene_with_the_classes_that_its_mask_shows(dataset: Path) -> None:
    index = read_index(dataset / "index.csv")
    assert [len(index.of_split(split)) for split in ("train", "val")] == [20, 9]
    assert index.classes == demo.class_names()
    for record in index.records:
        image, mask = read_image(record.path), read_mask(record.mask or "")
        assert image.shape == (record.height, record.width, 3) == (80, 80, 3)
        assert mask.shape == (80, 80)
        assert set(np.unique(mask)) - {0, 255} == set(record.labels)
        for label in record.labels:
            assert (mask == label).mean() >= 0.5 * compositing.LEAST_SHARE_OF_SCENE


def test_processes_do_not_change_a_byte_and_progress_counts_all(
    dataset: Path, tmp_path: Path
) -> None:
    done: list[tuple[int, int | None]] = []
    demo.prepare(SMALL, tmp_path, 3, lambda _task, count, total, _unit: done.append((count, total)))
    assert done == [(number, 29) for number in range(1, 30)]
    files = sorted(path.relative_to(dataset) for path in dataset.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert all((dataset / name).read_bytes() == (tmp_path / name).read_bytes() for name in files)


def test_scene_depends_on_seed_split_and_number_alone() -> None:
    more = SMALL.model_copy(update={"train_images": 5000})
    image, mask, quality = demo.compose(SMALL, "train", 7)
    again, mask_again, quality_again = demo.compose(more, "train", 7)
    assert (image == again).all() and (mask == mask_again).all() and quality == quality_again
    for split, number, seed in (("train", 8, 0), ("val", 7, 0), ("train", 7, 1)):
        other = demo.compose(SMALL.model_copy(update={"seed": seed}), split, number)[0]
        assert (other != image).any()


def test_folders_hold_a_thousand_images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "FOLDER_IMAGES", 4)
    demo.prepare(SMALL.model_copy(update={"train_images": 9}), tmp_path, processes=1)
    counts = [len(list(folder.iterdir())) for folder in sorted((tmp_path / "images").iterdir())]
    assert counts == [4, 4, 1, 4, 4, 1]


def test_an_interrupted_preparation_leaves_no_index(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.prepare(SMALL, tmp_path, processes=1, progress=fail)
    assert not (tmp_path / "index.csv").exists()


def test_manifest_names_every_file_and_keeps_the_splits_apart() -> None:
    rows = manifest()
    folder = demo.RESOURCES
    listed = {row["file"] for row in rows}
    present = {
        str(path.relative_to(folder))
        for kind in ("cutouts", "backgrounds")
        for path in (folder / kind).rglob("*.*")
    }
    assert listed == present
    assert len(listed) == len(rows)
    assert all(row["author"] and row["licence"] and row["origin"] for row in rows)
    origins = {
        split: {row["origin"] for row in rows if row["split"] == split} for split in demo.SPLITS
    }
    assert not origins["train"] & origins["val"]


def test_photographs_are_as_many_and_as_small_as_promised() -> None:
    rows = manifest()
    assert 5 <= len(demo.class_names()) <= 8
    for name in demo.class_names():
        splits = [row["split"] for row in rows if row["class"] == name]
        assert len(splits) >= 20
        assert splits.count("val") >= 6
    backgrounds = [row for row in rows if row["class"] == "background"]
    assert len(backgrounds) >= 30
    for row in rows:
        with Image.open(demo.RESOURCES / row["file"]) as image:
            assert max(image.size) <= (640 if row["class"] == "background" else 200)
    total = sum(path.stat().st_size for path in demo.RESOURCES.rglob("*") if path.is_file())
    assert total <= 10_000_000


def test_every_licence_of_the_manifest_is_there_in_full() -> None:
    texts = {path.stem for path in (demo.RESOURCES / "LICENSES").iterdir()}
    for licence in {row["licence"] for row in manifest()}:
        assert licence.removesuffix("-or-later").removesuffix("-only") in texts


def discs(*colours: tuple[int, int, int]) -> Materials:
    """One white background, and per class one disc of 60 pixels."""
    axis = np.arange(60) - 29.5
    inside = (axis[:, None] ** 2 + axis[None, :] ** 2 < 29**2).astype(np.uint8) * 255
    cutouts = {}
    for label, colour in enumerate(colours, start=1):
        rgb = np.broadcast_to(np.array(colour, np.uint8), (60, 60, 3))
        cutouts[label] = [Image.fromarray(np.dstack([rgb, inside]))]
    return Materials(cutouts, [Image.new("RGB", (200, 200), (128, 128, 128))])


def test_mask_follows_the_object_that_lies_on_top() -> None:
    settings = DemoDatasetSettings(
        empty_share=0, colour_matching=0, cut_share=0, mixed_share=0, image_size=120
    )
    materials = discs((220, 20, 20), (20, 20, 220))
    seen = set()
    for seed in range(40):
        image, mask = compose_scene(materials, settings, np.random.default_rng(seed))
        red, blue = (image[..., channel].astype(int) - image[..., 1] > 80 for channel in (0, 2))
        for label, coloured in ((1, red), (2, blue)):
            assert coloured[mask == label].mean() > 0.97 if (mask == label).any() else True
            assert (mask[coloured] == 3 - label).mean() < 0.03 if coloured.any() else True
        seen.add(tuple(np.unique(mask)))
    assert (0, 1, 2, 255) in seen


def test_border_is_ignored_in_a_thin_rim() -> None:
    settings = DemoDatasetSettings(
        empty_share=0, cut_share=0, max_objects=1, min_object_size=0.5, max_object_size=0.5
    )
    mask = compose_scene(discs((220, 20, 20)), settings, np.random.default_rng(0))[1]
    assert set(np.unique(mask)) == {0, 1, 255}
    circumference = np.pi * 90
    assert 0.5 * circumference < (mask == 255).sum() < 3 * circumference
    radius = np.sqrt((mask == 1).sum() / np.pi)
    assert 42 < radius < 46


def test_empty_share_of_one_half_leaves_about_half_of_the_scenes_without_object() -> None:
    settings = DemoDatasetSettings(empty_share=0.5, image_size=64)
    materials = discs((220, 20, 20))
    empty = [
        not compose_scene(materials, settings, np.random.default_rng(seed))[1].any()
        for seed in range(200)
    ]
    assert 70 < sum(empty) < 130


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size": 32},
        {"train_images": 90_000, "val_images": 20_000},
        {"min_object_size": 0.8, "max_object_size": 0.4},
        {"objects": 3},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        DemoDatasetSettings(**wrong)
