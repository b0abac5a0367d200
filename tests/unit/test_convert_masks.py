"""Masks go to annotation tools and come back without a changed pixel."""

import base64
import io
import json

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from workflow_scripts import convert_masks
from workflow_scripts.datasets.brush_rle import decode_brush, encode_brush
from workflow_scripts.datasets.images import read_mask
from workflow_scripts.datasets.label_map import read_label_map
from workflow_scripts.report.judged_table import in_order
from workflow_scripts.storage.masks import encode_mask

CLASSES = ("dog", "cat")
ODD = {
    "walks/hole": np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 2]]),
    "islands": np.array([[1, 0, 1], [0, 2, 0], [1, 0, 255]]),
    "empty": np.zeros((2, 3)),
    "ignored": np.full((3, 2), 255),
    "one pixel": np.array([[2]]),
    "wide": np.tile([0, 1], (1, 20000)),
}


@pytest.fixture
def made(tmp_path):
    """A folder of odd masks and the list of classes."""
    for name, mask in ODD.items():
        path = tmp_path / "masks" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_mask(mask.astype(np.uint8)))
    (tmp_path / "classes.csv").write_text("name\ndog\ncat\n")
    return tmp_path


def convert(folder, masks, to, out, source="masks", *more):
    flags = ["--masks", folder / masks, "--source", source, "--to", to, "--out", folder / out]
    return convert_masks.main([*map(str, flags), "--classes", str(folder / "classes.csv"), *more])


def same(folder, masks):
    found = {path.relative_to(masks).with_suffix("").as_posix() for path in masks.rglob("*.png")}
    assert found == set(ODD)
    for name, mask in ODD.items():
        assert (read_mask(masks / f"{name}.png") == mask).all(), name


@pytest.mark.parametrize(
    ("tool", "place", "source"),
    [
        ("cvat", "there/SegmentationClass", "masks"),
        ("labelme", "there", "labelme"),
        ("label_studio", "there", "label_studio"),
        ("ultralytics", "there/masks", "masks"),
        ("masks", "there", "masks"),
    ],
)
def test_there_and_back_no_pixel_changes(made, tool, place, source):
    assert convert(made, "masks", tool, "there") == 0
    assert convert(made, place, "masks", "back", source) == 0
    same(made, made / "back")


def test_cvat_gets_a_label_map_that_declares_what_it_shows(made):
    assert convert(made, "masks", "cvat", "there") == 0
    text = (made / "there/labelmap.txt").read_text()
    assert text.splitlines()[1:] == [
        "background:0,0,0::", "dog:128,0,0::", "cat:0,128,0::", "ignored:224,224,192::",
    ]  # fmt: skip
    assert read_label_map(made / "there/labelmap.txt").classes == CLASSES
    listed = (made / "there/ImageSets/Segmentation/default.txt").read_text().splitlines()
    assert sorted(listed) == sorted(ODD)
    with Image.open(made / "there/SegmentationClass/islands.png") as image:
        assert image.mode == "RGB" and image.getpixel((2, 2)) == (224, 224, 192)
    for name in ("ignored", "islands"):
        (made / f"masks/{name}.png").unlink()
    assert convert(made, "masks", "cvat", "there") == 0
    assert "ignored" not in (made / "there/labelmap.txt").read_text()
    assert not (made / "there/SegmentationClass/islands.png").exists()


def test_labelme_by_hand(made):
    (made / "photos/walks").mkdir(parents=True)
    for name in ODD:
        Image.new("RGB", (4, 3)).save(made / f"photos/{name}.webp")
    assert (
        convert(made, "masks", "labelme", "there", "masks", "--images", str(made / "photos")) == 0
    )
    content = json.loads((made / "there/walks/hole.json").read_text())
    assert (content["imageHeight"], content["imageWidth"]) == (3, 4)
    assert content["imagePath"] == "hole.webp" and content["imageData"] is None
    dog, cat = content["shapes"]
    assert (dog["label"], dog["shape_type"], dog["points"]) == ("dog", "mask", [[0, 0], [2, 2]])
    assert cat["points"] == [[3, 2], [3, 2]]
    with Image.open(io.BytesIO(base64.b64decode(dog["mask"]))) as image:
        assert np.array(image).tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]


def test_ultralytics_layout(made):
    assert convert(made, "masks", "ultralytics", "there") == 0
    told = yaml.safe_load((made / "there/data.yaml").read_text())
    assert told["masks_dir"] == "masks" and told["names"] == {0: "background", 1: "dog", 2: "cat"}
    with Image.open(made / "there/masks/islands.png") as image:
        assert image.mode == "L" and np.array(image).max() == 255


def test_a_corrected_annotation_of_label_studio_counts_and_not_the_prediction(made):
    assert convert(made, "masks", "label_studio", "there") == 0
    path = made / "there/tasks.json"
    tasks = json.loads(path.read_text())
    [task] = [one for one in tasks if one["data"]["name"] == "islands"]
    region = np.zeros((3, 3), bool)
    region[0] = True
    result = task["predictions"][0]["result"][0]
    result["value"] = {"format": "rle", "rle": encode_brush(region), "brushlabels": ["cat"]}
    task["annotations"] = [{"result": [result]}]
    (made / "export").mkdir()
    (made / "export/project.json").write_text(json.dumps([task]))
    assert convert(made, "export", "masks", "back", "label_studio") == 0
    assert read_mask(made / "back/islands.png").tolist() == [[2, 2, 2], [0, 0, 0], [0, 0, 0]]


