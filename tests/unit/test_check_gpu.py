"""The check of a GPU, with a CPU in its place: all of its code runs, and it finds what is wrong.

Jobs and the whole workflow are faked here; other tests run the real ones.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tools import check_gpu
from tools.gpu import agreement, jobs, memory, report, speed
from tools.gpu.check import Check, carried_out
from tools.gpu.material import LEARNERS, Material, material
from workflow_scripts.errors import InputError
from workflow_scripts.planning.configuration import read_configuration

CPU = torch.device("cpu")
# What a training and an inference leave, without what takes them long: the first is killed once it has saved.
TRAIN = """
import sys, time
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
from workflow_scripts.storage.atomic import hidden_beside
output = Path(sys.argv[sys.argv.index("--output") + 1])
output.parent.mkdir(parents=True, exist_ok=True)
saved = hidden_beside(output, ".resume")
if output.parent.name == "killed" and not saved.exists():
    saved.write_text("state")
    time.sleep(60)
saved.unlink(missing_ok=True)
save_file({"weight": np.full(3, WEIGHT, np.float32)}, output)
"""
INFER = """
import sys
import numpy as np
from workflow_scripts.datasets.index import ImageRecord
from workflow_scripts.storage.activations import ActivationWriter
record = ImageRecord("a", "a.jpg", 96, 96, "train", (1,), None)
with ActivationWriter(sys.argv[sys.argv.index("--output") + 1], [record]) as writer:
    writer.write("a", np.full((1, 24, 24), 0.5))
print("waiting until 1 of the GPUs 0 are free")
"""
STAGES = {"train": TRAIN, "infer": INFER, "prepare_dataset": ""}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return material(CPU, tmp_path_factory.mktemp("gpu"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of what needs no jobs."""
    folder = tmp_path_factory.mktemp("report")
    flags = ["--device", "cpu", "--output", str(folder), "--only", "agreement", "memory", "speed"]
    assert check_gpu.main(flags) == 0
    return folder


def test_a_cpu_agrees_with_itself_and_the_report_says_what_it_is(done: Path):
    found = json.loads((done / "report.json").read_text("utf-8"))
    assert found["passed"] and not found["is_gpu"] and not found["hours"]
    names = {one["name"] for one in found["checks"]}
    assert names >= {"resized images", "segmentation", "inference in little memory"}
    assert names >= {f"training of {name}" for name in LEARNERS}
    assert len(found["speeds"]) == 8
    assert all(one["images_per_second"] > 0 and 0 <= one["waited"] < 1 for one in found["speeds"])
    assert found.keys() >= {"machine", "versions", "date", "commit", "seconds"}
    page = (done / "report.md").read_text("utf-8")
    assert "nothing about any GPU" in page and "| train amn |" in page


def test_a_device_that_computes_otherwise_is_found(small: Material, monkeypatch):
    whole = agreement.on

    def wrong(network, device):
        found = whole(network, device)
        with torch.no_grad():
            for parameter in found.classifier.parameters():
                parameter.mul_(torch.linspace(0.9, 1.1, len(parameter)).reshape(-1, 1, 1, 1)
                               if parameter.ndim > 1 else 1)  # fmt: skip
            wrong.calls += 1
            return found if wrong.calls == 1 else whole(network, device)

    wrong.calls = 0
    monkeypatch.setattr(agreement, "on", wrong)
    assert agreement.activations(small, "cam", "float32").passed is False


def test_memory_that_suffices_after_all_proves_nothing(small: Material, monkeypatch):
    from contextlib import nullcontext

    monkeypatch.setattr(memory, "capped", lambda *_: nullcontext())
    assert memory.inference(small).passed is False


