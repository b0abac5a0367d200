"""Runs of the demo with the usual kernels against runs of it as it is: times, stages and figures."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from tools.benchmarks.comparison import Comparison
from tools.benchmarks.demo_run import DemoRun
from workflow_scripts.errors import InputError
from workflow_scripts.evaluation.summary import flatten

Runs = Sequence[tuple[DemoRun, DemoRun]]
Place = tuple[str, str, str, str, str]
PLACE = ("method", "section", "split", "threshold", "figure")
HEADLINES = {
    "activations": ("best_miou", "mean_miou", "refined_mean_miou"),
    "pseudo_masks": ("miou",),
    "segmentation": ("miou",),
}
NOTE = (
    "reference: pydensecrf2, one run a threshold; one numpy evaluation a threshold; networks in float32, "
    "contiguous; storage and all else are ours in both"
)


def headlines(summary: Mapping[str, Any]) -> dict[Place, tuple[float, float | None]]:
    """Mean and standard deviation over trials of the figures that a run is known by, in percent.

    Those of masks and networks stand at their source of pseudo-masks, so that runs of several sources can
    be compared with runs of one.
    """
    found = {}
    for row in flatten(summary["methods"]):
        of_source = row["section"] != "activations"
        if row["figure"] in HEADLINES.get(row["section"], ()) and of_source == bool(
            row["threshold"]
        ):
            place = tuple(row[name] for name in PLACE)
            found[place] = (row["mean"], None if row["std"] == "" else row["std"])
    return found


def compare(runs: Runs, study: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The content of demo.json: entries like those of bench.json, seconds of each stage, figures.

    Args:
        runs: (reference, ours), one pair a round.
        study: summary.json of several trials, whose standard deviations stand beside the differences.

    Raises:
        InputError: Reference and ours had different jobs.
    """
    jobs = {run.jobs for pair in runs for run in pair}
    if len(jobs) > 1:
        raise InputError(f"the runs had different numbers of jobs: {sorted(jobs)}")
    figures = list(_figures(*runs[0], study))
    largest = max((abs(row["difference"]) for row in figures), default=None)
    of = "largest difference of a headline figure, in points of mIoU"
    wall = Comparison([(r.seconds, o.seconds) for r, o in runs], "seconds", largest, of, NOTE)
    cores = Comparison(
        [(r.cpu_seconds, o.cpu_seconds) for r, o in runs],
        "seconds of all cores",
        note="user and system time of all processes",
    )
    return {
        "entries": {"demo_wall_time": wall.figures(), "demo_cpu_time": cores.figures()},
        "jobs": jobs.pop(),
        "compilations": {
            "reference": sum(reference.compilations for reference, _ in runs),
            "ours": sum(ours.compilations for _, ours in runs),
        },
        "images": runs[0][1].summary["images"],
        "stages": _stages(runs),
        "figures": figures,
    }


def _stages(runs: Runs) -> dict[str, dict[str, float]]:
    """Median seconds of each stage, those first where most was gained."""
    stages = {
        stage: {
            "reference": median(reference.stages[stage] for reference, _ in runs),
            "ours": median(ours.stages[stage] for _, ours in runs),
        }
        for stage in runs[0][1].stages
    }
    return dict(sorted(stages.items(), key=lambda item: item[1]["ours"] - item[1]["reference"]))


def _figures(
    reference: DemoRun, ours: DemoRun, study: Mapping[str, Any] | None
) -> Iterator[dict[str, Any]]:
    """Each headline figure that both have, and its standard deviation over the trials of the study."""
    expected, found = headlines(reference.summary), headlines(ours.summary)
    spread = headlines(study) if study is not None else {}
    for place in [place for place in found if place in expected]:
        usual, value = expected[place][0], found[place][0]
        yield dict(zip(PLACE, place, strict=True)) | {
            "reference": usual,
            "ours": value,
            "difference": value - usual,
            "std_of_trials": spread.get(place, (0.0, None))[1],
        }
