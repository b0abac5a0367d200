"""The table of methods on one's own photographs: what is run, and how it is shown."""

import numpy as np
import pytest

from tools import photographs
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.threshold_sweep import ThresholdCurve
from workflow_scripts.planning.workflow import Workflow


def asked(*words: str):
    return photographs.parser().parse_args(["--root", "somewhere", *words])


def test_frozen_features_are_shared_by_all_methods():
    plan = Workflow(photographs.configuration(asked()))
    assert plan.settings.methods == photographs.METHODS and plan.settings.trials == 3
    assert len(plan.feature_sets) == 1 and plan.segmentation_features(None) == []
    assert plan.settings.source("amn_on_vit_cam") == "vit_cam"
    files = photographs.targets(plan, segmentation=False)
    assert len(files) == 3 * 4 * (1 + 2)
    assert not any("segmentation" in file for file in files)


def test_networks_are_asked_for_by_name():
    given = asked("--learning", "--segmentation", "--methods", "cam", "recam", "amn")
    plan = Workflow(photographs.configuration(given))
    assert plan.settings.methods == ("cam", "recam", "amn", "full") and not plan.feature_sets
    files = photographs.targets(plan, segmentation=True)
    assert "results/photographs/0/full/truth/evaluation/segmentation/val-00.json" in files
    assert "results/photographs/2/recam/auto/evaluation/segmentation/val-00.json" in files


def test_a_method_that_trains_a_backbone_is_no_frozen_one():
    with pytest.raises(InputError, match="add --learning"):
        photographs.configuration(asked("--methods", "cam", "recam"))


def test_a_configuration_lies_over_it(tmp_path):
    (tmp_path / "more.yaml").write_text("infer_vit_cam: {affinity: {temperature: 0.2}}\n")
    values = photographs.configuration(asked("--configfile", str(tmp_path / "more.yaml")))
    settings = Workflow(values).settings
    assert settings.infer_vit_cam.affinity.temperature == 0.2
    assert settings.infer_vit_cam.scales == (1.0,)


def test_a_variant_of_such_a_configuration_is_a_method_too(tmp_path):
    (tmp_path / "more.yaml").write_text("variants: {longer: {training: {epochs: 60}}}\n")
    asked_for = ("--methods", "cam", "amn", "longer", "--configfile", str(tmp_path / "more.yaml"))
    plan = Workflow(photographs.configuration(asked(*asked_for)))
    assert plan.methods == ["cam", "amn", "longer"]
    epochs = [plan.settings.training(name).training.epochs for name in ("amn", "longer")]
    assert epochs == [20, 60]


def test_refinements_are_measured_beside_the_plain_masks():
    given = asked("--refined", "crf", "par", "--methods", "cam")
    plan = Workflow(photographs.configuration(given))
    assert plan.settings.sweep.refined_thresholds[:2] == (0.05, 0.15)
    files = photographs.targets(plan, False, given.refined)
    assert "results/photographs/1/cam/refined_sweep/par/val-00.safetensors" in files
    assert len(files) == 3 * (1 + 2 * 2)


@pytest.mark.parametrize(
    ("backbone", "side", "fitting"),
    [
        ("efficientnet_lite0", 448, 448),
        ("resnet50", 500, 480),
        ("vit_small_patch14_dinov2", 384, 378),
    ],
)
def test_sides_are_whole_cells(backbone, side, fitting):
    assert photographs.whole_cells(side, backbone) == fitting


@pytest.mark.parametrize("backbone", ["resnet50", "vit_small_patch14_dinov2.lvd142m"])
def test_any_backbone_can_be_compared(backbone):
    given = asked("--backbone", backbone, "--seeds", "par")
    settings = Workflow(photographs.configuration(given)).settings
    assert settings.train_amn.backbone.name == backbone
    # Attention where the network has any.
    assert settings.infer_vit_cam.affinity.source == "attention"
    assert settings.refine_seeds.vit_cam.refinement == "par"


def test_figures_of_a_coarse_curve_are_those_between_its_thresholds():
    confusions = np.zeros((3, 2, 2), np.int64)
    # Of 100 pixels of the object, 100, 80 and 20 are found; nothing else is.
    for one, hits in zip(confusions, (100, 80, 20), strict=True):
        one[1] = (100 - hits, hits)
        one[0, 0] = 10**9
    curve = ThresholdCurve(np.array([0.25, 0.5, 0.75], np.float32), confusions)
    found = photographs.curve_figures(curve, 0.5, 0.5)
    assert found["best"] == pytest.approx(100, abs=1e-3)
    assert found["auto"] == pytest.approx(90, abs=1e-3) and found["threshold"] == 0.5
    assert found["mean"] == pytest.approx((100 + 60) / 2, abs=1e-3)
    assert found["plateau"] == 50


def test_table_by_hand():
    one = {"best": 60.0, "auto": 58.0, "threshold": 0.5, "mean": 40.0, "plateau": 25.0}
    two = {**one, "best": 62.0}
    text = photographs.table({"CAM": [one, two], "full": [{"network": 70.0}, {"network": 72.0}]})
    heads, _, cam, full = text.splitlines()
    assert heads.startswith("| method | best threshold | `auto` threshold | chosen |")
    assert cam == ("| CAM | 61.0 ± 1.4 | 58.0 ± 0.0 | 0.50 ± 0.00 | 40.0 ± 0.0 | 25.0 ± 0.0 % |  |")
    assert full.endswith("|  |  |  |  |  | 71.0 ± 1.4 |")
    assert photographs.table({"AMN + PAR": [one]}).splitlines()[2] == (
        "| AMN + PAR | 60.0 | 58.0 | 0.50 | 40.0 | 25.0 % |"
    )