def test_a_check_that_raises_has_failed_and_the_next_is_carried_out():
    def broken():
        yield Check("first", True, "")
        raise RuntimeError("CUDA error:\n an illegal memory access")

    def fine():
        yield Check("second", None, "nothing here")

    found = list(carried_out([broken, fine]))
    assert [(one.name, one.passed) for one in found] == [
        ("first", True), ("broken", False), ("second", None),
    ]  # fmt: skip
    assert found[1].said == "RuntimeError: CUDA error: an illegal memory access"


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Stages that do in milliseconds what others do in seconds; weights are those that a test names."""

    def commands(weights: dict[str, float]) -> Material:
        def command(stage: str, *flags: object) -> list[str]:
            words = [str(flag) for flag in flags]
            output = Path(words[words.index("--output") + 1]).parent.name
            code = STAGES[stage].replace("WEIGHT", str(weights.get(output, 1.0)))
            return [sys.executable, "-c", code, *words]

        monkeypatch.setattr(jobs, "command", command)
        return material(CPU, tmp_path)

    return commands


def test_jobs_are_killed_resumed_and_run_side_by_side(faked):
    killed, side_by_side, distributed = jobs.checks(faked({}))
    assert killed.passed and killed.said == "killed amid 4 steps; weights differ by 0.0e+00"
    assert side_by_side.passed and "both end, 2 waited" in side_by_side.said
    assert distributed.passed is None


def test_a_resumed_training_that_ends_elsewhere_is_found(faked):
    killed, *_ = jobs.checks(faked({"killed": 1.1}))
    assert killed.passed is False


def test_a_job_that_fails_says_why():
    with pytest.raises(RuntimeError, match="no driver"):
        jobs.run([sys.executable, "-c", "import sys; sys.exit('no driver')"])


def test_the_whole_workflow_has_a_configuration_that_is_valid(small: Material, monkeypatch):
    ran = []

    def run(words):
        ran.append(words)
        (small.folder / "workflow").mkdir(exist_ok=True)
        (small.folder / "workflow" / "summary.json").write_text("{}")

    monkeypatch.setattr(jobs, "run", run)
    [check] = jobs.workflow(small)
    assert check.passed and "snakemake" in ran[0] and "local" in ran[0]
    from tools.gpu.material import _laid_over

    values: dict = {}
    for path in ran[0][ran[0].index("--configfile") + 1 :]:
        values = _laid_over(values, yaml.safe_load(Path(path).read_text("utf-8")))
    settings = read_configuration(values, "check")
    assert settings.boundary.enabled and settings.evaluate_segmentation.refine
    assert settings.pseudo_masks.refinement == "crf"


def entry(stage: str, images: float, waited: float = 0.0, bare: float | None = None) -> dict:
    return speed.Speed(stage, images, waited, bare, 10**9).entry()


def test_aims_that_are_missed_are_said():
    fine = [entry("infer cam", 90), entry("train cam", 50, bare=0.8), entry("propagate", 9)]
    assert report.missed(fine) == []
    said = report.missed([entry("infer amn", 60, waited=0.2), entry("train cam", 50, bare=0.5)])
    assert len(said) == 3 and "60 images a second" in said[1]


def test_hours_by_hand():
    stages = [f"{verb} {name}" for verb in ("train", "infer") for name in ("cam", "amn")]
    stages += ["train boundary", "train segmentation", "propagate", "evaluate segmentation"]
    speeds = [speed.Speed(stage, 10.0, 0, None, 0) for stage in stages]
    found = check_gpu.hours(speeds)
    # CAM and AMN see 10,582 images in 5 epochs of 662 steps, boundaries in 3 of 331; DeepLab-v2 takes 20,000.
    voc = 2 * (5 * 662 * 16 + 3 * 331 * 32 + 20000 * 10 + 2 * 10582 + 1449) / 10 / 3600
    assert found["VOC 2012"] == pytest.approx(voc)
    assert found["COCO 2014"] > found["VOC 2012"]


def test_mistakes_are_named(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for flags, named in (
        (["--device", "cuda"], "torch finds no GPU here"),
        (["--device", "cpu", "--only", "spede"], "unknown spede"),
    ):
        assert check_gpu.main([*flags, "--output", str(tmp_path)]) == 2
        assert named in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="unknown x"):
        check_gpu.check(check_gpu.Files(only=("x",)), tmp_path)


def test_masks_and_images_of_a_batch_have_the_crops_size(small: Material):
    network = small.learner("cam").network
    batch = small.batch(4, 80, network.backbone, CPU)
    assert batch["image"].shape == (4, 3, 80, 80) and batch["mask"].shape == (4, 80, 80)
    assert np.array_equal(batch["mask"][3], batch["mask"][0])
