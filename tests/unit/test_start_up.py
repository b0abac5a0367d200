"""What the import of a stage does not load: each of a run's jobs pays for it before it begins."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = {
    "torch", "torch._dynamo", "torchvision", "timm", "sympy", "numba", "scipy", "pandas", "matplotlib",
    "pycocotools", "snakemake", "onnx",
}  # fmt: skip
# Stages that need one of them for whatever they do; all other stages, none. Networks are built by functions
# that import torchvision or timm; the figures' libraries, numba and scipy come with the first use.
KERNELS, NETWORKS, FIGURES = {"numba", "scipy"}, {"torch"}, {"matplotlib"}
ALLOWED = {
    "refine_seeds": KERNELS, "make_pseudo_masks": KERNELS, "sweep_thresholds": KERNELS,
    "judge": KERNELS, "compare_thresholds": KERNELS,
    "plot_figures": FIGURES, "compare": FIGURES,
    "train": NETWORKS, "train_boundary": NETWORKS, "train_segmentation": NETWORKS, "infer": NETWORKS,
    "cache_features": NETWORKS,
    "evaluate_segmentation": NETWORKS, "propagate": NETWORKS, "predict": NETWORKS,
    "predict_labels": NETWORKS,
    "export_onnx": NETWORKS, "import_checkpoint": NETWORKS,
    "label": NETWORKS | KERNELS | {"pycocotools"},
}  # fmt: skip
STAGES = {path.stem for path in (REPOSITORY / "workflow_scripts").glob("[a-z]*.py")}
IMPORT = """
import importlib, sys
heavy, names = sys.argv[1].split(), sys.argv[2:]
seen = set()
for name in names:
    importlib.import_module(f"workflow_scripts.{name}")
    new = {module for module in heavy if module in sys.modules} - seen
    seen |= new
    print(name, *sorted(new))
"""


def loaded(*modules):
    """Heavy modules that each of some modules is the first to load, in one process."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, " ".join(HEAVY), *modules], cwd=REPOSITORY,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {name: set(new) for name, *new in map(str.split, done.stdout.splitlines())}


def test_light_stages_load_nothing_heavy():
    found = loaded(*sorted(STAGES - set(ALLOWED)))
    assert len(found) > 12
    assert {name: new for name, new in found.items() if new} == {}


@pytest.mark.parametrize(
    "allowed",
    [KERNELS, FIGURES, NETWORKS, ALLOWED["label"]],
    ids=["kernels", "figures", "networks", "label"],
)
def test_stages_load_what_they_need_alone(allowed):
    stages = sorted(name for name, heavy in ALLOWED.items() if heavy == allowed)
    assert stages and set(stages) <= STAGES
    for name, new in loaded(*stages).items():
        assert new <= allowed, name


def test_planning_loads_nothing_heavy():
    """Snakemake reads it at every start, and in every job of a cluster."""
    assert loaded("planning.workflow") == {"planning.workflow": set()}
