from pathlib import Path

import pytest

from workflow_scripts.planning.fingerprint import _read, code_digests

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

    def digests(stage: str, **changes: str) -> dict[str, str]:
        _read.cache_clear()
        changed = {name.replace("__", "/", 1) + ".py": text for name, text in changes.items()}
        for name, text in {**FILES, **changed}.items():
            path = tmp_path / "workflow_scripts" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return code_digests(stage, tmp_path)

    yield digests
    _read.cache_clear()


def test_the_closure_of_imports(package):
    assert list(package("train_cam")) == ["errors", "models.cam", "train_cam"]
    assert list(package("train_amn")) == ["errors", "models.amn", "models.cam", "train_amn"]


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


def test_a_missing_stage(package):
    with pytest.raises(FileNotFoundError, match=r"train_camm"):
        package("train_camm")


def test_every_stage_knows_its_model_and_not_the_others():
    _read.cache_clear()
    cam, amn = code_digests("train_cam"), code_digests("train_amn")
    assert "models.cam" in cam and "models.amn" not in cam
    assert "models.amn" in amn and "models.cam" not in amn
    assert "settings.workflow" not in {*cam, *amn}
    assert "models.boundary" not in {*cam, *amn}
