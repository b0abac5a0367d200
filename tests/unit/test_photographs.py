"""The table of methods on one's own photographs: what is run, and how it is shown."""

import pytest

from tools import photographs
from workflow_scripts.errors import InputError
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


def test_table_by_hand():
    one = {
        "best_miou": 60.0, "auto_miou": 58.0, "auto_threshold": 0.5, "mean_miou": 40.0, "plateau": 0.25,
    }  # fmt: skip
    two = {**one, "best_miou": 62.0}
    text = photographs.table({"cam": [one, two], "full": [{"network": 70.0}, {"network": 72.0}]})
    heads, _, cam, full = text.splitlines()
    assert heads.startswith("| method | best threshold | `auto` threshold | chosen |")
    assert cam == ("| CAM | 61.0 ± 1.4 | 58.0 ± 0.0 | 0.50 ± 0.00 | 40.0 ± 0.0 | 25.0 ± 0.0 % |  |")
    assert full.endswith("|  |  |  |  |  | 71.0 ± 1.4 |")
    assert photographs.table({"amn": [one]}).splitlines()[2] == (
        "| AMN | 60.0 | 58.0 | 0.50 | 40.0 | 25.0 % |"
    )
