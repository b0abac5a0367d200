"""Images, labels and masks of a folder against each other; what is left out; resizing and checking."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workflow_scripts import check_dataset, resize_dataset
from workflow_scripts.datasets.images import read_image, read_mask
from workflow_scripts.datasets.index import read_index
from workflow_scripts.datasets.kinds.folder import FolderDatasetSettings, prepare
from workflow_scripts.errors import InputError
from workflow_scripts.storage.masks import encode_mask

NAMES = "abcdef"


def build(root: Path, masks: Sequence[Sequence[int]], labels: str = "cat;dog") -> Path:
    """Images a.jpg, b.jpg … with these values in their masks."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    lines = ["image,labels"]
    for name in NAMES:
        Image.new("RGB", (8, 6), (90, 90, 90)).save(root / f"images/{name}.jpg")
        lines.append(f"{name}.jpg,{labels}")
    for name, values in zip(NAMES, masks, strict=False):
        mask = np.resize(np.array(values, np.uint8), (6, 8))
        (root / f"masks/{name}.png").write_bytes(encode_mask(mask))
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def prepared(root: Path, **values: object) -> dict:
    out = root.parent / "out"
    prepare(FolderDatasetSettings(root=str(root), **values), out, 1)  # type: ignore[arg-type]
    return json.loads((out / "dataset.json").read_text())


def test_agreement_is_counted(tmp_path: Path) -> None:
    masks = [[0, 1, 2], [1, 2, 255], [0, 1], [0, 0], [0, 1, 2, 3]]
    root = build(tmp_path / "mine", masks, "cat;dog")
    (root / "labels.csv").write_text((root / "labels.csv").read_text() + "g.jpg,fox\n")
    Image.new("RGB", (8, 6)).save(root / "images/g.jpg")
    found = prepared(root, split_seed=1)
    total = {
        key: sum(counts[key] for counts in found["splits"].values())
        for key in next(iter(found["splits"].values()))
    }
    assert total == {
        "images": 7, "without_labels": 0, "masks": 5, "agree": 2, "other_classes": 1,
        "missing_classes": 2, "no_class": 1,
    }  # fmt: skip
    assert [one["name"] for one in found["classes"]] == ["cat", "dog", "fox"]
    assert [sum(one["images"].values()) for one in found["classes"]] == [6, 6, 1]
    assert [sum(one["masks"].values()) for one in found["classes"]] == [4, 3, 1]
    assert any("'fox'" in text for text in found["warnings"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 255], "hold 0 and 255 alone, and 255 means ignored"),
        ([255], "hold 0 and 255 alone"),
        ([0], "show no class, background alone"),
        ([0, 3], "show other classes than their labels"),
    ],
)
def test_masks_that_cannot_be_meant_so_are_refused(
    tmp_path: Path, values: list[int], message: str
) -> None:
    root = build(tmp_path / "mine", [values] * 4)
    with pytest.raises(InputError, match=message):
        prepared(root, classes=("cat", "dog", "fox"))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_binary_masks_of_some_images_are_told(tmp_path: Path) -> None:
    found = prepared(build(tmp_path / "mine", [[0, 255], [0, 1, 2]]))
    assert sum(counts["no_class"] for counts in found["splits"].values()) == 1
    assert any("lacks a class" in text for text in found["warnings"])


def test_masks_of_background_images_agree(tmp_path: Path) -> None:
    root = build(tmp_path / "mine", [[0]] * 6)
    table = (root / "labels.csv").read_text().replace("a.jpg,cat;dog", "a.jpg,")
    (root / "labels.csv").write_text(table)
    with pytest.raises(InputError, match="all 5 labelled images"):
        prepared(root)


def test_numbers_as_names_must_be_those_in_masks(tmp_path: Path) -> None:
    assert prepared(build(tmp_path / "a/mine", [[0, 1, 2]], "1;2"))
    with pytest.raises(InputError, match="'2' would be class 1"):
        prepared(build(tmp_path / "b/mine", [[0, 2, 10]], "2;10"))
    root = build(tmp_path / "c/mine", [[0, 1, 2]], "2;10")
    assert [one["name"] for one in prepared(root, classes=("2", "10"))["classes"]] == ["2", "10"]


def test_all_that_cannot_be_used_is_named_at_once(tmp_path: Path) -> None:
    root = build(tmp_path / "mine", [[0, 1, 2], [0, 9]])
    (root / "images/c.jpg").write_bytes(b"no image")
    with pytest.raises(InputError) as refused:
        prepared(root)
    for text in ("2 of 6 images cannot be used", "c.jpg: not a readable", "unknown value 9"):
        assert text in str(refused.value)


def test_what_is_left_out_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = build(tmp_path / "mine", [[0, 1, 2]])
    for name in ("images/.hidden.jpg", "images/g.heic", "masks/b.jpg", "images/h.jpg"):
        (root / name).touch()
    left_out = prepared(root)["left_out"]
    assert sorted(left_out.values()) == [1, 1, 1, 1]
    assert "images without a row" in left_out
    for name in (".hidden.jpg", "g.heic", "b.jpg", "h.jpg"):
        assert name in caplog.text


