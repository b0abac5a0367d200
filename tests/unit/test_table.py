"""The table of labels: what has one meaning is read, what has two is refused."""

import csv
import io
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_scripts.datasets.files import IMAGE_SUFFIXES, Folder
from workflow_scripts.datasets.index import RESERVED, check_classes, read_index, write_index
from workflow_scripts.datasets.table import (
    TableRow,
    choose_classes,
    find_images,
    find_masks,
    make_ids,
    read_table,
)
from workflow_scripts.errors import InputError


def read(tmp_path: Path, text: str | bytes, classes: Sequence[str] = ()) -> list[TableRow]:
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, classes)


def labels(tmp_path: Path, cell: str, classes: Sequence[str] = ()) -> tuple[str, ...]:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([["image", "labels"], ["a.jpg", cell]])
    return read(tmp_path, stream.getvalue(), classes)[0].labels


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("cat;dog", ("cat", "dog")), (" cat ; dog ;", ("cat", "dog")), ("cat|dog", ("cat", "dog")),
        ("cat\ndog", ("cat", "dog")), ("cat\r\ndog\n", ("cat", "dog")), ("cat\tdog", ("cat", "dog")),
        ("['cat', 'dog']", ("cat", "dog")), ('["cat", "traffic light"]', ("cat", "traffic light")),
        ("('cat',)", ("cat",)), ("[]", ()), ("", ()), (" ; ", ()), ("{'dog', 'cat'}", ("cat", "dog")),
        ("[1, 2]", ("1", "2")), ("traffic light", ("traffic light",)), ("cat;cat", ("cat",)),
        ("it's", ("it's",)), ("rock'n'roll", ("rock'n'roll",)), ("a-b_c.d", ("a-b_c.d",)),
    ],
)  # fmt: skip
def test_lists_of_labels(tmp_path: Path, cell: str, expected: tuple[str, ...]) -> None:
    assert labels(tmp_path, cell) == expected


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("cat,dog", "holds a comma"), ("'cat', 'dog'", "holds a comma"), ("cat, dog;bird", "comma"),
        ("[cat, dog]", "look like a list"), ("{'cat': 1}", "look like a list"), ("[['cat']]", "list"),
        ("[1.5]", "look like a list"), ("nan", "the label 'nan'"), ("None", "the label 'None'"),
        ("cat;N/A", "the label 'N/A'"), ("-", "the label '-'"), ("cat\x07", "control characters"),
        ("['cat', 'nan']", "the label 'nan'"), ("(" * 500 + ")" * 500, "look like a list"),
    ],
)  # fmt: skip
def test_labels_with_two_meanings_are_refused(tmp_path: Path, cell: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        labels(tmp_path, cell)
    assert "line 2" in str(refused.value)
    assert "'a.jpg'" in str(refused.value)


def test_configured_classes_settle_what_a_label_means(tmp_path: Path) -> None:
    for name in ("cat,dog", "None", "a|b", "[x]", "cat dog", "salt; pepper"):
        assert labels(tmp_path, name, [name]) == (name,)
    assert labels(tmp_path, "cat,dog", ["cat", "dog"]) == ("cat", "dog")
    with pytest.raises(InputError, match="comma"):
        labels(tmp_path, "cat,dog", ["cat"])


@pytest.mark.parametrize("joint", [" ", "/", "+", "&", " / "])
def test_joined_labels_are_suspicious_where_the_parts_are_labels(
    tmp_path: Path, joint: str
) -> None:
    table = f"image,labels\na.jpg,cat{joint}dog\nb.jpg,cat\n"
    assert read(tmp_path, table)[0].labels == (f"cat{joint}dog",)
    with pytest.raises(InputError, match="'cat', 'dog' are labels too"):
        read(tmp_path, table + "c.jpg,dog\n")
    assert read(tmp_path, table + "c.jpg,dog\n", [f"cat{joint}dog", "cat", "dog"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_of_other_programs(tmp_path: Path, encoding: str, delimiter: str, end: str) -> None:
    cells = [["Image", "Labels", "note"], ["é.jpg", '"cat;dog"', ""], ["b.jpg", "", "x"]]
    text = end.join(delimiter.join(row) for row in [*cells, ["", "", ""]]) + end
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    rows = read(tmp_path, mark + text.encode(encoding))
    assert rows == [TableRow(2, "é.jpg", ("cat", "dog"), None), TableRow(3, "b.jpg", (), None)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,labels,labels\na,x,y\n", "two columns are called `labels`"),
        ("image,labels,Image\na,x,y\n", "two columns are called `image`"),
        ("image;labels\na;cat;dog\n", "line 2: more fields"),
        ("image,labels\na\n", "line 2: 1 fields for 2 columns"),
        ('image,labels\n"a,x\nb,y\n', "not a readable CSV table"),
        ('image,labels\n"a"b,x\n', "not a readable CSV table"),
        ("file,label\na,x\n", "no column `image` and no column `labels`"),
        ("image labels\na x\n", "no column"), ("image,labels\na,x\0y\n", "zero bytes"),
        ("image,labels\n,,\n\n", "no rows"), ("image,labels\na,x;y\nb,z\na,x\n", "line 4: .*line 2"),
        ("image,labels\na,x\na,\n", "line 3"), ("image,labels,split\na,x,train\na,y,val\n", "split"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        read(tmp_path, table)
    assert "labels.csv" in str(refused.value)


def test_bytes_that_are_no_utf8_are_placed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 3: .*CSV\s+UTF-8"):
        read(tmp_path, "image,labels\na,x\nb,Bär\n".encode("cp1252"))


def test_one_row_a_label(tmp_path: Path) -> None:
    rows = read(tmp_path, "image,labels\na.jpg,cat\nb.jpg,dog\n./a.jpg,dog\na.jpg,cat\n")
    assert [(row.image, row.labels) for row in rows] == [
        ("a.jpg", ("cat", "dog")), ("b.jpg", ("dog",)),
    ]  # fmt: skip


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    text = 'sep=,\nimage,labels\n\na,"x\ny"\nb,z,more\n'
    with pytest.raises(InputError, match="line 6: more fields"):
        read(tmp_path, text)


def folder_of(*names: str, **left_out: list[str]) -> Folder:
    return Folder(Path("/data/images"), {name: Path("/x", name) for name in names}, left_out)


def rows_of(*images: str) -> list[TableRow]:
    return [TableRow(line, image, ("x",), None) for line, image in enumerate(images, start=2)]


def test_images_as_people_write_their_paths() -> None:
    folder = folder_of("a.jpg", "sub/b.jpg", "c d.jpg")
    written = ["images/a.jpg", "sub\\b.jpg", "./c d.jpg"]
    assert find_images(Path("t.csv"), rows_of(*written), folder) == [*folder.files]
    whole = ["/data/images/a.jpg", "/data/images/sub/b.jpg"]
    assert find_images(Path("t.csv"), rows_of(*whole), folder) == ["a.jpg", "sub/b.jpg"]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("A.jpg", "Is it 'a.jpg'?"), ("a", "Is it 'a.jpg'?"), ("b.jpg", "Is it 'sub/b.jpg'?"),
        ("z.heic", "lies in /data/images, but is left out: odd kind"), ("q.jpg", "no image 'q.jpg'"),
    ],
)  # fmt: skip
def test_hints_are_true(image: str, message: str) -> None:
    folder = folder_of("a.jpg", "sub/b.jpg", **{"odd kind": ["z.heic"]})
    with pytest.raises(InputError) as refused:
        find_images(Path("t.csv"), rows_of(image), folder)
    assert message in str(refused.value)


def test_masks_of_images() -> None:
    names = ["a.jpg", "b.jpg", "b.png", "sub/c.JPG"]
    masks = folder_of("a.PNG", "b.jpg.png", "sub/c.tif", "d.png")
    assert find_masks(names, masks) == [
        Path("/x/a.PNG"), Path("/x/b.jpg.png"), None, Path("/x/sub/c.tif"),
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"a\.png and a\.tif are both masks of a\.jpg"):
        find_masks(["a.jpg"], folder_of("a.png", "a.tif"))


class TestNamesOfClasses:
    """Names that would be taken for ours, or for each other."""

    @pytest.mark.parametrize(
        "name",
        ["background", "Background", "_background_", "__BACKGROUND__", "back ground", "ignore",
         "Ignored", "VOID", "255", " void ", "ｖｏｉｄ", "back\u200bground", "-ignore-"],
    )  # fmt: skip
    def test_reserved(self, name: str) -> None:
        with pytest.raises(InputError, match="cannot be a class"):
            check_classes(["cat", name], "classes.csv")

    @pytest.mark.parametrize(
        ("one", "other"),
        [("Cat", "cat"), ("traffic light", "trafficlight"), ("straße", "STRASSE"), ("é", "e\u0301"),
         ("a\u00a0b", "a b"), ("Ⅷ", "VIII"), ("x\u200d", "x")],
    )  # fmt: skip
    def test_alike(self, one: str, other: str) -> None:
        with pytest.raises(InputError, match="differ in case, blanks or the form"):
            check_classes([one, "z", other], "classes.csv")

    @pytest.mark.parametrize("name", ["backgrounds", "voids", "25", "ignorance", "0", "bg"])
    def test_others_are_free(self, name: str) -> None:
        check_classes([name, "dog"], "classes.csv")

    def test_the_line_is_named(self, tmp_path: Path) -> None:
        rows = [TableRow(7, "a", ("dog",), None), TableRow(9, "b", ("Dog",), None)]
        with pytest.raises(InputError, match=r"t\.csv, line 9: .*'dog' and 'Dog'"):
            choose_classes(tmp_path / "t.csv", rows, ())

    def test_numbers_are_sorted_as_such(self, tmp_path: Path) -> None:
        rows = [TableRow(2, "a", ("10", "2", "1"), None)]
        assert choose_classes(tmp_path / "t.csv", rows, ()) == ("1", "2", "10")
        rows = [TableRow(2, "a", ("10", "2", "x"), None)]
        assert choose_classes(tmp_path / "t.csv", rows, ()) == ("10", "2", "x")


WORDS = st.text(
    st.characters(categories=["L", "N"], max_codepoint=0x2FFF), min_size=1, max_size=6
).map(lambda text: unicodedata.normalize("NFC", text))
LABELS = WORDS.filter(
    lambda word: word.lower() not in ("nan", "na", "none", "null", "nil", "nat", "unknown")
)
IMAGES = WORDS.map(lambda word: f"{word}.jpg")
CELLS = {
    "semicolons": ";".join, "bars": "|".join, "lines": "\n".join, "json": json.dumps, "python": repr,
    "blanks": lambda names: " ; ".join(names) + ";",
}  # fmt: skip


@settings(max_examples=2000, deadline=None)
@given(
    rows=st.lists(
        st.tuples(IMAGES, st.lists(LABELS, unique=True, max_size=4)),
        min_size=1, max_size=5, unique_by=lambda row: row[0],
    ),
    way=st.sampled_from(sorted(CELLS)),
    delimiter=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n"]),
    split=st.booleans(),
)  # fmt: skip
def test_whatever_writes_a_table_its_meaning_stays(
    rows: list[tuple[str, list[str]]],
    way: str,
    delimiter: str,
    encoding: str,
    end: str,
    split: bool,
) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=end)
    writer.writerow(["image", "labels", *(["split"] if split else [])])
    for image, names in rows:
        writer.writerow([image, CELLS[way](names), *(["val"] if split else [])])
    with TemporaryDirectory() as folder:
        found = read(Path(folder), stream.getvalue().encode(encoding))
    assert [(row.image, row.labels) for row in found] == [
        (image, tuple(names)) for image, names in rows
    ]
    assert {row.split for row in found} == {"val" if split else None}


NOISE = st.one_of(
    st.binary(max_size=60),
    st.text(st.sampled_from("ab,;|\t\n\r\" [](){}'/\\.\0é猫=-"), max_size=60).map(str.encode),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace")),
)


@settings(max_examples=2000, deadline=None)
@given(head=st.sampled_from([b"image,labels\n", b"image;labels;split\n", b""]), noise=NOISE)
def test_any_table_is_read_or_refused(head: bytes, noise: bytes) -> None:
    """What is read says the same when it is written plainly, into a table and into an index."""
    with TemporaryDirectory() as folder:
        try:
            rows = read(Path(folder), head + noise)
            classes = choose_classes(Path("t.csv"), rows, ())
        except InputError as error:
            assert "labels.csv" in str(error) or "t.csv" in str(error)
            return
        plain = [["image", "labels"], *([row.image, ";".join(row.labels)] for row in rows)]
        stream = io.StringIO(newline="")
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows(plain)
        again = read(Path(folder), stream.getvalue(), classes)
        assert [(r.image, r.labels) for r in again] == [(r.image, r.labels) for r in rows]
        check_classes(classes, "here")
        assert not {name.casefold() for name in classes} & RESERVED


@settings(max_examples=300, deadline=None)
@given(st.lists(LABELS, unique_by=lambda word: word.casefold(), min_size=1, max_size=5))
def test_names_of_classes_come_back_from_an_index(names: list[str]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "index.csv")
        try:
            write_index(path, names, [])
        except InputError:
            return
        assert read_index(path).classes == tuple(names)


def test_ids_of_images_are_unique_and_do_not_depend_on_the_order() -> None:
    names = ["a/b.jpg", "a_b.jpg", "a/b.png", "c.jpg"]
    ids = dict(zip(names, make_ids(names), strict=True))
    assert len(set(ids.values())) == 4
    assert dict(zip(names[::-1], make_ids(names[::-1]), strict=True)) == ids
    assert ids["c.jpg"] == "c"


def test_suffixes_that_are_read(tmp_path: Path) -> None:
    assert {".jpg", ".jfif", ".png", ".tif"} <= IMAGE_SUFFIXES
