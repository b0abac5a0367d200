"""See that the workflow is right on this machine's GPU, and how fast it is there.

Every stage on the GPU against the CPU, with too little memory, killed and resumed, two processes on one
device, two devices where there are two, the whole workflow in miniature with CRF, and a table of speeds.
Writes report.json and report.md. The exit code is 1 where a check fails; speeds that miss an aim are said,
but fail nothing. With `--device cpu` a CPU stands in, on small sizes: it shows that the check itself runs.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
import yaml
from pydantic import Field

from tools.benchmarks.surroundings import surroundings
from tools.gpu import agreement, jobs, memory, report, speed
from tools.gpu.check import Check, carried_out
from tools.gpu.material import ROOT, Material, material
from workflow_scripts.console.arguments import parse
from workflow_scripts.console.job import ending_cleanly
from workflow_scripts.console.stage import USER_ERROR, NoSettings
from workflow_scripts.errors import InputError
from workflow_scripts.planning.configuration import read_configuration
from workflow_scripts.settings.base import Settings

logger = logging.getLogger("tools.check_gpu")

PARTS: dict[str, Callable[[Material], Iterable[Check]]] = {
    "agreement": agreement.checks,
    "memory": memory.checks,
    "jobs": jobs.checks,
    "workflow": jobs.workflow,
}
SPEED = "speed"
CONFIGURATIONS = {"VOC 2012": "voc12.yaml", "COCO 2014": "coco14.yaml"}


class Files(Settings):
    """What is looked at, and output."""

    output: Path = Field(Path("results/gpu"), description="folder for report.json and report.md")
    device: Literal["cuda", "cpu"] = Field("cuda", description="cuda, or cpu to stand in for it")
    only: tuple[str, ...] = Field(
        (), description=f"look at these alone; there are {', '.join([*PARTS, SPEED])}"
    )


def chosen_device(name: str) -> torch.device:
    """The device that is checked; jobs lock it themselves, so it is not locked here.

    Raises:
        InputError: There is no GPU that torch can use.
    """
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(
            "--device cuda: torch finds no GPU here; look at `nvidia-smi`, or say `--device cpu` to see that "
            "the check itself runs"
        )
    return torch.device("cuda", 0)


def hours(speeds: Sequence[speed.Speed]) -> dict[str, float]:
    """Hours for the datasets of the configurations that come with the workflow."""
    found = {}
    for dataset, name in CONFIGURATIONS.items():
        path = ROOT / "config" / name
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        settings = read_configuration(values, f"config/{name}")
        found[dataset] = speed.hours(settings, speed.IMAGES[dataset], speeds)
    return found


def check(files: Files, folder: Path) -> dict[str, Any]:
    """Carry out what the flags name; returns the report."""
    unknown = sorted(set(files.only) - {*PARTS, SPEED})
    if unknown:
        known = ", ".join([*PARTS, SPEED])
        raise InputError(f"--only: unknown {', '.join(unknown)}; there are {known}")
    device = chosen_device(files.device)
    start = time.monotonic()
    shared = material(device, folder)
    wanted = files.only or (*PARTS, SPEED)
    checks = []
    for one in carried_out(partial(PARTS[name], shared) for name in PARTS if name in wanted):
        logger.info(
            "%s: %s, %s (%.1f s)", one.name, report.SIGNS[one.passed], one.said, one.seconds
        )
        checks.append(vars(one))
    speeds = []
    if SPEED in wanted:
        for measured in speed.speeds(shared):
            logger.info("%s: %.1f images a second", measured.stage, measured.images_per_second)
            speeds.append(measured)
    entries = [one.entry() for one in speeds]
    is_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_gpu else "CPU, in the place of a GPU",
        "is_gpu": is_gpu,
        "passed": all(one["passed"] is not False for one in checks),
        "checks": checks,
        "speeds": entries,
        "hours": hours(speeds) if speeds and is_gpu else {},
        "missed": report.missed(entries) if is_gpu else [],
        "seconds": time.monotonic() - start,
        **surroundings(torch.get_num_threads()),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, 1 where a check failed, or 2 for a user's mistake."""
    try:
        files, _ = parse(__doc__, Files, NoSettings, argv, "python -m tools.check_gpu")
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
        with ending_cleanly(), TemporaryDirectory() as folder:
            found = check(files, Path(folder))
    except InputError as error:
        print(f"tools.check_gpu: error: {error}", file=sys.stderr)
        return USER_ERROR
    report.write(files.output, found)
    print(report.page(found))
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
