"""What counts as code of a stage, and what an edit reruns."""

import shutil
from pathlib import Path

import pytest

from workflow_scripts.errors import InputError
from workflow_scripts.fingerprint import (
    CANNOT_CHANGE_RESULTS,
    PACKAGE,
    ROOT,
    _read,
    code_digests,
)

FILES = {
    "__init__.py": "",
    "errors.py": "class InputError(Exception):\n    pass\n",
    "models/__init__.py": "",
    "models/cam.py": '''"""A module."""
import numpy as np
from workflow_scripts.errors import InputError

FACTOR = 2


class Cam:
    """A class."""

    def double(self, x):
        """A function."""
        return FACTOR * x  # a remark
''',
    "models/amn.py": "from workflow_scripts.models.cam import Cam\n\nEPSILON = 0.4\n",
    "train_cam.py": "from workflow_scripts.models.cam import Cam\n",
    "train_amn.py": "def work():\n    from workflow_scripts.models import amn\n    return amn\n",
}


@pytest.fixture
def package(tmp_path: Path):
    """Writes a small package anew with some files changed, and returns a stage's digests."""

    def digests(stage: str, entries=(), files=(), **changes: str) -> dict[str, str]:
        _read.cache_clear()
        changed = {name.replace("__", "/", 1) + ".py": text for name, text in changes.items()}
        for name, text in {**FILES, **changed}.items():
            path = tmp_path / "workflow_scripts" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return code_digests(stage, entries=entries, files=files, root=tmp_path)

    yield digests
    _read.cache_clear()


def test_the_closure_of_imports(package):
    assert list(package("train_cam")) == ["models.cam", "train_cam"]
    assert list(package("train_amn")) == ["models.amn", "models.cam", "train_amn"]


def test_what_only_type_checkers_import_does_not_count(package):
    only = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from {} import {}\n"
    text = FILES["train_cam.py"] + only.format("workflow_scripts.models.amn", "EPSILON")
    after = package("train_cam", train_cam=text)
    assert "models.amn" not in after
    other = FILES["train_cam.py"] + only.format("workflow_scripts.models", "amn")
    assert package("train_cam", train_cam=other) == after


def test_comments_docstrings_and_formatting_do_not_count(package):
    before = package("train_cam")
    text = FILES["models/cam.py"]
    for old, new in (
        ("# a remark", "# another"),
        ('"""A module."""', '"""Other words, in\n\nmore lines."""\n\n'),
        ('"""A class."""', '"""Another class."""'),
        ('        """A function."""\n', ""),
        ("FACTOR * x", "(FACTOR\n                * x)"),
    ):
        assert old in text
        assert package("train_cam", models__cam=text.replace(old, new)) == before, old


def test_code_counts_and_is_named(package):
    before = package("train_amn")
    for old, new in (("FACTOR = 2", "FACTOR = 3"), ("FACTOR * x", "x * FACTOR")):
        after = package("train_amn", models__cam=FILES["models/cam.py"].replace(old, new))
        assert {name for name in after if after[name] != before[name]} == {"models.cam"}


def test_what_a_stage_does_not_import_does_not_count(package):
    before = package("train_cam")
    assert package("train_cam", models__amn="EPSILON = 0.1\n") == before


def test_a_parent_package_with_code_counts(package):
    before = package("train_cam")
    after = package("train_cam", models____init__="VALUE = 1\n")
    assert set(after) - set(before) == {"models"}


WORDS = '''"""A module."""
import logging

from pydantic import Field

from workflow_scripts.errors import InputError

logger = logging.getLogger(__name__)


class Settings:
    rate: float = Field(0.1, gt=0, description="how fast")


def work(value):
    if value < 0:
        raise InputError(f"rate: {value} is below 0; give more")
    logger.info("the rate is %.1f", value)
    return {"rate": value}
'''


@pytest.mark.parametrize(
    "old, new, counts",
    [
        ("how fast", "speed of learning", False),
        ("is below 0; give more", "is too low", False),
        (' is below 0; give more")', '" " is below 0;" " give more")', False),
        ("the rate is %.1f", "learning at %.3f", False),
        ('    logger.info("the rate is %.1f", value)\n', "", False),
        ("0.1, gt", "0.2, gt", True),
        ("value < 0", "value < 1", True),
        ('{"rate"', '{"value"', True),
        ("logging.getLogger(__name__)", 'logging.getLogger("x")', True),
    ],
)
def test_words_for_readers_do_not_count(package, old, new, counts):
    assert old in WORDS
    before = package("train_cam", models__cam=WORDS)
    after = package("train_cam", models__cam=WORDS.replace(old, new))
    assert (after != before) == counts


