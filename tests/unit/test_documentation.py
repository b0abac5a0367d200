"""Documents are in step with what they describe."""

import re
from pathlib import Path

import pytest

from tools.documentation import (
    GRAPH_BEGIN,
    GRAPH_END,
    between,
    configuration_page,
    rule_graph,
    schema,
    with_graph,
)
from tools.result_table import BEGIN, END, result_table
from tools.threshold_table import BEGIN as RULES_BEGIN
from tools.threshold_table import END as RULES_END
from tools.threshold_table import tables as rule_tables
from workflow_scripts.planning.configuration import WorkflowSettings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RENEW = "run `make docs`"


def test_configuration_page_is_in_step():
    assert (ROOT / "config/README.md").read_text(encoding="utf-8") == configuration_page(), RENEW


def test_schema_is_in_step():
    assert (ROOT / "config/schema.json").read_text(encoding="utf-8") == schema(), RENEW


def test_rule_graph_is_in_step():
    assert with_graph(README, rule_graph()) == README, RENEW


def test_every_key_is_described():
    page = configuration_page()
    for name in WorkflowSettings.model_fields:
        assert f"`{name}`" in page or f"`{name}:" in page
    for row in (line for line in page.splitlines() if line.startswith("| `")):
        key, kind, _, _, meaning = re.split(r"(?<!\\) \| ", row.strip("| "))
        assert kind and meaning, key


def test_defaults_are_the_stages_own():
    page = configuration_page()
    section = page[page.index("## `train_segmentation`") : page.index("## `evaluate_segmentation`")]
    assert "| `training.batch_size` | whole number | `10` | ≥ 1 |" in section
    assert '| `backbone.name` | text | `"resnet101"` |' in section


def test_markers_are_needed_and_stay():
    text = f"a\n{GRAPH_BEGIN}\nold\n{GRAPH_END}\nb\n"
    once = with_graph(text, "flowchart TB")
    assert with_graph(once, "flowchart TB") == once
    assert once.startswith("a\n") and once.endswith("b\n") and "old" not in once
    with pytest.raises(ValueError, match="lacks the lines"):
        with_graph("nothing", "flowchart TB")


def figure(mean: float, std: float | None = None) -> dict:
    return {"mean": mean, "std": std, "values": [mean]}


def test_result_table_by_hand():
    """The reference needs no threshold: its one network stands in every column."""
    activations = {
        "best_miou": figure(61.26, 1.04),
        "mean_miou": figure(40, 2),
        "plateau": figure(0.25, 0.01),
    }
    networks = {
        key: {"segmentation": {"val": {"miou": figure(value, 0.5)}}}
        for key, value in (("0.50", 52), ("0.30", 48))
    }
    summary = {
        "run": "study", "images": {"train": 400, "val": 120}, "trials": 3,
        "methods": {
            "amn": {"activations": {"val": activations}, "by_threshold": networks},
            "full": {"segmentation": {"val": {"miou": figure(66)}}},
        },
    }  # fmt: skip
    rows = result_table(summary).splitlines()
    assert (
        rows[2] == "| AMN | 61.3 ± 1.0 | 40.0 ± 2.0 | 25.0 ± 1.0 % |  | 48.0 ± 0.5 | 52.0 ± 0.5 |"
    )
    assert rows[3] == "| fully supervised reference |  |  |  |  | 66.0 | 66.0 |"
    assert rows[0].endswith("| network from masks at 0.30 | network from masks at 0.50 |")
    assert rows[-1] == "Run `study`: 400 train images, 120 val images, 3 trials."


def test_the_readme_has_a_place_for_results():
    assert "| AMN | 1 |" in between(README, BEGIN, END, "| AMN | 1 |")


def test_tables_of_rules_by_hand():
    def row(run, trial, method, rule, threshold, regret):
        return {
            "run": run, "trial": trial, "method": method, "split": "train", "rule": rule,
            "threshold": threshold, "miou": str(60 - float(regret)), "best_threshold": "0.6",
            "best_miou": "60", "regret": regret,
        }  # fmt: skip

    study = [
        row("study", "0", "cam", "otsu", "0.4", "5"),
        row("study", "1", "cam", "otsu", "0.5", "3"),
        row("study", "0", "cam", "colours", "0.6", "0"),
        row("study", "1", "cam", "colours", "0.6", "0.5"),
        row("study", "0", "amn", "otsu", "0.4", "1"),
        row("study", "0", "amn", "colours", "0.5", "2"),
        row("study", "0", "amn", "agreement with cam", "0.5", "9"),
    ]
    other = [row("small", "0", "cam", "otsu", "0.2", "12")]
    lines = rule_tables([study, other]).splitlines()
    assert lines[0] == "Run `study`, split train, 2 trial(s):"
    assert lines[2].startswith(
        "| rule | CAM (best 60.0 at 0.60): threshold | mIoU | regret (trials) | AMN"
    )
    assert lines[4] == "| colours | 0.60 | 59.8 | 0.2 (0.0, 0.5) | 0.50 | 58.0 | 2.0 (2.0) |"
    assert lines[6].startswith("| agreement |")
    assert (
        lines[10]
        == "| rule | study train, CAM | study train, AMN | small train, CAM | mean | largest |"
    )
    assert "| otsu | 4.0 | 1.0 | 12.0 | 5.7 | 12.0 |" in lines


def test_the_document_of_rules_has_a_place_for_them():
    text = (ROOT / "docs/thresholds.md").read_text(encoding="utf-8")
    assert "| otsu |" in between(text, RULES_BEGIN, RULES_END, "| otsu |")


def test_what_the_readme_names_exists():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link
    for name in re.findall(r"\b(?:config|envs|resources|slurm|rules|tests)/[\w./-]*\w", README):
        assert (ROOT / name).exists(), name
    for module in re.findall(r"python -m\s((?:workflow_scripts|tools)\.[\w.]+)", README):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


def test_commands_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)`", README)) | set(
        re.findall(r"^make ([a-z]+)", README, re.MULTILINE)
    )
    assert named and named <= targets, named - targets
