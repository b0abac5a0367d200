"""The house as it is built: imports point one way, names are told apart, rooms have a size."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "workflow_scripts"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
    if path.name != "__init__.py"
}
MOST_LINES, MOST_MODULES = 500, 175
# From the lowest floor to the highest: what stands further down imports what stands further up, or its own
# floor. Stages, the modules of no folder, are on top.
FLOORS = (
    "errors", "fingerprint", "settings", "storage",
    "doors.door", "doors.usage", "doors.backbone", "backbones", "doors", "datasets", "datasets.kinds",
    "models", "methods", "segmenters", "console", "training", "evaluation", "refinement", "judging",
    "threshold_rules", "console.run_files", "report", "planning",
)  # fmt: skip


def imported(path: Path) -> set[str]:
    """Modules of the package that a module imports at its head."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("workflow_scripts"):
            room = node.module.removeprefix("workflow_scripts").lstrip(".")
            names = {f"{room}.{alias.name}".lstrip(".") for alias in node.names}
            found |= names & MODULES.keys() or {room} & MODULES.keys()
    return found


IMPORTS = {module: imported(path) for module, path in MODULES.items()}


def floor(module: str) -> int:
    """Number of the floor with the longest name that a module's begins with."""
    fitting = [name for name in FLOORS if module == name or module.startswith(name + ".")]
    return FLOORS.index(max(fitting, key=len)) if fitting else len(FLOORS)


def test_no_import_points_upwards():
    upwards = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if floor(other) > floor(module)
    ]
    assert not upwards


def test_no_imports_go_round():
    waiting = dict(IMPORTS)
    while free := [module for module, others in waiting.items() if not others & waiting.keys()]:
        for module in free:
            del waiting[module]
    assert not waiting


def test_nothing_imports_a_stage():
    stages = {module for module in MODULES if "." not in module} - {"errors", "fingerprint"}
    importers = {module for module, others in IMPORTS.items() if others & stages}
    assert importers <= {"__main__"}


def test_every_floor_is_there():
    for name in FLOORS:
        assert any(module == name or module.startswith(name + ".") for module in MODULES), name


def test_names_are_told_apart():
    names = Counter(module.rsplit(".", 1)[-1] for module in MODULES)
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_room_is_no_hall(module: str):
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_there_are_not_too_many_rooms():
    assert len(MODULES) <= MOST_MODULES
