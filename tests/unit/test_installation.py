"""The package as `pip install .` makes it, used from another folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workflow_scripts.__main__ import COMMANDS, main, shown, summary

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = ("pyproject.toml", "README.md", "LICENSE", "envs", "workflow_scripts")


@pytest.fixture(scope="module")
def wsss(tmp_path_factory):
    """Runs the installed `wsss` in a folder, with nothing of the checkout in reach."""
    folder = tmp_path_factory.mktemp("installation")
    source, target = folder / "source", folder / "target"
    source.mkdir()
    for part in PARTS:
        if (REPOSITORY / part).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / part, source / part, ignore=ignore)
        else:
            shutil.copy2(REPOSITORY / part, source / part)
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
            "--disable-pip-version-check", "--no-index", "--target", target, source,
        ],
        check=True, cwd=folder, capture_output=True, timeout=300,
    )  # fmt: skip
    shutil.rmtree(source)
    # What pip's `--target` leaves to the user: where Python looks for packages.
    environment = {**os.environ, "PYTHONPATH": str(target)}

    def run(*arguments, cwd):
        return subprocess.run(
            [target / "bin" / "wsss", *map(str, arguments)], cwd=cwd, env=environment,
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    run.target = target
    return run


def test_help_lists_the_commands(wsss, tmp_path):
    done = wsss("--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"  {shown(name)} " in done.stdout
    assert "Compare a folder of predicted masks with a folder of true ones." in done.stdout
    version = wsss("--version", cwd=tmp_path).stdout.strip()
    assert f'version = "{version}"' in (REPOSITORY / "pyproject.toml").read_text()


def test_masks_are_evaluated_from_another_folder(wsss, tmp_path):
    truth = np.zeros((4, 4), np.uint8)
    truth[:2] = 1
    predicted = truth.copy()
    predicted[0, 0] = 0
    for folder, mask in (("truth", truth), ("masks", predicted)):
        (tmp_path / folder).mkdir()
        Image.fromarray(mask).save(tmp_path / folder / "a.png")
        Image.fromarray(truth).save(tmp_path / folder / "b.png")
    done = wsss("evaluate", "--pred", "masks", "--truth", "truth", "--out", "f.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["miou"] == pytest.approx(100 * (15 / 16 + 16 / 17) / 2)


def test_what_the_report_is_made_of_is_installed(wsss):
    for path in (REPOSITORY / "workflow_scripts").rglob("*"):
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts:
            name = path.relative_to(REPOSITORY)
            assert (wsss.target / name).is_file(), name
    assert not (wsss.target / "tools").exists() and not (wsss.target / "tests").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_what_it_does(command):
    assert summary(command).endswith(".")


def test_an_unknown_command(capsys):
    assert main(["evaluat"]) == 2
    assert "there is no command `evaluat`; there are predict, label" in capsys.readouterr().err


def test_a_command_gets_its_flags(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["resize-dataset", "--help"])
    assert ended.value.code == 0
    assert "--" in capsys.readouterr().out
