from pathlib import Path

import pytest

from workflow_scripts.datasets.index import IndexRow, read_index, write_index
from workflow_scripts.errors import InputError

CLASSES = ("dog", "traffic light")


def row(image_id: str = "a", **changes: object) -> IndexRow:
    whole = IndexRow(image_id, f"images/{image_id}.jpg", 6, 4, "train", ["dog"], "")
    return whole._replace(**changes)


def text_index(folder: Path, *lines: str, classes: str = "name\ndog\ncat\n") -> Path:
    (folder / "classes.csv").write_text(classes)
    path = folder / "index.csv"
    path.write_text("id,path,width,height,split,labels,mask\n" + "".join(f"{x}\n" for x in lines))
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = [
        row("a", labels=["traffic light", "dog"], mask="masks/a.png"),
        row("b, c", path="/elsewhere/b.jpg", split="val", labels=[]),
    ]
    write_index(tmp_path / "index.csv", CLASSES, iter(rows))
    index = read_index(tmp_path / "index.csv")
    assert index.classes == CLASSES
    first, second = index.records
    assert first.path == tmp_path / "images/a.jpg"
    assert first.mask == tmp_path / "masks/a.png"
    assert (first.width, first.height, first.labels) == (6, 4, (1, 2))
    assert second.id == "b, c"
    assert second.path == Path("/elsewhere/b.jpg")
    assert second.mask is None
    assert second.labels == ()


def test_shards_are_contiguous_and_cover_a_split_once(tmp_path: Path) -> None:
    rows = [row(str(number), split="val" if number % 3 else "train") for number in range(20)]
    write_index(tmp_path / "index.csv", CLASSES, rows)
    index = read_index(tmp_path / "index.csv")
    parts = [index.shard("val", shard, 4) for shard in range(4)]
    assert [record for part in parts for record in part] == index.of_split("val")
    assert {len(part) for part in parts} <= {3, 4}


def test_split_without_images_is_refused_and_names_those_present(tmp_path: Path) -> None:
    write_index(tmp_path / "index.csv", CLASSES, [row()])
    with pytest.raises(InputError, match=r"split 'val' has no images \(splits present: train\)"):
        read_index(tmp_path / "index.csv").of_split("val")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row("a"), row("a")], "'a' occurs twice"),
        ([row(labels=["wolf"])], "label 'wolf', which is no class"),
        ([row(labels=["dog;traffic light"])], "label 'dog;traffic light', which is no class"),
        ([row(split="")], "'a' has no split"),
        ([row("")], "no id"),
    ],
)
def test_writing_refuses_bad_rows_and_leaves_no_index(
    tmp_path: Path, rows: list[IndexRow], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_index(tmp_path / "index.csv", CLASSES, rows)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("dog", "dog"), "'dog' is listed twice"),
        (("a;b",), "contains ';'"),
        ((" ",), "empty"),
        ((), "0 classes"),
        (tuple(str(number) for number in range(255)), "255 classes"),
    ],
)
def test_class_names_that_cannot_be_stored_are_refused(
    tmp_path: Path, classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_index(tmp_path / "index.csv", classes, [])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,a.jpg,4,4,train,wolf,"], r"line 2: image 'a' has the label 'wolf'"),
        (["a,a.jpg,4,4,train,,", "a,b.jpg,4,4,train,,"], r"line 3: image id 'a' occurs twice"),
        (["a,a.jpg,4,4,,dog,"], "line 2: image 'a' has no split"),
        (["a,,4,4,train,dog,"], "image 'a' has no path"),
        (["a,a.jpg,0,4,train,dog,"], "line 2: width is '0'"),
        (["a,a.jpg,4,4.5,train,dog,"], "line 2: height is '4.5'"),
        (["a,a.jpg,4,4,train"], "line 2: expected 7 fields"),
    ],
)
def test_reading_names_file_line_and_field(tmp_path: Path, lines: list[str], message: str) -> None:
    path = text_index(tmp_path, *lines)
    with pytest.raises(InputError, match=message) as raised:
        read_index(path)
    assert str(path) in str(raised.value)


def test_columns_may_come_in_any_order_but_must_be_all(tmp_path: Path) -> None:
    path = text_index(tmp_path)
    path.write_text("\ufeffsplit,id,path,height,width,labels,mask\ntrain,a,a.jpg,4,6,cat;dog,\n")
    assert read_index(path).records[0].labels == (1, 2)
    path.write_text("id,path,split,labels\na,a.jpg,train,dog\n")
    with pytest.raises(InputError, match="expected id, path, width, height"):
        read_index(path)


def test_missing_and_binary_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"classes\.csv: no such file"):
        read_index(tmp_path / "index.csv")
    path = text_index(tmp_path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"index\.csv: not a readable CSV"):
        read_index(path)
