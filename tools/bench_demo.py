"""Measure the whole demo as it is against the demo with the usual implementations of its kernels.

Each round makes the demo twice, in turn, in fresh folders and on the same cores: once as it is, once with
pydensecrf2 (one run a threshold, one image after another), one numpy evaluation a threshold, and networks
in float32 and the contiguous memory format. Writes a JSON file: both wall times and their ratio, the
seconds of each stage, the differences of the headline figures, and the machine. With --table it measures
nothing and shows the tables of such a file, or puts them into a page.
"""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydantic import Field

from tools.benchmarks import dense_crf_seeds, threshold_sweep
from tools.benchmarks.command import MeasuringCommand, MeasuringFiles
from tools.benchmarks.demo_comparison import compare
from tools.benchmarks.demo_run import DemoRun, run_demo
from tools.benchmarks.demo_table import BEGIN, END, demo_table
from tools.benchmarks.scenes import scenes
from workflow_scripts.errors import InputError
from workflow_scripts.refinement.dense_crf import WIDEST, refine
from workflow_scripts.settings.evaluation import SweepSettings

logger = logging.getLogger(__name__)

SMALL = {"images": 1, "height": 41, "width": 53}


class Files(MeasuringFiles):
    """What to run, and outputs."""

    output: Path = Field(Path("results/bench/demo.json"), description="file to write (JSON)")
    configfile: tuple[Path, ...] = Field(
        (Path("config/config.yaml"),),
        min_length=1,
        description="configuration of both runs, as for snakemake",
    )
    rounds: int = Field(1, ge=1, description="how often both are run")
    folder: Path | None = Field(
        None, description="empty folder in which the runs are kept; removed if left out"
    )
    study: Path | None = Field(
        None,
        description="summary.json of several trials, whose deviations stand beside the differences",
    )


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


def run_pairs(files: Files, folder: Path) -> list[tuple[DemoRun, DemoRun]]:
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


def measure(files: Files) -> dict[str, Any]:
    """Run the pairs and compare them."""
    for path in files.configfile:
        if not path.is_file():
            raise InputError(f"--configfile: {path}: no such file")
    study = _read_study(files.study)
    warm_up()
    with _folder(files.folder) as folder:
        return compare(run_pairs(files, folder), study)


COMMAND = MeasuringCommand(
    "tools.bench_demo", "make bench-demo", __doc__, Files, measure, demo_table, (BEGIN, END)
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return COMMAND.run(argv)


if __name__ == "__main__":
    sys.exit(main())
