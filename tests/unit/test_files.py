"""What counts in a folder, and what the results for it are called."""

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_scripts.datasets import files
from workflow_scripts.datasets.files import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    Folder,
    images_below,
    printable,
    unique_names,
    with_suffix_of,
)
from workflow_scripts.datasets.result_folder import ResultFolder
from workflow_scripts.errors import InputError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_what_counts_and_what_is_left_out_and_why(tmp_path: Path) -> None:
    counted = ["a.jpg", "B.JPG", "c.JpEg", "d.jfif", "e.TIF", "sub/f.webp", "sub/g h/ü.png"]
    touch(tmp_path, *counted)
    touch(tmp_path, ".hidden.jpg", "Thumbs.db", "._a.jpg", ".git/x.png", "__MACOSX/a.jpg")
    touch(tmp_path, "notes.txt", "phone.HEIC", "more.zip")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = Folder.scan(tmp_path, IMAGE_SUFFIXES)
    assert list(found.files) == sorted(counted)
    assert found.left_out == {
        files.HIDDEN: ["._a.jpg", ".git/", ".hidden.jpg", "Thumbs.db", "__MACOSX/"],
        files.OTHER: ["notes.txt"],
        files.UNREAD: ["phone.HEIC"],
        files.ARCHIVES: ["more.zip"],
        files.BROKEN: ["gone.jpg"],
    }
    for text in ("1 of another kind (notes.txt)", "5 hidden", "1 archives"):
        assert text in found.summary()
    assert found.reason("phone.HEIC") == files.UNREAD
    assert found.reason("a.jpg") is None


