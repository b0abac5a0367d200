"""Flags made from settings, and how a stage starts and ends."""

import errno
import importlib
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, Field

from workflow_scripts.console.arguments import parse
from workflow_scripts.console.stage import StageFiles, run_stage
from workflow_scripts.errors import InputError
from workflow_scripts.methods.cam import TrainCamSettings
from workflow_scripts.planning.configuration import read_configuration
from workflow_scripts.settings.base import Settings, leaves, render_flags
from workflow_scripts.settings.refinement import CrfSettings

CONFIG = Path(__file__).resolve().parents[2] / "config"
NO_VALUES: dict[str, Any] = {}


class NoFiles(StageFiles):
    """Nothing beside log and threads."""


@pytest.fixture(autouse=True)
def root_logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Log handlers, number of threads and its environment as they were."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers, root.level = handlers, level


def stage_settings() -> dict[str, Settings]:
    """Settings of every stage: the defaults, and what the configuration files say."""
    found: dict[str, Settings] = {}
    files = {"default": {"dataset": {"kind": "demo"}}}
    for name in ("config", "voc12", "coco14", "folder"):
        files[name] = yaml.safe_load((CONFIG / f"{name}.yaml").read_text())
    for name, values in files.items():
        workflow = read_configuration(values, name)
        for field in type(workflow).model_fields:
            value = getattr(workflow, field)
            # Files take the place of stages: no stage has these as its settings.
            if isinstance(value, Settings) and field != "checkpoints":
                found[f"{name}-{field}"] = value
    found["seeds"] = workflow.refine_seeds.amn
    found["boundary"] = workflow.boundary.train
    return found


STAGE_SETTINGS = stage_settings()


@pytest.mark.parametrize("name", STAGE_SETTINGS)
def test_flags_give_the_settings_back(name: str):
    settings = STAGE_SETTINGS[name]
    _, parsed = parse(None, NoFiles, type(settings), shlex.split(render_flags(settings)), "stage")
    assert parsed == settings
    assert render_flags(parsed) == render_flags(settings)


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value * 2
    return value


@pytest.mark.parametrize("model", [TrainCamSettings, CrfSettings])
def test_every_flag_sets_its_field(model: type[Settings]):
    for path, value in leaves(model()):
        if other(value) == value or path[-1] == "frozen_stages":
            continue
        changed: Any = other(value)
        for key in reversed(path):
            changed = {key: changed}
        settings = model.model_validate(changed)
        assert settings != model(), path
        _, parsed = parse(None, NoFiles, model, shlex.split(render_flags(settings)), "stage")
        assert parsed == settings, path


def test_strange_words_survive_the_shell():
    class Words(Settings):
        word: str = "a"
        words: tuple[str, ...] = ("b",)
        path: Path | None = None

    given = Words(word='it\'s 100 % "x" $HOME', words=("a b", "", "ü;*"), path=Path("my file"))
    assert parse(None, NoFiles, Words, shlex.split(render_flags(given)), "stage")[1] == given
    empty = Words(words=())
    assert parse(None, NoFiles, Words, shlex.split(render_flags(empty)), "stage")[1] == empty


