import tarfile
from pathlib import Path

import numpy as np
import pytest

from workflow_scripts.datasets.index import IndexRow, write_index
from workflow_scripts.datasets.kinds.voc12 import CLASSES
from workflow_scripts.export_voc_test import main
from workflow_scripts.storage.masks import MaskWriter, decode_mask, voc_palette

SIZE = (7, 5)


def mask(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 21, SIZE[::-1]).astype(np.uint8)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    rows = [
        IndexRow(f"2008_{i:06d}", f"{i}.jpg", *SIZE, "val" if i > 4 else "test", [], "")
        for i in range(6)
    ]
    write_index(tmp_path / "index.csv", CLASSES, rows)
    return tmp_path / "index.csv"


def shard(path: Path, numbers: list[int], **masks: np.ndarray) -> Path:
    with MaskWriter(path) as writer:
        for number in numbers:
            writer.write(f"2008_{number:06d}", masks.get(f"m{number}", mask(number)))
    return path


def export(index: Path, out: Path, *shards: Path, more: tuple[str, ...] = ()) -> int:
    return main(
        ["--index", str(index), "--predictions", *map(str, shards), "--out", str(out), *more]
    )


def test_layout_of_the_server(index: Path, tmp_path: Path):
    shards = (shard(tmp_path / "1.zip", [3, 4]), shard(tmp_path / "0.zip", [0, 1, 2]))
    assert export(index, tmp_path / "out.tar.gz", *shards) == 0
    with tarfile.open(tmp_path / "out.tar.gz", "r:gz") as tar:
        names = tar.getnames()
        assert names == [
            f"results/VOC2012/Segmentation/comp6_test_cls/2008_{i:06d}.png" for i in range(5)
        ]
        for number, name in enumerate(names):
            stream = tar.extractfile(name)
            assert stream is not None
            data = stream.read()
            np.testing.assert_array_equal(decode_mask(data), mask(number))
            assert voc_palette()[:9].tobytes() in data


def test_repeatable(index: Path, tmp_path: Path):
    path = shard(tmp_path / "0.zip", list(range(5)))
    outs = [tmp_path / "a.tar.gz", tmp_path / "b.tar.gz"]
    assert [export(index, out, path) for out in outs] == [0, 0]
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_other_competition(index: Path, tmp_path: Path):
    path = shard(tmp_path / "0.zip", list(range(5)))
    assert export(index, tmp_path / "o.tar.gz", path, more=("--competition", "comp5")) == 0
    with tarfile.open(tmp_path / "o.tar.gz") as tar:
        assert "/comp5_test_cls/" in tar.getnames()[0]


def test_refusals(index: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    out = tmp_path / "out.tar.gz"
    cases = {
        "have no prediction": [shard(tmp_path / "a.zip", [0, 1])],
        "each shard once": [shard(tmp_path / "b.zip", list(range(5)))] * 2,
        "value 255": [shard(tmp_path / "c.zip", list(range(5)), m2=np.full((5, 7), 255, np.uint8))],
        "has 5×7 pixels": [shard(tmp_path / "d.zip", list(range(5)), m1=mask(1).T.copy())],
    }
    for message, shards in cases.items():
        assert export(index, out, *shards) == 2
        assert message in capfd.readouterr().err
        assert not out.exists()
