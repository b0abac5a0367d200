"""Features of a frozen backbone: stored once, read by trainings in the place of images."""

import re
import shutil
import tracemalloc
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from tests import backbones
from tests.tiny_backbone import TinyBackbone
from workflow_scripts import cache_features, infer, train, train_segmentation
from workflow_scripts.datasets.index import IndexRow, read_index, write_index
from workflow_scripts.datasets.transforms import normalise
from workflow_scripts.doors.method import METHODS
from workflow_scripts.errors import InputError
from workflow_scripts.models.feature_maps import load_backbone
from workflow_scripts.models.stored_features import StoredFeatures, about_features, feature_shape
from workflow_scripts.planning.workflow import Workflow
from workflow_scripts.settings.base import validate
from workflow_scripts.settings.training import FeatureSettings
from workflow_scripts.storage.atomic import atomic_path
from workflow_scripts.storage.feature_shards import FeatureReader, FeatureShape, feature_writer
from workflow_scripts.storage.masks import MaskWriter
from workflow_scripts.training.feature_images import FeatureImages
from workflow_scripts.training.loop import _to_device

SIZES = [(48, 64), (45, 37), (20, 64), (33, 33)]
LABELS = [["cat"], ["cat", "dog"], ["dog"], ["dog"]]
VIEWS = ["--features-side", "64", "--features-scales", "1.0", "0.5"]
BACKBONE = ["--backbone-name", "efficientnet_lite0"]
IN_TRAINING = [
    "--training-features-cache", "--training-features-side", "64", "--training-features-scales", "1.0", "0.5",
    "--training-epochs", "8", "--training-batch-size", "3", "--workers", "0", "--device", "cpu",
    "--training-optimiser-name", "adamw", "--training-optimiser-learning-rate", "1e-3",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four photographs, their seeds, and their stored features."""
    place = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    rows = []
    for number, ((height, width), labels) in enumerate(zip(SIZES, LABELS, strict=True)):
        image = rng.integers(0, 60, (height, width, 3), np.uint8)
        image[4:16, 8:28] += 180
        Image.fromarray(image).save(place / f"{number}.png")
        rows.append(IndexRow(f"é {number}", f"{number}.png", width, height, "train", labels, ""))
    write_index(place / "index.csv", ["cat", "dog"], rows)
    records = read_index(place / "index.csv").records
    with MaskWriter(place / "seeds.zip") as seeds:
        for record in records:
            seed = np.full((record.height, record.width), 255, np.uint8)
            seed[4:16, 8:28], seed[16:] = record.labels[0], 0
            seeds.write(record.id, seed)
    assert cache(place, "features.safetensors") == 0
    return place


def cache(place, name, *more):
    return cache_features.main([
        "--index", str(place / "index.csv"), "--split", "train", "--output", str(place / name),
        "--device", "cpu", *BACKBONE, *VIEWS, "--log", str(place / "log"), *more,
    ])  # fmt: skip


def teach(place, name, method, *more):
    stage = train.main if method else train_segmentation.main
    return stage([
        *([method] if method else []), "--index", str(place / "index.csv"), *BACKBONE, *IN_TRAINING,
        "--output", str(place / name / "model.safetensors"), "--log", str(place / "log"), *more,
    ])  # fmt: skip


def test_features_are_those_of_the_square_views(folder):
    backbone = load_backbone(backbones.settings(name="efficientnet_lite0")).eval()
    with FeatureReader(folder / "features.safetensors") as reader:
        assert reader.shape == FeatureShape(backbone.channels, (4, 2), 2)
        assert reader.shape.bytes == 2 * 2 * backbone.channels * (16 + 4)
        size = (folder / "features.safetensors").stat().st_size
        assert 0 < size - 4 * reader.shape.bytes < 4096
        found = [reader.read("é 1", 1, mirrored) for mirrored in (False, True)]
    view = Image.open(folder / "1.png").resize((32, 32), Image.Resampling.BICUBIC)
    for mirrored, features in enumerate(found):
        pixels = np.asarray(view)[:, ::-1] if mirrored else np.asarray(view)
        images = torch.from_numpy(normalise(pixels, backbone.mean, backbone.std))[None]
        with torch.no_grad():
            expected = backbone(images)[0].numpy()
        np.testing.assert_allclose(features, expected, rtol=2e-3, atol=2e-3)
    # Others read it as a safetensors file.
    with safe_open(folder / "features.safetensors", "numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("é 1//1")[0], found[0])


def images_of(folder, mask_of=None, flip=True):
    backbone = backbones.build(name="efficientnet_lite0")
    settings = FeatureSettings(side=64, scales=(1.0, 0.5))
    return FeatureImages(
        read_index(folder / "index.csv").records,
        2,
        [folder / "features.safetensors"],
        feature_shape(backbone, settings),
        about_features("efficientnet_lite0", settings),
        backbone.stride,
        flip,
        7,
        mask_of,
    )


def test_an_epoch_has_one_scale_and_an_image_one_of_two_views(folder):
    images = images_of(folder)
    drawn = set()
    for epoch in range(12):
        elements = [images[epoch, number]["image"] for number in range(4)]
        sides = {one.shape[-1] for one in elements}
        assert len(sides) == 1 and sides <= {4, 2}
        with FeatureReader(folder / "features.safetensors") as reader:
            scale = 0 if 4 in sides else 1
            straight = reader.read("é 0", scale, False).astype(np.float32)
        drawn.add((scale, bool((straight == elements[0]).all())))
    assert drawn == {(0, True), (0, False), (1, True), (1, False)}


def test_the_network_sees_single_precision_of_what_travels_as_half(folder):
    images = images_of(folder)
    elements = [images[0, number]["image"] for number in range(2)]
    assert all(one.dtype == np.float16 and one.flags.writeable for one in elements)
    batch = {"image": torch.stack([torch.from_numpy(one) for one in elements])}
    seen = _to_device(batch, torch.device("cpu"), images)["image"]
    assert seen.dtype == torch.float32 and seen.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(seen.numpy(), np.stack(elements))


def test_masks_are_seen_as_the_features_are(folder):
    def mask_of(record):
        return (
            np.arange(record.height * record.width, dtype=np.uint8).reshape(record.height, -1) % 5
        )

    images = images_of(folder, mask_of, flip=False)
    element = images[0, 2]
    side = element["image"].shape[-1] * 16
    expected = Image.fromarray(mask_of(images.records[2])).resize(
        (side, side), Image.Resampling.NEAREST
    )
    np.testing.assert_array_equal(element["mask"], np.asarray(expected))
    mirrored = images_of(folder, mask_of)
    flipped = [mirrored[epoch, 2]["mask"] for epoch in range(12)]
    same = [one for one in flipped if one.shape == (side, side)]
    assert any((one == np.asarray(expected)[:, ::-1]).all() for one in same)


@pytest.mark.parametrize("method", ["cam", "vit_cam"])
def test_a_linear_classifier_learns_from_them_and_sees_images_afterwards(folder, method):
    assert teach(folder, method, method, "--features", str(folder / "features.safetensors")) == 0
    tensors = load_file(folder / method / "model.safetensors")
    start = load_backbone(backbones.settings(name="efficientnet_lite0")).state_dict()
    for name, tensor in start.items():
        assert torch.equal(tensors[f"backbone.{name}"], tensor), name
    assert set(tensors) == {f"backbone.{name}" for name in start} | {"classifier.weight"}
    rows = (folder / method / "training.csv").read_text().splitlines()
    losses = [float(row.split(",")[2]) for row in rows[1:]]
    assert min(losses[1:]) < losses[0]  # scales differ from epoch to epoch
    assert infer.main([
        method, "--index", str(folder / "index.csv"), "--split", "train", "--device", "cpu",
        "--model", str(folder / method / "model.safetensors"), "--scales", "1.0",
        "--output", str(folder / method / "activations.safetensors"), "--log", str(folder / "log"),
    ]) == 0  # fmt: skip


def test_amn_learns_from_them_and_seeds(folder):
    features = ["--features", str(folder / "features.safetensors")]
    more = ["--seeds", str(folder / "seeds.zip"), "--dilations", "1", *features]
    assert teach(folder, "amn", "amn", *more) == 0
    tensors = load_file(folder / "amn/model.safetensors")
    learnt = [
        tensor.numel() for name, tensor in tensors.items() if not name.startswith("backbone.")
    ]
    assert 0 < sum(learnt) <= 100_000
    assert f" {sum(learnt):,} parameters learn" in (folder / "log").read_text()


def test_a_segmentation_network_learns_from_them_if_it_reads_one_level(folder, capsys):
    more = [
        "--features",
        str(folder / "features.safetensors"),
        "--masks",
        str(folder / "seeds.zip"),
    ]
    more += ["--segmenter", "mlp", "--width", "8"]
    assert teach(folder, "segmentation", None, *more, "--levels", "1") == 0
    assert teach(folder, "refused", None, *more, "--levels", "4") == 2
    assert "give the decoder `levels: 1`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "flags", "message"),
    [
        ("cam", [], "give the shards of `cache_features`"),
        (
            "cam",
            ["--no-training-features-cache", "--features"],
            "set `training.features.cache` too",
        ),
        ("cam", ["--training-features-side", "96", "--features"], "expected {'backbone'"),
    ],
)
def test_features_that_do_not_fit_are_refused(folder, method, flags, message, capsys):
    given = [str(folder / "features.safetensors")] if flags else []
    assert teach(folder, "refused", method, *flags, *given) == 2
    assert message in capsys.readouterr().err


def test_a_full_disk_is_reported_before_anything_is_computed(folder, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 1000))
    monkeypatch.setattr(cache_features, "features_of", None)
    (folder / "full").mkdir()
    assert cache(folder, "full/train-00.safetensors") == 2
    message = capsys.readouterr().err
    assert "bytes an image" in message and "`features: {mirror: false}`" in message
    assert list((folder / "full").iterdir()) == []


def test_only_shards_of_the_split_as_it_is_cut_now_count_as_there(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 1000))
    for name in ("val-00", "train-000", "train-07"):
        (tmp_path / f"{name}.safetensors").write_bytes(bytes(5000))
    with pytest.raises(InputError, match=r"0\.0 GB are there"):
        cache_features.check_room(tmp_path, ["train-00", "train-01"], 5000, 10)
    (tmp_path / "train-01.safetensors").write_bytes(bytes(4000))
    cache_features.check_room(tmp_path, ["train-00", "train-01"], 5000, 10)


def test_what_jobs_at_work_have_written_counts_as_there(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 1000))
    with atomic_path(tmp_path / "train-01.safetensors") as other:
        other.write_bytes(bytes(4000))
        cache_features.check_room(tmp_path, ["train-00", "train-01"], 5000, 10)
        with pytest.raises(InputError, match=r"0\.0 GB are there"):
            cache_features.check_room(tmp_path, ["train-00", "train-02"], 5000, 10)


@pytest.mark.parametrize("content", [b"version https://git-lfs", bytes(20), b"\xff" * 20, b""])
def test_what_is_no_shard_of_features_is_named(tmp_path, content):
    path = tmp_path / "train-00.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"train-00\.safetensors: no shard of features"):
        FeatureReader(path)


def test_values_beyond_half_precision_are_refused(tmp_path):
    shape = FeatureShape(1, (1,), 1)
    with (
        pytest.raises(InputError, match="too large for half precision"),
        feature_writer(tmp_path / "shard", ["a"], shape, {}) as writer,
    ):
        writer.write("a", [np.full((1, 1, 1, 1), 1e6, np.float32)])
    assert list(tmp_path.iterdir()) == []


CACHED = {"training": {"features": {"cache": True, "side": 64}}}


def plan(**values):
    return Workflow({"dataset": {"kind": "demo"}, "run": "r", "shards": 2, **values})


def test_trainings_of_one_backbone_share_their_features():
    network = {"name": "efficientnet_lite0"}
    made = plan(
        methods=["cam", "amn", "vit_cam"],
        train_cam={"backbone": network | {"frozen_stages": 3}, **CACHED},
        train_amn={"backbone": network | {"frozen_stages": 5}, **CACHED},
        train_vit_cam={"backbone": {"name": "resnet50"}, **CACHED},
    )
    cam, amn, other = (
        made.method_features(SimpleNamespace(method=name)) for name in ("cam", "amn", "vit_cam")
    )
    assert cam == amn != other and len(made.feature_sets) == 2
    name = next(name for name in made.feature_sets if name.startswith("efficientnet_lite0-"))
    assert cam == [f"results/r/features/{name}/train-0{shard}.safetensors" for shard in (0, 1)]
    assert "--features-side 64" in made.feature_flags(SimpleNamespace(features=name))
    assert made.segmentation_features(SimpleNamespace()) == []
    assert set(cam) < set(made.intermediates)
    job = f"cache_features/{name}-train-00"
    assert any(re.fullmatch(pattern, job) for pattern in made.job_patterns)


MLP = {"segmenter": "mlp", **CACHED}


@pytest.mark.parametrize(
    ("values", "key", "advice"),
    [
        (
            {"methods": ["recam"], "train_recam": CACHED},
            "train_recam",
            "goes on from another's network",
        ),
        (
            {"methods": ["mine"], "variants": {"mine": {"method": "recam", **CACHED}}},
            "variants.mine",
            "goes on from another's network",
        ),
        (
            {"methods": ["clip_cam"], "train_clip_cam": CACHED},
            "train_clip_cam",
            "is not trained",
        ),
        ({"train_segmentation": MLP}, "train_segmentation", "give it `levels: 1`"),
        (
            {"boundary": {"enabled": True, "train": CACHED}},
            "boundary.train",
            "the last one alone is stored",
        ),
    ],
)
def test_where_they_cannot_be_used_planning_says_so(values, key, advice):
    with pytest.raises(InputError) as refused:
        plan(**values)
    message = str(refused.value)
    assert message.startswith(f"{key}.training.features.cache: ") and advice in message
    assert message.endswith("leave `cache` out")


def test_where_they_would_not_be_used_nothing_is_refused():
    one = plan(methods=["cam"], train_segmentation={**MLP, "levels": 1}, train_recam=CACHED)
    assert len(one.feature_sets) == 1


def test_a_tenth_of_a_million_numbers_are_learnt_on_a_small_transformer():
    """With twenty classes and the channels of a ViT-S, in the recipes' networks."""
    stored = StoredFeatures(TinyBackbone(384))
    for method, values in (("vit_cam", {}), ("amn", {"dilations": (1,)})):
        entry = METHODS.get(method)
        network = entry(validate(entry.Train, values, "test")).build(stored, 20)
        learnt = sum(p.numel() for p in network.parameters() if p.requires_grad)
        assert 0 < learnt <= 100_000


def test_an_image_at_a_time_is_held(tmp_path):
    """A shard may be larger than memory: neither side holds more than an image's features."""
    shape = FeatureShape(64, (64,), 2)
    one = np.ones(shape.of_scale(0), np.float32)
    ids = [str(number) for number in range(12)]
    tracemalloc.start()
    with feature_writer(tmp_path / "shard", ids, shape, {}) as writer:
        for image_id in ids:
            writer.write(image_id, [one])
    with FeatureReader(tmp_path / "shard") as reader:
        for image_id in ids:
            assert reader.read(image_id, 0, True).shape == (64, 64, 64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * shape.bytes < 12 * shape.bytes