def test_values_out_of_range_name_the_field(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(InputError) as error:
        parse(
            None, NoFiles, TrainCamSettings, ["--training-epochs", "0", "--threads", "1"], "stage"
        )
    assert "stage: 1 problem(s)" in str(error.value)
    assert "training.epochs: Input should be greater than or equal to 1 (got '0')" in str(
        error.value
    )


def test_an_unknown_flag_ends_with_exit_code_2(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        parse(None, NoFiles, CrfSettings, ["--iteration", "3"], "stage")
    assert ended.value.code == 2
    assert "unrecognized arguments: --iteration 3" in capsys.readouterr().err


STAGES = {
    "train cam": ["--training-epochs N", "(default: 5)", "(default: resnet50)"],
    "infer cam": ["--scales [X ...]", "(default: 1.0 0.5 1.5 2.0)"],
    "refine_seeds": ["--foreground-threshold", "(default: 0.3)", "--crf-bilateral-sxy"],
    "train amn": ["--no-label-conditioning", "(default: 6 12 18 24)", "(default: adam)"],
    "infer amn": ["--seeds PATH", "(required)"],
    "make_pseudo_masks": ["--refinement {crf,par,none}", "(default: crf)"],
    "sweep_thresholds": ["--step X", "(default: 0.01)"],
    "train_segmentation": ["--backbone-output-stride N", "(default: 8)", "(default: 0.00025)"],
    "evaluate_segmentation": ["--no-flip", "(default: False)", "(default: 67.0)"],
    "evaluate_masks": ["--masks PATH"],
    "summarise": ["--bootstrap-draws N", "(default: 1000)"],
    "train_boundary": ["--radius N", "(default: 10)"],
    "propagate": ["--exponent X", "(default: 1.3)"],
}


def started(stage: str, *arguments: str) -> int:
    """Run a stage by its module's name, and its entry's where it has one."""
    module, *entry = stage.split()
    code: int = importlib.import_module(f"workflow_scripts.{module}").main([*entry, *arguments])
    return code


@pytest.mark.parametrize("stage", STAGES)
def test_help_states_inputs_outputs_and_defaults(stage: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        started(stage, "--help")
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "inputs, outputs:" in text
    assert "--log PATH" in text and "--index PATH" in text
    for expected in STAGES[stage]:
        assert expected in text


@pytest.mark.parametrize("stage", STAGES)
def test_missing_inputs_are_all_named(stage: str, capsys: pytest.CaptureFixture[str]):
    assert started(stage) == 2
    text = capsys.readouterr().err
    assert f"python -m workflow_scripts.{stage}: " in text
    assert "index: missing" in text
    assert "Traceback" not in text and len(text.splitlines()) < 20


@pytest.mark.parametrize("stage", ["train cam", "infer cam", "refine_seeds"])
def test_a_missing_index_is_one_line(stage: str, tmp_path, capsys: pytest.CaptureFixture[str]):
    flags = {"train cam": [], "infer cam": ["--split", "train", "--model", "m"]}.get(
        stage, ["--split", "train", "--activations", "a", "--composition", "c"]
    )
    arguments = ["--index", str(tmp_path / "index.csv"), "--output", str(tmp_path / "out"), *flags]
    assert started(stage, *arguments) == 2
    text = capsys.readouterr().err
    assert f"{stage}: error: " in text and "index.csv" in text
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()


def ended(work: Any, tmp_path: Path, *flags: str) -> tuple[int, str]:
    log = tmp_path / "logs" / "stage.log"
    code = run_stage(
        "refine_seeds", "Words.", NoFiles, CrfSettings, work, ["--log", str(log), *flags]
    )
    return code, log.read_text()


def raising(error: BaseException) -> Any:
    def work(files: BaseModel, settings: BaseModel) -> None:
        raise error

    return work


def test_a_stage_that_ends_well(tmp_path: Path):
    seen = []
    code, log = ended(lambda *given: seen.append(given), tmp_path, "--iterations", "3")
    assert code == 0
    assert seen[0][1] == CrfSettings(iterations=3)
    assert "$ python -m workflow_scripts.refine_seeds --log" in log
    assert "--iterations 3" in log and "done in" in log


def test_a_users_mistake_has_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code, log = ended(raising(InputError("cat.jpg: cut off; copy it again")), tmp_path)
    assert code == 2
    for text in (log, capsys.readouterr().err):
        assert "refine_seeds: error: cat.jpg: cut off; copy it again" in text
        assert "Traceback" not in text


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "your quota of disk space is used up"),
        (errno.EFBIG, "the limit of a file's size is reached"),
    ],
)
def test_a_full_disk_has_no_traceback(tmp_path: Path, number: int, words: str):
    code, log = ended(raising(OSError(number, "No space left", "out.zip")), tmp_path)
    assert code == 1
    assert f"{words} at out.zip; free some space, run again" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_terminals_of_any_encoding(tmp_path: Path, encoding: str):
    """Words of the field's signs and file names of any bytes, on a terminal that lacks them."""
    name = os.fsencode(tmp_path / "bild ×") + b"\xfc.csv"
    stage = [sys.executable, "-m", "workflow_scripts.evaluate_masks"]
    for arguments in (["--help"], ["--index", name, "--output", name, "--log", tmp_path / "log"]):
        done = subprocess.run(
            [*stage, *arguments], cwd=CONFIG.parent, capture_output=True, timeout=60, check=False,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )  # fmt: skip
        assert done.returncode in (0, 2)
        assert b"Traceback" not in done.stderr and b"Logging error" not in done.stderr


def test_a_defect_keeps_its_traceback(tmp_path: Path):
    code, log = ended(raising(ZeroDivisionError("a defect of ours")), tmp_path)
    assert code == 1
    assert "Traceback" in log and "a defect of ours" in log


def test_an_interrupted_stage(tmp_path: Path):
    code, log = ended(raising(KeyboardInterrupt()), tmp_path)
    assert code == 130
    assert "Traceback" not in log


def test_required_fields_and_defaults_in_help(capsys: pytest.CaptureFixture[str]):
    class Files(StageFiles):
        source: Path = Field(description="at most 5 % of it")
        kind: Literal["auto", "given"] = "auto"

    with pytest.raises(SystemExit):
        parse("What it does.", Files, CrfSettings, ["--help"], "stage")
    text = " ".join(capsys.readouterr().out.split())
    assert "What it does." in text
    assert "at most 5 % of it (required)" in text
    assert "{auto,given}" in text