def test_brush_code_by_hand():
    """One pixel, set: 4 values of 8 bits, a run of 4 (code 3 in 3 bits)."""
    bits = (
        f"{4:032b}" + f"{7:05b}" + "0010" + "0011" + "0111" + "1111" + "1" + "00" + "011" + "1" * 8
    )
    bits += "0" * (-len(bits) % 8)
    assert encode_brush(np.ones((1, 1), bool)) == list(int(bits, 2).to_bytes(len(bits) // 8, "big"))


def test_brush_code_of_single_values():
    """As the tool's page writes where values differ: flag 0, each value by itself."""
    bits = f"{8:032b}" + f"{7:05b}" + "0010" + "0011" + "0111" + "1111" + "0" + "00" + "111"
    bits += "".join(f"{value:08b}" for value in (0, 0, 0, 0, 9, 9, 9, 200))
    bits += "0" * (-len(bits) % 8)
    code = list(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    assert decode_brush(code, 1, 2).tolist() == [[False, True]]


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
@settings(max_examples=500, deadline=None)
def test_brush_code_keeps_every_region(region):
    assert (decode_brush(encode_brush(region), *region.shape) == region).all()


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_broken_brush_codes_are_refused_by_value_errors(data):
    region = data.draw(arrays(bool, (5, 7)))
    code = encode_brush(region)
    place = data.draw(st.integers(0, len(code) - 1))
    for broken in (
        code[:place],
        [*code[:place], data.draw(st.integers(0, 255)), *code[place + 1 :]],
    ):
        try:
            assert decode_brush(broken, 5, 7).shape == (5, 7)
        except ValueError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("source", "text", "message"),
    [
        ("labelme", "{", "not a readable JSON"),
        ("labelme", "{}", "imageHeight"),
        (
            "labelme",
            '{"imageHeight": 2, "imageWidth": 2, "shapes": [{"label": "dog", "shape_type": "polygon"}]}',
            "polygon",
        ),
        (
            "labelme",
            '{"imageHeight": 2, "imageWidth": 2, "shapes": [{"label": "dgo", "shape_type": "mask"}]}',
            "'dgo' is no class",
        ),
        ("label_studio", "{}", "list of tasks"),
        ("label_studio", '[{"data": {"image": "a.jpg"}}]', "a.jpg"),
    ],
)
def test_what_cannot_be_read_is_named(made, capsys, source, text, message):
    (made / "export").mkdir()
    (made / "export/x.json").write_text(text)
    assert convert(made, "export", "masks", "back", source) == 2
    told = capsys.readouterr().err
    assert message in told and "x.json" in told
    assert list((made / "back").glob("*.png")) == []


def test_values_beyond_the_classes_and_missing_photographs_are_named(made, capsys):
    (made / "masks/high.png").write_bytes(encode_mask(np.full((2, 2), 9, np.uint8)))
    assert convert(made, "masks", "labelme", "there") == 2
    assert "'high' has the value 9" in capsys.readouterr().err
    (made / "masks/high.png").unlink()
    (made / "photos").mkdir()
    assert (
        convert(made, "masks", "labelme", "there", "masks", "--images", str(made / "photos")) == 2
    )
    assert "no photograph for 6 of 6 masks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"image": "/data/upload/1/abc-cat.jpg"}, "abc-cat"),
        ({"image": "/data/local-files/?d=walks/cat.jpg"}, "walks/cat"),
    ],
)
def test_nothing_is_written_outside_whatever_an_export_says(made, data, name):
    task = {"data": {**data, "height": 1, "width": 1}}
    (made / "export").mkdir()
    (made / "export/project.json").write_text(json.dumps([task]))
    assert convert(made, "export", "masks", "back", "label_studio") == 0
    assert list((made / "back").rglob("*.png")) == [made / "back" / f"{name}.png"]


@pytest.mark.parametrize("name", ["../x", "/tmp/x"])
def test_a_name_that_leads_outside_is_refused(made, capsys, name):
    task = {"data": {"image": "a.jpg", "name": name, "height": 1, "width": 1}}
    (made / "export").mkdir()
    (made / "export/project.json").write_text(json.dumps([task]))
    assert convert(made, "export", "masks", "back", "label_studio") == 2
    assert "would lie outside" in capsys.readouterr().err
    assert not (made / "x.png").exists() and not (made / "back").exists()


