"""What `make bench-demo` measures and shows; the runs themselves are faked."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools import bench_demo
from tools.benchmarks import demo_run
from tools.benchmarks.demo_comparison import compare
from tools.benchmarks.demo_run import DemoRun
from tools.benchmarks.demo_table import BEGIN, END, demo_table
from workflow_scripts.errors import InputError


def figure(mean: float, std: float | None = None) -> dict:
    return {"mean": mean, "std": std, "values": [mean]}


def summary(miou: float, std: float | None = None) -> dict:
    """Of a run at `auto`; the study's networks stand at another threshold first."""
    at_auto = {"segmentation": {"val": {"miou": figure(miou + 1, std)}}}
    first = {"segmentation": {"val": {"miou": figure(10.0, std)}}} if std else at_auto
    activations = {"best_miou": figure(miou, std), "best_threshold": figure(0.3, std)}
    method = {"activations": {"val": activations}, **first, "by_threshold": {"auto": at_auto}}
    return {"images": {"train": 4, "val": 2}, "methods": {"amn": method}}


def run(seconds: float, miou: float, jobs: int = 3) -> DemoRun:
    stages = {"train_cam": 5.0, "refine_seeds": seconds / 4, "sweep_thresholds": seconds / 2}
    return DemoRun(seconds, 2 * seconds, stages, jobs, 0, summary(miou))


@pytest.fixture
def faked(monkeypatch) -> list[str]:
    """Names of the folders of faked runs, in their order; reference runs take three times as long."""
    made: list[str] = []

    def run_demo(folder, configfiles, cores, reference):
        made.append(folder.name)
        return run(300.0 if reference else 100.0, 50.0 if reference else 49.5)

    monkeypatch.setattr(bench_demo, "run_demo", run_demo)
    monkeypatch.setattr(bench_demo, "warm_up", lambda: None)
    return made


def test_writes_ratio_stages_and_figures(faked, tmp_path, capsys):
    output, study, page = tmp_path / "demo.json", tmp_path / "summary.json", tmp_path / "README.md"
    study.write_text(json.dumps(summary(51.0, 0.8)))
    flags = ["--output", str(output), "--rounds", "2", "--study", str(study)]
    assert bench_demo.main(flags) == 0
    assert faked == ["ours-0", "reference-0", "reference-1", "ours-1"]
    demo = json.loads(output.read_text())
    assert demo.keys() >= {"machine", "versions", "threads", "date", "commit"}
    wall = demo["entries"]["demo_wall_time"]
    assert (wall["reference"], wall["ours"], wall["ratio"], wall["n"]) == (300, 100, 3, 2)
    assert wall["agreement"] == pytest.approx(0.5)
    assert demo["entries"]["demo_cpu_time"]["ours"] == 200
    assert list(demo["stages"]) == ["sweep_thresholds", "refine_seeds", "train_cam"]
    assert demo["stages"]["refine_seeds"] == {"reference": 75, "ours": 25}
    place = {"method": "amn", "section": "segmentation", "split": "val", "figure": "miou"}
    assert demo["figures"][1] == place | {
        "threshold": "auto", "reference": 51, "ours": 50.5, "difference": -0.5, "std_of_trials": 0.8,
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "| wall time | 300 s | 100 s | 3.00 (3.00–3.00) |" in printed
    assert "| other stages | 5.0 s | 5.0 s | 1.00 |" in printed
    assert "| amn segmentation auto val: miou | 51.00 | 50.50 | -0.50 | 0.80 |" in printed
    page.write_text(f"before\n{BEGIN}\nearlier\n{END}\nafter\n")
    assert bench_demo.main(["--table", str(output), "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before") and text.endswith("after\n") and "earlier" not in text
    assert demo_table(demo) in text


def test_runs_of_different_jobs_are_not_compared():
    with pytest.raises(InputError, match=r"\[3, 4\]"):
        compare([(run(3, 50), run(1, 50, jobs=4))])


@pytest.fixture
def snakemake(monkeypatch):
    """What Snakemake says and its exit code, for a run in which it is not started."""
    said = {"text": "", "code": 0}

    def pretended(command, output, environment):
        output.write_text(said["text"])
        return said["code"]

    monkeypatch.setattr(demo_run, "_run", pretended)
    return said


@pytest.mark.parametrize("reference", [True, False])
def test_a_failed_run_and_one_of_the_other_kernels_are_no_measurement(
    reference, snakemake, tmp_path
):
    snakemake.update(text="disk full", code=1)
    with pytest.raises(InputError, match="disk full"):
        demo_run.run_demo(tmp_path / "failed", [], 2, reference)
    snakemake.update(text="" if reference else demo_run.message("torch"), code=0)
    with pytest.raises(InputError, match="replaced"):
        demo_run.run_demo(tmp_path / "other", [], 2, reference)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--configfile", "nothing.yaml"], "nothing.yaml"),
        (["--study", "nothing.json"], "nothing.json"),
        (["--folder", str(Path(__file__).parent)], "not empty"),
        (["--page", "README.md"], "--table"),
        (["--table", "nothing.json"], "make bench-demo"),
    ],
)
def test_mistakes_are_named(flags, named, faked, tmp_path, capsys):
    assert bench_demo.main([*flags, "--output", str(tmp_path / "demo.json")]) == 2
    assert named in capsys.readouterr().err
    assert faked == []


def test_what_a_run_has_started_ends_with_it(tmp_path):
    """Also the processes of its processes."""
    jobs = "sleep 60 & echo $! > job; wait"
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tools.benchmarks.demo_run import _run\n"
        "from workflow_scripts.console.job import ending_cleanly\n"
        "with ending_cleanly():\n"
        f"    _run(['sh', '-c', {jobs!r}], Path('log'), dict(os.environ))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(demo_run.ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    job = tmp_path / "job"
    wait_for(lambda: job.exists() and job.read_text().strip())
    process.terminate()
    assert process.wait(20) == 128 + 15
    stat = Path(f"/proc/{int(job.read_text())}/stat")
    wait_for(lambda: not stat.exists() or stat.read_text().rpartition(") ")[2][0] == "Z")


def wait_for(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
