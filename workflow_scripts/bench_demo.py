"""Measure the whole demo as it is against the demo with the usual implementations of its kernels.

Each round makes the demo twice, in turn, in fresh folders and on the same cores: once as it is, once with
pydensecrf2 (one run a threshold, one image after another), one numpy evaluation a threshold, and networks
in float32 and the contiguous memory format. Writes a JSON file: both wall times and their ratio, the
seconds of each stage, the differences of the headline figures, and the machine. With --table it measures
nothing and shows the tables of such a file, or puts them into a page.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydantic import Field

from workflow_scripts.benchmarks import dense_crf_seeds, threshold_sweep
from workflow_scripts.benchmarks.demo_comparison import compare
from workflow_scripts.benchmarks.demo_run import DemoRun, run_demo
from workflow_scripts.benchmarks.demo_table import BEGIN, COMMAND, END, demo_table
from workflow_scripts.benchmarks.scenes import scenes
from workflow_scripts.benchmarks.surroundings import write
from workflow_scripts.benchmarks.table import insert, read_bench
from workflow_scripts.console.stage import NoSettings, StageFiles, run_stage
from workflow_scripts.errors import InputError
from workflow_scripts.refinement.dense_crf import refine
from workflow_scripts.refinement.mean_field import WIDEST
from workflow_scripts.settings.evaluation import SweepSettings

logger = logging.getLogger(__name__)

SMALL = {"images": 1, "height": 41, "width": 53}


class Files(StageFiles):
    """What to run, and outputs."""

    output: Path = Field(Path("results/bench/demo.json"), description="file to write (JSON)")
    configfile: tuple[Path, ...] = Field(
        (Path("config/config.yaml"),),
        min_length=1,
        description="configuration of both runs, as for snakemake",
    )
    rounds: int = Field(1, ge=1, description="how often both are run")
    threads: int = Field(os.cpu_count() or 1, ge=1, description="processor cores of each run")
    folder: Path | None = Field(
        None, description="empty folder in which the runs are kept; removed if left out"
    )
    study: Path | None = Field(
        None,
        description="summary.json of several trials, whose deviations stand beside the differences",
    )
    table: Path | None = Field(None, description="demo.json to show as Markdown tables")
    page: Path | None = Field(
        None, description="with --table: page whose lines between the markers the tables replace"
    )

    @property
    def owned(self) -> Path | None:
        """The output, unless nothing is measured."""
        return self.output if self.table is None else None


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """Where the runs are made; raises InputError where something lies there."""
    if given is None:
        with TemporaryDirectory() as name:
            yield Path(name)
    elif given.exists() and any(given.iterdir()):
        raise InputError(f"--folder: {given} is not empty; name another one")
    else:
        yield given.resolve()


def _read_study(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        study: dict[str, Any] = json.loads(path.read_text("utf-8"))
        study["methods"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"--study: {path} is no summary.json of a run ({error!r})") from None
    return study


def warm_up() -> None:
    """Compile the kernels, which are then kept, and find out early whether the reference is there.

    Those of the CRF are compiled for every width of its table that they come in.
    """
    dense_crf_seeds.measure(1, **SMALL)
    threshold_sweep.measure(1, **SMALL, passes=1)
    (scene,) = scenes(1, SMALL["height"], SMALL["width"])
    for columns in range(4, WIDEST + 1, 4):
        unary = np.zeros((columns + 1, scene.height, scene.width), np.float32)
        refine(scene.image, unary, SweepSettings().crf)


def measure(files: Files, folder: Path) -> list[tuple[DemoRun, DemoRun]]:
    """(reference, ours) of each round; who goes first alternates."""
    runs = []
    for number in range(files.rounds):
        done: dict[bool, DemoRun] = {}
        for reference in (False, True) if number % 2 == 0 else (True, False):
            name = f"{'reference' if reference else 'ours'}-{number}"
            done[reference] = run_demo(folder / name, files.configfile, files.threads, reference)
            compiled = done[reference].compilations
            logger.info("%s: %.1f s, %d kernels compiled", name, done[reference].seconds, compiled)
        runs.append((done[True], done[False]))
    return runs


def work(files: Files, settings: NoSettings) -> None:
    """Measure and write, or show what was measured."""
    if files.table is not None:
        text = demo_table(read_bench(files.table, COMMAND))
        if files.page is None:
            print(text)
        else:
            insert(text, files.page, (BEGIN, END))
        return
    if files.page is not None:
        raise InputError("--page: needs --table, the demo.json that the page is to show")
    for path in files.configfile:
        if not path.is_file():
            raise InputError(f"--configfile: {path}: no such file")
    study = _read_study(files.study)
    warm_up()
    with _folder(files.folder) as folder:
        measured = compare(measure(files, folder), study)
    print(demo_table(write(files.output, measured, files.threads)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_stage("bench_demo", __doc__, Files, NoSettings, work, argv)


if __name__ == "__main__":
    sys.exit(main())