def test_masks_by_ids_find_photographs_in_folders_and_go_back_beside_them(tmp_path):
    for name in ("sub/cat.jpg", "dog.jpg", "dog.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path)
    (tmp_path / "classes.csv").write_text("name\ndog\ncat\n")
    (tmp_path / "masks").mkdir()
    for image_id in ("sub_cat", "dog.png"):
        (tmp_path / f"masks/{image_id}.png").write_bytes(encode_mask(np.ones((2, 2), np.uint8)))
    images = ["--images", str(tmp_path / "photos")]
    assert convert(tmp_path, "masks", "labelme", "there", "masks", *images) == 0
    assert json.loads((tmp_path / "there/sub_cat.json").read_text())["imagePath"] == "cat.jpg"
    assert convert(tmp_path, "there", "masks", "back", "labelme", *images) == 0
    back = tmp_path / "back"
    assert set(back.rglob("*.png")) == {back / "sub/cat.png", back / "dog.png.png"}


def test_the_classes_of_a_label_map_go_by_name(made):
    assert convert(made, "masks", "cvat", "there") == 0
    (made / "classes.csv").write_text("name\ncat\ndog\n")
    assert convert(made, "there", "masks", "back") == 0
    assert read_mask(made / "back/walks/hole.png").tolist() == [
        [2, 2, 2, 0],
        [2, 0, 2, 0],
        [2, 2, 2, 1],
    ]


def test_photographs_of_one_stem_need_whole_names(tmp_path):
    photographs = ["cat.jpg", "cat.png", "dog.jpg"]
    assert convert_masks.image_names(tmp_path, photographs, ["cat.jpg", "dog"]) == {
        "cat.jpg": "cat.jpg",
        "dog": "dog.jpg",
    }
    with pytest.raises(convert_masks.InputError, match=r"cat\.jpg and cat\.png have the name"):
        convert_masks.image_names(tmp_path, photographs, ["cat"])


def test_without_photographs_they_are_taken_for_jpeg_files(made):
    assert convert(made, "masks", "labelme", "there") == 0
    assert json.loads((made / "there/islands.json").read_text())["imagePath"] == "islands.jpg"


@pytest.mark.parametrize(
    ("tool", "photographs"),
    [("cvat", "JPEGImages"), ("labelme", ""), ("label_studio", ""), ("ultralytics", "images")],
)
def test_the_first_images_of_an_order_with_their_photographs(made, capsys, tool, photographs):
    """judge's order names images by their paths or ids, the gallery's list some of them."""
    for name in ODD:
        path = made / "photos" / f"{name}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    looks = ["one pixel,2", "walks_hole,1", "islands.JPG,3", "wide,4"]
    (made / "order.csv").write_text("set,image,look\n" + "".join(f"a,{row}\n" for row in looks))
    flags = ["--order", str(made / "order.csv"), "--images", str(made / "photos"), "--with-images"]
    assert convert(made, "masks", tool, "some", "masks", *flags, "--first", "3") == 0
    chosen = ["walks/hole", "one pixel", "islands"]
    copies = made / "some" / photographs
    found = {path.relative_to(copies).as_posix(): path for path in copies.rglob("*.JPG")}
    assert {name: path.read_bytes().decode() for name, path in found.items()} == {
        f"{name}.JPG": name for name in chosen
    }
    if tool == "cvat":
        listed = (made / "some/ImageSets/Segmentation/default.txt").read_text().splitlines()
        assert listed == chosen
    if tool == "labelme":
        assert json.loads((made / "some/walks/hole.json").read_text())["imagePath"] == "hole.JPG"
    # Fewer images would remove what has perhaps been corrected.
    assert convert(made, "masks", tool, "some", "masks", *flags, "--first", "1") == 2
    assert "which a run of some images would remove" in capsys.readouterr().err


def test_images_in_sub_folders_are_found_by_any_of_their_names(tmp_path):
    """A run's masks lie under ids, others' under paths; judge names images by either."""
    table = tmp_path / "images.csv"
    rows = ["x/a.jpg,3", "y/a.jpg,1", "z.png,2"]
    table.write_text("set,image,look\n" + "".join(f"one,{row}\n" for row in rows))
    expected = ["y/a", "z", "x/a"]
    assert in_order(table, {name: (name,) for name in ("x/a", "y/a", "z")}) == expected
    ids = [name.replace("/", "_") for name in expected]
    assert in_order(table, {name: (name,) for name in sorted(ids)}) == ids
    table.write_text("set,image,look\none,x_a,3\none,y_a,1\none,z,2\n")
    assert in_order(
        table, {name: (name, name.replace("/", "_")) for name in ("x/a", "y/a", "z")}
    ) == (expected)


def test_the_first_of_all_without_an_order(made):
    assert convert(made, "masks", "masks", "some", "masks", "--first", "2") == 0
    found = {path.relative_to(made / "some").as_posix() for path in (made / "some").rglob("*.png")}
    everything = sorted(f"{name}.png" for name in ODD)
    assert found < set(everything) and len(found) == 2
    # More than before may be added.
    assert convert(made, "masks", "masks", "some") == 0
    same(made, made / "some")
    assert convert(made, "masks", "masks", "some", "masks", "--first", "2") == 2


def test_photographs_are_copied_from_a_folder_alone(made, capsys):
    assert convert(made, "masks", "cvat", "out", "masks", "--with-images") == 2
    assert "give --images, their folder" in capsys.readouterr().err
