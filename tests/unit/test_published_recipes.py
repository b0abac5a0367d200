"""The configurations of VOC 2012 and COCO 2014 hold the published numbers, and plan every stage."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from workflow_scripts.planning.workflow import Workflow

CONFIG = Path(__file__).resolve().parents[2] / "config"
FROZEN = ("voc12_dinov2", "coco14_dinov2", "folder_dinov2", "voc12_clip")


def _plan(*names):
    """A plan of configurations laid over one another, as Snakemake does it."""
    merged: dict = {}
    for name in names:
        _update(merged, yaml.safe_load((CONFIG / f"{name}.yaml").read_text(encoding="utf-8")))
    return Workflow(merged)


def _update(below, above):
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _update(below[key], value)
        else:
            below[key] = value


@pytest.mark.parametrize("name", ["voc12", "coco14"])
def test_numbers_of_cam_amn_and_irn(name):
    settings = _plan(name).settings
    cam, amn, irn = settings.train_cam, settings.train_amn, settings.boundary.train
    for stage, frozen in ((cam, 3), (amn, 1), (irn, 5)):
        assert (stage.backbone.name, stage.backbone.weights) == ("resnet50", "imagenet")
        assert (stage.backbone.output_stride, stage.backbone.dilate) == (16, False)
        assert stage.backbone.frozen_stages == frozen
        assert stage.training.augmentation.crop == 512 and stage.training.augmentation.flip
        assert stage.training.optimiser.weight_decay == 1e-4
        assert stage.training.max_steps is None
    assert [s.training.epochs for s in (cam, amn, irn)] == [5, 5, 3]
    assert [s.training.batch_size for s in (cam, amn, irn)] == [16, 16, 32]
    rates = [
        (s.training.optimiser.name, s.training.optimiser.learning_rate) for s in (cam, amn, irn)
    ]
    assert rates == [("sgd", 0.1), ("adam", 5e-6), ("sgd", 0.1)]
    assert [s.training.optimiser.head_factor for s in (cam, amn, irn)] == [10, 20, 10]
    schedules = [s.training.optimiser.schedule for s in (cam, amn, irn)]
    assert schedules == ["polynomial", "constant", "polynomial"]
    assert cam.training.augmentation.resize_range == (320, 640)
    assert amn.training.augmentation.resize_range == (0.5, 1.5)
    assert settings.infer_cam.scales == settings.infer_amn.scales == (1.0, 0.5, 1.5, 2.0)
    assert (amn.label_smoothing, amn.dropout, amn.dilations) == (0.4, 0.1, (6, 12, 18, 24))
    seeds = settings.refine_seeds
    assert (seeds.cam.foreground_threshold, seeds.cam.background_threshold) == (0.30, 0.05)
    assert (seeds.amn.foreground_threshold, seeds.amn.background_threshold) == (0.45, 0.15)
    crf = seeds.cam.crf
    assert (crf.iterations, crf.gaussian_sxy, crf.gaussian_compat) == (10, 3, 3)
    assert (crf.bilateral_sxy, crf.bilateral_srgb, crf.bilateral_compat) == (50, 5, 10)
    walk = settings.boundary.propagate
    assert settings.boundary.enabled and irn.radius == 10
    assert (walk.exponent, walk.radius, walk.beta, walk.steps) == (1.3, 5, 10, 256)
    assert settings.pseudo_masks.refinement == "none"


@pytest.mark.parametrize(
    ("name", "threshold", "rate", "images", "steps"),
    [
        ("voc12", 0.25, 2.5e-4, 10582, 20_000),
        ("coco14", 0.22, 2e-4, 82783, 100_000),
    ],
)
def test_numbers_of_the_segmentation(name, threshold, rate, images, steps):
    settings = _plan(name).settings
    assert settings.thresholds == (threshold,)
    stage, training = settings.train_segmentation, settings.train_segmentation.training
    assert (stage.backbone.name, stage.backbone.output_stride, stage.backbone.dilate) == (
        "resnet101", 8, True,
    )  # fmt: skip
    optimiser = training.optimiser
    assert (optimiser.learning_rate, optimiser.momentum, optimiser.weight_decay) == (
        rate,
        0.9,
        5e-4,
    )
    assert optimiser.head_factor == 10 and optimiser.head_factor * optimiser.head_bias_factor == 20
    taken = training.epochs * (images // training.batch_size)
    assert min(taken, training.max_steps or taken) == steps
    test = settings.evaluate_segmentation
    assert len(test.scales) > 1 and test.flip and test.refine
    assert (test.crf.gaussian_sxy, test.crf.gaussian_compat) == (1, 3)
    assert (test.crf.bilateral_compat, test.crf.bilateral_sxy, test.crf.bilateral_srgb) == (
        4,
        67,
        3,
    )


def test_figures_are_about_the_splits_of_the_paper():
    voc, coco = _plan("voc12"), _plan("coco14")
    assert voc.settings.splits.training == ("train", "train_aug")
    assert {shard.rsplit("-")[0] for shard in voc.activation_shards} == {"train"}
    for plan in (voc, coco):
        assert plan.settings.splits.activations == ("train",)
        assert plan.settings.splits.segmentation == ("val",)
        assert plan.explored_split == "train"
        swept = [file for file in plan.evaluations if "propagated_sweep" in file]
        assert len(swept) == 2 * plan.settings.shards


@pytest.mark.parametrize("name", ["config", "voc12", "coco14", "folder", *FROZEN])
def test_the_miniature_fits_over_each(name):
    settings = _plan(name, "miniature").settings
    trained = [one for one in settings.methods if settings.base(one) != "clip_cam"]
    stages = [settings.train_cam, settings.train_amn, settings.train_segmentation]
    stages += [settings.training(one) for one in trained]
    assert all(stage.training.max_steps == 2 for stage in (*stages, settings.boundary.train))
    assert settings.shards == 1


@pytest.mark.parametrize("name", FROZEN)
def test_frozen_recipes_learn_little_from_features_that_they_share(name):
    plan = _plan(name)
    settings = plan.settings
    assert settings.thresholds == ("auto",)
    first, amn = settings.methods
    assert settings.base(amn) == "amn" and settings.source(amn) == first
    assert len(plan.feature_sets) == 1
    features = plan.method_features(SimpleNamespace(method=amn))
    assert len(features) == len(plan.training_shards) > 0
    assert features == plan.segmentation_features(SimpleNamespace())
    if first == "vit_cam":
        assert features == plan.method_features(SimpleNamespace(method=first))
        assert settings.train_vit_cam.backbone.frozen_blocks == "all"
    for method in settings.methods:
        seeds = settings.seed_settings(method)
        assert (seeds.foreground_threshold, seeds.background_threshold) == ("auto", "auto")
    # AMN of one convolution on a ViT-S: at most 0.1 M of 20 classes.
    assert settings.training(amn).dilations == (1,)
    box = 0.7 if name == "coco14_dinov2" else 0.4
    assert settings.inference(first).affinity.box == box


def test_names_of_the_clip_recipe_are_those_of_the_classes():
    from workflow_scripts.datasets.kinds.voc12 import CLASSES

    names = _plan("voc12_clip").settings.train_clip_cam.class_names
    for ours, theirs in zip(names, CLASSES, strict=True):
        assert ours.startswith(theirs)
