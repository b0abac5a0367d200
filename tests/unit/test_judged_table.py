"""The table of predicted beside true quality."""

import json
from pathlib import Path

import pytest

from workflow_scripts.errors import InputError
from workflow_scripts.report.judged_table import judged_part, read_judged


def test_trials_are_averaged_and_stand_beside_the_truth(tmp_path: Path) -> None:
    rows = [
        {"set": f"{trial}/amn/{source}", "miou": miou, "miou_low": miou - 5, "miou_high": miou + 6}
        for trial, source, miou in ((0, "auto", 50.0), (1, "auto", 60.0), (0, "t0.50", 40.0))
    ]
    path = tmp_path / "judged.json"
    path.write_text(json.dumps({"sets": rows, "fitted_on": ["220 photographs", "120 scenes"]}))
    figures = {"pseudo_masks": {"train": {"miou": {"mean": 53.21}}}}
    summary = {"methods": {"amn": {"by_threshold": {"auto": figures}}}}
    text = "".join(judged_part(read_judged(path), summary, "train"))
    for words in ("55.0", "50.0 … 61.0", "53.2", "40.0", "–", "Pseudo-masks of train"):
        assert words in text
    assert text.endswith("<ul><li>220 photographs</li><li>120 scenes</li></ul>")


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"sets": []}', '{"sets": [{"set": "mine", "miou": 3}]}']
)
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "judged.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"judged\.json: not what judge writes"):
        read_judged(path)