def test_an_empty_folder_of_masks_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prepared(build(tmp_path / "a/mine", []))
    assert "the folder of masks is empty" in caplog.text
    root = build(tmp_path / "b/mine", [])
    (root / "masks/a.jpg").touch()
    with pytest.raises(
        InputError, match="it holds no mask that can be read; left out: 1 of a kind"
    ):
        prepared(root)


class TestCheck:
    """check_dataset."""

    def run(self, root: Path, capsys: pytest.CaptureFixture, *more: str) -> tuple[int, str, str]:
        code = check_dataset.main(["folder", "--root", str(root), *more])
        said = capsys.readouterr()
        return code, said.out, said.err

    def test_prints_the_table_and_writes_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        root = build(tmp_path / "mine", [[0, 1, 2]])
        before = sorted(tmp_path.rglob("*"))
        code, out, _ = self.run(root, capsys)
        assert code == 0
        for text in ("images", "agree", "cat", "dog", "the dataset can be used"):
            assert text in out
        assert sorted(tmp_path.rglob("*")) == before

    def test_ends_with_what_is_wrong(self, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        code, out, err = self.run(build(tmp_path / "mine", [[0, 255]] * 6), capsys)
        assert code == 2
        assert "255 means ignored" in err
        assert "can be used" not in out
        assert "Traceback" not in err


class TestResize:
    """resize_dataset."""

    def run(self, root: Path, out: Path, *more: str) -> int:
        return resize_dataset.main(["--root", str(root), "--output", str(out), *more])

    def large(self, root: Path) -> Path:
        (root / "images/sub").mkdir(parents=True)
        (root / "masks/sub").mkdir(parents=True)
        mask = np.zeros((300, 400), np.uint8)
        mask[:150], mask[150:, 200:], mask[:20, :20] = 15, 3, 255
        for name in ("a.jpg", "sub/b.PNG", "c.tif"):
            Image.fromarray(np.full((300, 400, 3), 120, np.uint8)).save(root / "images" / name)
            path = (root / "masks" / name).with_suffix(".png")
            path.write_bytes(encode_mask(mask))
        Image.fromarray(mask).save(root / "masks/c.png")
        Image.new("RGB", (40, 30)).save(root / "images/small.jpg")
        (root / "labels.csv").write_text("image,labels\na.jpg,x\nsub/b.PNG,y\n")
        return root

    def test_class_numbers_names_and_table_stay(self, tmp_path: Path) -> None:
        root, out = self.large(tmp_path / "mine"), tmp_path / "small"
        assert self.run(root, out, "--longest-side", "100", "--threads", "2") == 0
        for name in ("a.jpg", "sub/b.PNG", "c.tif"):
            assert read_image(out / "images" / name).shape == (75, 100, 3)
            mask = read_mask((out / "masks" / name).with_suffix(".png"))
            assert mask.shape == (75, 100)
            assert np.unique(mask).tolist() == [0, 3, 15, 255]
            assert (mask[:37] == 15).mean() > 0.9
        small = Path("images/small.jpg")
        assert (out / small).read_bytes() == (root / small).read_bytes()
        assert (out / "labels.csv").read_bytes() == (root / "labels.csv").read_bytes()
        assert self.run(root, out, "--longest-side", "50") == 0
        assert read_image(out / "images/a.jpg").shape == (38, 50, 3)

    def test_a_resized_dataset_can_be_prepared(self, tmp_path: Path) -> None:
        root = build(tmp_path / "mine", [[0, 1, 2, 255]] * 4)
        assert self.run(root, tmp_path / "small", "--longest-side", "16") == 0
        settings = FolderDatasetSettings(root=str(tmp_path / "small"))
        prepare(settings, tmp_path / "out", 1)
        assert len(read_index(tmp_path / "out/index.csv").records) == 6

    def test_photographs_alone_and_above_the_limit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "photos").mkdir()
        Image.new("RGB", (400, 300), (200, 10, 10)).save(tmp_path / "photos/a.jpg")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        assert self.run(tmp_path / "photos", tmp_path / "o", "--longest-side", "64") == 0
        assert read_image(tmp_path / "o/a.jpg").shape == (48, 64, 3)

    def test_what_cannot_be_resized_is_named_and_the_rest_done(
        self, tmp_path: Path, capsys: pytest.CaptureFixture
    ) -> None:
        root = self.large(tmp_path / "mine")
        (root / "images/bad.jpg").write_bytes(b"no image")
        (root / "masks/a.png").write_bytes(encode_mask(np.zeros((3, 4), np.uint8)))
        assert self.run(root, tmp_path / "o", "--longest-side", "100") == 2
        said = capsys.readouterr().err
        assert "2 of 5 photographs are left out" in said
        assert "bad.jpg" in said
        assert "the mask has 4×3 pixels" in said
        assert (tmp_path / "o/images/c.tif").exists()
        assert not (tmp_path / "o/images/a.jpg").exists()

    def test_nothing_is_overwritten(self, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        root = self.large(tmp_path / "mine")
        assert self.run(root, root) == 2
        assert "would be overwritten" in capsys.readouterr().err
        assert self.run(root, root / "images") == 2
        assert "would lie among the images" in capsys.readouterr().err
