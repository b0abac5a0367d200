"""Kernels are compiled once, again when what they use has changed, and anywhere at all."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.caching import CacheImpl

from workflow_scripts.storage.compiled import compiled

PACKAGE = Path(__file__).resolve().parents[2] / "workflow_scripts"


def compilations(root):
    """How many functions a new process compiles that calls the one in `root`."""
    code = (
        "from workflow_scripts.refinement.sample import plus_one\n"
        "plus_one(1)\n"
        "print(sum(plus_one.dispatcher.stats.cache_misses.values()))\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(root / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, cwd=root, capture_output=True
    )
    return int(done.stdout)


def test_compiled_code_is_kept_until_an_imported_module_changes(tmp_path):
    package = tmp_path / "workflow_scripts"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    constant = package / "storage" / "constant.py"
    constant.write_text("ONE = 1\n")
    (package / "refinement" / "sample.py").write_text(
        "from workflow_scripts.storage.compiled import compiled\n"
        "from workflow_scripts.storage.constant import ONE\n"
        "@compiled\n"
        "def plus_one(x):\n"
        "    return x + ONE\n"
    )
    assert [compilations(tmp_path), compilations(tmp_path)] == [1, 0]
    constant.write_text("ONE = 1.0\n")
    assert compilations(tmp_path) == 1


@pytest.fixture
def nowhere_to_write(monkeypatch):
    """Neither beside the source nor in a cache folder of the user's."""
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])


def test_works_where_no_compiled_code_can_be_kept(nowhere_to_write):
    assert compiled(lambda x: x + 1)(2) == 3


@pytest.mark.parametrize(
    "module",
    [
        "evaluation/sweep_kernel",
        "storage/activation_maps",
        "refinement/dense_crf",
        "refinement/lattice",
    ],
)
def test_every_kernel_can_be_imported_there(nowhere_to_write, module):
    runpy.run_path(str(PACKAGE / f"{module}.py"))


def test_the_sweep_counts_pixels_there(nowhere_to_write):
    names = runpy.run_path(str(PACKAGE / "evaluation/sweep_kernel.py"))
    thresholds = np.array([0.5])
    channel_of_class = np.full(256, -1)
    channel_of_class[1] = 0
    counts, *_ = names["histogram_of_image"](
        np.ones((1, 4, 4), np.float32),
        np.ones((4, 4), np.uint8),
        channel_of_class,
        1,
        thresholds,
        names["first_bins"](thresholds),
    )
    assert counts[1, 0].tolist() == [0, 16]


@pytest.fixture
def module(tmp_path):
    """A package with one kernel, whose compiled code is kept in a folder `cache`."""
    package = tmp_path / "workflow_scripts"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "refinement" / "sample.py").write_text(
        "from workflow_scripts.storage.compiled import compiled\n"
        "@compiled\n"
        "def plus_one(x):\n"
        "    return x + 1\n"
    )
    return tmp_path


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT", "EROFS"])
def test_a_disk_that_takes_nothing_ends_no_stage(module, number):
    code = (
        "import errno, logging, os, tempfile\n"
        "from numba.core.caching import IndexDataCacheFile\n"
        "def full(*_):\n"
        f"    raise OSError(errno.{number}, os.strerror(errno.{number}), 'sample.nbi')\n"
        "IndexDataCacheFile.save = full\n"
        "logging.basicConfig()\n"
        "from workflow_scripts.refinement.sample import plus_one\n"
        "print(plus_one(1), plus_one(1.5))\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(module / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=module, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout == "2 2.5\n", done.stderr
    assert done.stderr.count("compiled code cannot be kept") == 1


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_damaged_files_are_made_anew(module, ending):
    assert compilations(module) == 1
    (kept,) = (module / "cache").rglob(f"*plus_one*.{ending}")
    for content in (b"", kept.read_bytes()[:-20], b"\x80\x05junk"):
        kept.write_bytes(content)
        assert compilations(module) == 1
        assert compilations(module) == 0
