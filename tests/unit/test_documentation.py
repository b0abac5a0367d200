"""Documents are in step with what they describe."""

import os
import re
import subprocess
import sys
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
from tools.result_table import BEGIN, END, SHORT, result_table
from tools.site_pages import _link
from tools.threshold_table import BEGIN as RULES_BEGIN
from tools.threshold_table import END as RULES_END
from tools.threshold_table import tables as rule_tables
from workflow_scripts.planning.configuration import WorkflowSettings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "docs/results.md").read_text(encoding="utf-8")
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
}
RENEW = "run `make docs`"


def test_configuration_page_is_in_step():
    assert (ROOT / "config/README.md").read_text(encoding="utf-8") == configuration_page(), RENEW


def test_schema_is_in_step():
    assert (ROOT / "config/schema.json").read_text(encoding="utf-8") == schema(), RENEW


def test_rule_graph_is_in_step():
    assert with_graph(CONTRIBUTING, rule_graph()) == CONTRIBUTING, RENEW


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


@pytest.mark.parametrize("page", [README, RESULTS], ids=["README", "results"])
def test_pages_have_a_place_for_results(page):
    assert "| AMN | 1 |" in between(page, BEGIN, END, "| AMN | 1 |")


def test_the_short_table_is_a_part_of_the_long_one():
    """Both are of one run."""

    rows = [
        [
            [cell.strip() for cell in row.strip("| ").split("|")]
            for row in part
            if row.startswith("|")
        ]
        for part in (
            page[page.index(BEGIN) : page.index(END)].splitlines() for page in (README, RESULTS)
        )
    ]
    short, full = ({head: cells for head, *cells in zip(*table, strict=True)} for table in rows)
    assert len(short) == len(SHORT) + 1 and short.items() <= full.items()


def test_the_readme_is_short():
    assert len(README.encode()) <= 9 * 1024


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


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_a_document_names_exists(name):
    page, folder = DOCUMENTS[name], (ROOT / name).parent
    for link in re.findall(r"\]\(([^)#\s]+)", page):
        place = folder / link.replace("reference/configuration.md", "../config/README.md").replace(
            "contributing.md", "../CONTRIBUTING.md"
        )
        assert link.startswith("https://") or place.exists(), link
    for found in re.findall(r"\b(?:config|envs|resources|slurm|rules|tests)/[\w./-]*\w", page):
        assert (ROOT / found).exists() or "{" in page, found
    for module in re.findall(r"python -m\s((?:workflow_scripts|tools)\.[\w.]+)", page):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_of_a_document_exist(name):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`", DOCUMENTS[name])) | set(
        re.findall(r"^make ([a-z-]+)", DOCUMENTS[name], re.MULTILINE)
    )
    assert named <= targets, named - targets
    assert named or name != "README.md"


def test_the_site_has_every_page_and_no_broken_link(tmp_path):
    """As in CI, with the warnings of the builder as errors."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {
        path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.html")
    }
    assert {"index.html", "photographs.html", "reference/configuration.html"} <= pages.keys()
    for name, page in pages.items():
        loaded = re.findall(r"<(?:script|link|img)[^>]* (?:src|href)=\"?(https?://[^\"\s>]+)", page)
        assert [address for address in loaded if "canonical" not in address] == [], name


def test_links_of_the_site_follow_pages_from_outside():
    assert (
        _link("Python", "../workflow_scripts/train.py", "docs/use.md", "use.md")
        == "`workflow_scripts/train.py`"
    )
    assert (
        _link("all keys", "config/README.md#x", "README.md", "index.md")
        == "[all keys](reference/configuration.md#x)"
    )
    assert (
        _link("use", "../docs/use.md", "config/README.md", "reference/configuration.md")
        == "[use](../use.md)"
    )
    assert _link("gone", "gone.md", "docs/use.md", "use.md") == "[gone](gone.md)"


def test_all_is_what_snakemake_makes_without_a_target():
    """A target of an included file is never the default one, whatever its rule says."""
    text = (ROOT / "Snakefile").read_text()
    [rule] = re.findall(r"^rule (\w+):\n +default_target: True", text, re.MULTILINE)
    assert rule == "all"
    included = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    assert "default_target" not in included