def test_photographs_of_lossy_kinds_are_no_masks(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.TIFF", "c.bmp", "d.jpg")
    found = Folder.scan(tmp_path, MASK_SUFFIXES)
    assert list(found.files) == ["a.png", "b.TIFF", "c.bmp"]
    assert found.left_out == {files.LOSSY: ["d.jpg"]}


def test_linked_folders_and_files_count_once(tmp_path: Path) -> None:
    touch(tmp_path / "here", "a.jpg")
    touch(tmp_path / "there", "b.jpg", "sub/c.jpg")
    (tmp_path / "here/linked").symlink_to(tmp_path / "there")
    (tmp_path / "here/again").symlink_to(tmp_path / "there/sub")
    (tmp_path / "there/loop").symlink_to(tmp_path / "here")
    (tmp_path / "here/file.jpg").symlink_to(tmp_path / "there/b.jpg")
    found = Folder.scan(tmp_path / "here", IMAGE_SUFFIXES)
    assert {path.resolve().name for path in found.files.values()} == {"a.jpg", "b.jpg", "c.jpg"}
    assert sorted(found.files) == sorted(set(found.files))
    assert len(found.left_out[files.LINKED_TWICE]) >= 1
    assert Folder.scan(tmp_path / "here", IMAGE_SUFFIXES).files == found.files


@pytest.mark.parametrize("way", ["absolute", "relative", "dots", "link"])
def test_results_do_not_count_however_their_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    touch(tmp_path / "photos", "a.jpg", "out/masks/a.png", "outside.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "photos/out")
    monkeypatch.chdir(tmp_path)
    out = {
        "absolute": tmp_path / "photos/out", "relative": Path("photos/out"),
        "dots": Path("photos/../photos/out"), "link": tmp_path / "link",
    }[way]  # fmt: skip
    for folder in (Path("photos"), tmp_path / "photos"):
        assert list(images_below(folder, out).files) == ["a.jpg", "outside.jpg"]


def test_names_in_two_forms_of_unicode(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD")]
    touch(tmp_path, *names)
    found = Folder.scan(tmp_path, IMAGE_SUFFIXES)
    assert list(found.files) == [names[0]]
    assert found.left_out == {files.SAME_NAME: [names[0]]}


def test_names_that_are_no_utf8_are_told(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.jpg")).touch()
    touch(tmp_path, "b.jpg")
    found = Folder.scan(tmp_path, IMAGE_SUFFIXES)
    assert list(found.files) == ["b.jpg"]
    assert found.left_out == {files.UNDECODABLE: ["caf\\udce9.jpg"]}
    found.summary().encode("utf-8")


def test_folders_without_images_and_results_among_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder of images"):
        images_below(tmp_path / "none")
    touch(tmp_path, "a.HEIC")
    with pytest.raises(
        InputError, match=r"holds no image; left out: 1 photographs of a kind that is not read"
    ):
        images_below(tmp_path)
    touch(tmp_path, "a.jpg")
    with pytest.raises(InputError, match="the results would lie among the images"):
        images_below(tmp_path, tmp_path / "." / "")


def test_suffixes_of_published_datasets(tmp_path: Path) -> None:
    touch(tmp_path, "a.JPG", "b.png")
    assert with_suffix_of(tmp_path / "a", (".jpg", ".png")).name == "a.JPG"
    assert with_suffix_of(tmp_path / "b", (".jpg", ".png")).name == "b.png"
    assert with_suffix_of(tmp_path / "c", (".jpg", ".png")).name == "c.jpg"


PARTS = st.text(st.sampled_from("aAbB._-é猫ß "), min_size=1, max_size=6).filter(
    lambda part: part.strip(". ") == part
)
NAMES = st.builds(
    lambda parts, suffix: "/".join(parts) + suffix,
    st.lists(PARTS, min_size=1, max_size=3),
    st.sampled_from([".jpg", ".png", ".JPG", ".jpg.png"]),
)


@settings(max_examples=2000, deadline=None)
@given(st.lists(NAMES, unique=True, max_size=12), st.sampled_from("/_"), st.randoms())
def test_results_never_share_a_name(names: list[str], separator: str, random: object) -> None:
    made = unique_names(names, separator)
    assert len({name.casefold() for name in made}) == len(names)
    by_name = dict(zip(names, made, strict=True))
    random.shuffle(names)  # type: ignore[attr-defined]
    assert dict(zip(names, unique_names(names, separator), strict=True)) == by_name


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("a猫é"), min_size=60, max_size=255), st.sampled_from(["x/", ""]))
def test_results_of_long_names_fit_on_a_disk(stem: str, folder: str) -> None:
    for name in unique_names([f"{folder}{stem}.jpg", f"{folder}{stem}b.jpg"]):
        assert len(Path(f"{name}.png").name.encode()) <= 255
    assert unique_names([f"{'n' * 200}.jpg"]) == ["n" * 200]


def test_names_that_any_stream_can_show() -> None:
    assert printable("caf\udce9 ü") == "caf\\udce9 ü"
    assert printable("plain") == "plain"


class TestResultFolder:
    """Whose files they are."""

    def test_a_second_run_removes_what_it_does_not_write(self, tmp_path: Path) -> None:
        for names in (["a", "b"], ["b", "c"]):
            planned = [Path("masks", name) for name in ["a", *names]]
            results = ResultFolder(tmp_path / "out", "predict", planned)
            for name in names:
                path = results.path(Path("masks", name))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(name)
            results.finish()
        assert sorted(path.name for path in (tmp_path / "out/masks").iterdir()) == ["b", "c"]

    def test_an_interrupted_run_can_be_repeated(self, tmp_path: Path) -> None:
        for _ in range(2):
            results = ResultFolder(tmp_path, "predict", [Path("a"), Path("b")])
            results.path(Path("a")).touch()

    def test_files_of_others_are_not_overwritten(self, tmp_path: Path) -> None:
        touch(tmp_path, "masks/a.png", "masks/mine.png")
        with pytest.raises(
            InputError, match=r"1 file\(s\) there would be overwritten .*masks/a.png"
        ):
            ResultFolder(tmp_path, "predict", [Path("masks/a.png"), Path("masks/b.png")])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["masks"]
        ResultFolder(tmp_path, "predict", [Path("masks/b.png")]).finish()
        assert (tmp_path / "masks/mine.png").exists()

    @pytest.mark.parametrize("text", ["", "[]", '{"files": 3}', "no JSON"])
    def test_damaged_lists_are_named(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "predict.json").write_text(text)
        with pytest.raises(InputError, match=r"predict\.json: not the list of files"):
            ResultFolder(tmp_path, "predict", [])