def test_an_entry_that_is_looked_up_by_name_counts_with_what_it_imports(package):
    door = "import importlib\n\n\ndef find(name):\n    return importlib.import_module(name)\n"
    assert list(package("train", train=door)) == ["train"]
    found = package("train", ["models.amn"], train=door)
    assert list(found) == ["models.amn", "models.cam", "train"]
    with pytest.raises(FileNotFoundError, match=r"models\.recam"):
        package("train", ["models.recam"], train=door)


def test_a_users_file_counts_with_what_it_imports(package, tmp_path):
    plugin = tmp_path / "my method.py"
    plugin.write_text("import numpy\nfrom workflow_scripts.models.amn import EPSILON\n")
    before = package("train_cam", (), [plugin])
    assert list(before) == ["models.amn", "models.cam", "train_cam", str(plugin)]
    plugin.write_text("# A remark.\n" + plugin.read_text())
    assert package("train_cam", (), [str(plugin)]) == before
    plugin.write_text(plugin.read_text() + "HALF = EPSILON / 2\n")
    after = package("train_cam", (), [plugin])
    assert {name for name in after if after[name] != before[name]} == {str(plugin)}


@pytest.mark.parametrize(
    "content, message",
    [
        (None, r"my_method\.py: no such file"),
        (b"x = 1\ny = (\n", r"my_method\.py, line 2: .*correct that line"),
        ("ü".encode("latin-1"), r"my_method\.py: expected Python in UTF-8"),
        (b"x = 1\0", r"my_method\.py, line 1: "),
    ],
)
def test_a_users_file_that_is_no_python(package, tmp_path, content, message):
    plugin = tmp_path / "my_method.py"
    if content is not None:
        plugin.write_bytes(content)
    with pytest.raises(InputError, match=message):
        package("train_cam", (), [plugin])


def test_a_missing_stage(package):
    with pytest.raises(FileNotFoundError, match=r"train_camm"):
        package("train_camm")


def test_every_stage_knows_its_model_and_not_the_others():
    _read.cache_clear()
    cam, amn = (code_digests("train", entries=[f"methods.{name}"]) for name in ("cam", "amn"))
    assert "methods.cam" in cam and "methods.amn" not in cam
    assert "methods.amn" in amn and "methods.cam" not in amn
    assert "planning.configuration" not in {*cam, *amn}
    assert "models.boundary" not in {*cam, *amn}


TRAINING = {"train", "train_boundary", "train_segmentation"}
# An edit in a copy of this package, and the stages whose digests change; "*" is every one.
EDITS = [
    ("console/stage.py", '"%s: done in %.1f s"', '"%s: ready after %.1f s"', set()),
    ("console/stage.py", "INTERRUPTED = 130", "INTERRUPTED = 131", set()),
    ("console/progress.py", "SECONDS_BETWEEN_LINES = 10.0", "SECONDS_BETWEEN_LINES = 5.0", set()),
    ("storage/ownership.py", "BEAT_SECONDS = 10.0", "BEAT_SECONDS = 5.0", set()),
    ("errors.py", "class InputError(Exception)", "class InputError(ValueError)", set()),
    ("training/loop.py", "the device waited for images", "the device was idle", set()),
    ("settings/training.py", "arithmetic of convolutions", "kind of arithmetic", set()),
    ("settings/base.py", "import difflib", "import difflib\nimport sys", "*"),
    ("training/optimisers.py", "POLYNOMIAL_POWER = 0.9", "POLYNOMIAL_POWER = 1", TRAINING),
    ("report/network_figures.py", "_FAST_SHARE = 0.002", "_FAST_SHARE = 0.01", {"plot_figures"}),
    (
        "refinement/random_walk.py",
        "NEGLIGIBLE = 1e-12",
        "NEGLIGIBLE = 1e-11",
        {"propagate", "label"},
    ),
]


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / PACKAGE, root / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def stages(root):
    return {path.stem for path in (root / PACKAGE).glob("[a-z]*.py")} - {"errors", "fingerprint"}


def all_digests(root):
    _read.cache_clear()
    return {stage: code_digests(stage, root=root) for stage in stages(root)}


@pytest.mark.parametrize("file, old, new, changed", EDITS)
def test_an_edit_changes_the_digests_of_what_depends_on_it(copied, file, old, new, changed):
    path = copied / PACKAGE / file
    text = path.read_text()
    assert old in text
    before = all_digests(copied)
    path.write_text(text.replace(old, new))
    try:
        after = all_digests(copied)
    finally:
        path.write_text(text)
        _read.cache_clear()
    assert {stage for stage in before if after[stage] != before[stage]} == (
        set(before) if changed == "*" else changed
    )


def test_rooms_that_cannot_change_results_exist():
    """A room that has moved must not silently count, nor a name that nothing bears hide another."""
    for name in CANNOT_CHANGE_RESULTS:
        assert (ROOT / PACKAGE / Path(*name.split("."))).with_suffix(".py").is_file(), name
