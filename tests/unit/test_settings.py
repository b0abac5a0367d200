from pathlib import Path
from typing import Any

import pytest
import yaml

from workflow_scripts.errors import InputError
from workflow_scripts.methods.amn import TrainAmnSettings
from workflow_scripts.planning.configuration import (
    WorkflowSettings,
    configuration_model,
    read_configuration,
)
from workflow_scripts.segmenters.deeplab_v2 import DeepLabV2
from workflow_scripts.settings.base import flag_name, leaves, merge, render_flags

CONFIG = Path(__file__).resolve().parents[2] / "config"


def workflow(**values: Any) -> WorkflowSettings:
    return read_configuration({"dataset": {"kind": "demo"}, **values}, "test.yaml")


def message(**values: Any) -> str:
    with pytest.raises(InputError) as error:
        workflow(**values)
    return str(error.value)


def test_a_part_of_a_nested_model_keeps_the_stages_defaults():
    """Not the defaults of the class that all training stages share."""
    settings = workflow(train_segmentation={"training": {"epochs": 3}}).train_segmentation
    default = DeepLabV2()
    assert settings.training.epochs == 3
    assert settings.training.batch_size == default.training.batch_size == 10
    assert settings.training.optimiser == default.training.optimiser
    assert settings.backbone == default.backbone


def test_a_part_three_levels_down():
    settings = TrainAmnSettings(training={"optimiser": {"learning_rate": 1e-3}})
    assert settings.training.optimiser.learning_rate == 1e-3
    assert settings.training.optimiser.name == "adam"
    assert settings.training.augmentation.resize_range == (0.5, 1.5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"train_camm": {}}, "train_camm: unknown key; did you mean `train_cam`?"),
        (
            {"train_cam": {"training": {"epoch": 3}}},
            "train_cam.training.epoch: unknown key; did you mean `epochs`?",
        ),
        (
            {"dataset": {"kind": "demo", "train_image": 3}},
            "dataset.train_image: unknown key; did you mean `train_images`?",
        ),
        (
            {"dataset": {"kind": "voc12", "sbd": {"adress": "x"}}},
            "dataset.sbd.adress: unknown key; did you mean `address`?",
        ),
        (
            {"dataset": {"kind": "cocoa"}},
            "dataset.kind: there is no dataset `cocoa`; did you mean `coco14`",
        ),
        ({"dataset": {}}, "dataset.kind: missing"),
        ({"qqq": 1}, "qqq: unknown key; valid here: run, results, dataset"),
        ({"variants": {"plain": {"balanc": 0}}}, "balanc: unknown key; did you mean `balance`?"),
        ({"variants": {"plain": {"balanc": 0}}}, "variants.plain: 1 problem"),
        (
            {"train_cam": {"training": {"epochs": 0}}},
            "train_cam.training.epochs: Input should be g",
        ),
        ({"train_amn": {"label_smoothing": "much"}}, "train_amn.label_smoothing: "),
        (
            {"refine_seeds": {"cam": {"foreground_threshold": 1.5}}},
            "refine_seeds.cam.foreground_threshold: Input should be less than 1 (got 1.5)",
        ),
        (
            {"train_cam": {"training": {"augmentation": {"resize_range": [2, 1]}}}},
            "resize_range: expected 0 < low <= high, got 2.0 1.0",
        ),
        (
            {"refine_seeds": {"cam": {"foreground_threshold": 0.01}}},
            "refine_seeds.cam: background_threshold must not exceed foreground_threshold",
        ),
        ({"methods": ["cam", "amm"]}, "methods: `amm` is none of amn, cam"),
        ({"methods": ["cam", "cam"]}, "methods: one is named twice"),
        ({"variants": {"cam": {}}}, "variants: `cam` cannot be a name of one"),
        ({"thresholds": [1.5]}, "thresholds lie between 0 and 1, not 1.5"),
        ({"thresholds": [0.501, 0.502]}, "thresholds must differ in their first two digits"),
        ({"run": "../elsewhere"}, "run: expected letters, digits and underscores"),
    ],
)
def test_mistakes_are_named(values: dict[str, Any], expected: str):
    text = message(**values)
    assert expected in text
    assert len(text.splitlines()) <= 3


def test_where_the_values_came_from_and_all_mistakes_stand_on_one_screen():
    text = message(**{f"key_{number}": 1 for number in range(40)})
    assert text.startswith("test.yaml: 40 problem(s)")
    assert len(text.splitlines()) == 14
    assert text.endswith("… and 28 more")


def test_settings_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        workflow().trials = 3  # type: ignore[misc]


def test_order_and_spelling_of_numbers_do_not_show_in_flags():
    first = TrainAmnSettings(label_smoothing=0.1, training={"epochs": 4, "batch_size": 8})
    second = TrainAmnSettings(training={"batch_size": 8.0, "epochs": "4"}, label_smoothing=1e-1)
    assert render_flags(first) == render_flags(second)
    whole = TrainAmnSettings(training={"optimiser": {"head_factor": 5}})
    assert "--training-optimiser-head-factor 5.0 " in render_flags(whole)


def test_flags_of_each_kind_of_value():
    flags = render_flags(TrainAmnSettings(balance=False, backbone={"weights": "my file.pth"}))
    assert flags.startswith("--backbone-name resnet50 --backbone-weights 'my file.pth' ")
    assert " --dilations 6 12 18 24 " in flags
    assert " --label-conditioning --no-balance " in flags
    assert "max-steps" not in flags
    assert "backbone" not in render_flags(TrainAmnSettings(), exclude=frozenset({"backbone"}))


def test_flag_names_are_unique_in_every_stage():
    for name, field in configuration_model(["cam", "amn"]).model_fields.items():
        if hasattr(field.default, "model_fields_set"):
            names = [flag_name(path) for path, _ in leaves(field.default)]
            assert len(set(names)) == len(names), name


def test_merge_goes_down_every_level():
    defaults = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert merge(defaults, {"a": {"c": {"d": 4}}}) == {"a": {"b": 1, "c": {"d": 4}}, "e": 3}
    assert defaults["a"]["c"]["d"] == 2
    assert merge(defaults, {"a": None}) == {"a": None, "e": 3}


def test_variants_differ_from_amn_where_they_say_so():
    settings = workflow(
        variants={"plain": {"balance": False, "training": {"epochs": 2}}},
        train_amn={"label_smoothing": 0.2},
        methods=["cam", "amn", "plain"],
    )
    plain, amn = settings.training("plain"), settings.training("amn")
    assert (plain.balance, plain.training.epochs, plain.label_smoothing) == (False, 2, 0.2)
    assert amn == settings.train_amn
    assert plain.training.batch_size == amn.training.batch_size
    assert settings.seed_settings("plain") == settings.refine_seeds.amn
    assert settings.seed_settings("cam") == settings.refine_seeds.cam


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_file_is_valid(path: Path):
    values = yaml.safe_load((CONFIG / "config.yaml").read_text())
    given = yaml.safe_load(path.read_text())
    read_configuration(given if "dataset" in given else merge(values, given), path.name)
