"""One tiny run of the real workflow, shared by the tests that look at it."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.warm_python import interpreter

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = ("Snakefile", "rules", "workflow_scripts", "config", "envs", "profiles", "resources")
TIMEOUT = 900

TINY_TRAINING = {
    "epochs": 2,
    "batch_size": 4,
    "augmentation": {"resize": "none", "resize_range": [1.0, 1.0], "crop": 64},
}
TINY = {
    "run": "tiny",
    "dataset": {"kind": "demo", "train_images": 12, "val_images": 6, "image_size": 64},
    "train_cam": {"training": TINY_TRAINING},
    "train_amn": {"training": TINY_TRAINING},
    "train_segmentation": {"training": TINY_TRAINING},
    "infer_cam": {"scales": [1.0]},
    "infer_amn": {"scales": [1.0]},
    "sweep": {"refined_thresholds": [0.3, 0.6]},
    "summary": {"bootstrap_draws": 20},
}


@dataclass(frozen=True)
class Checkout:
    """A copy of the repository in which a test may run and edit things.

    Attributes:
        folder: The copy.
        base: Configurations that `tiny.yaml` is laid over.
    """

    folder: Path
    base: tuple[str, ...] = ("config/config.yaml",)

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Snakemake on the tiny configuration, and its jobs, in a Python that is warm."""
        python = interpreter()
        command = [
            str(python), "-m", "snakemake", *arguments, "--cores", "2",
            "--configfile", *self.base, "tiny.yaml",
        ]  # fmt: skip
        environment = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr[-6000:]}")
        return done

    def configure(self, **changes: object) -> None:
        """Write the tiny configuration with some keys changed."""
        self.write({**TINY, **changes})

    def write(self, configuration: dict[str, Any]) -> None:
        """Write what is laid over the base."""
        text = yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True)
        (self.folder / "tiny.yaml").write_text(text, encoding="utf-8")

    def planned(self, target: str = "all") -> set[str]:
        """Names of the rules that `snakemake {target}` would run now, `train` and `infer` with their methods.

        For instance {"train amn", "infer amn", "summarise"}.
        """
        done = self.snakemake(target, "-n")
        text = done.stdout + done.stderr
        lines = text.splitlines()
        if any("Nothing to be done" in line for line in lines):
            return set()
        begin = next(i for i, line in enumerate(lines) if line.startswith("job ")) + 2
        end = next(i for i in range(begin, len(lines)) if lines[i].startswith("total"))
        rules = {line.split()[0] for line in lines[begin:end]} - {"all"}
        of_methods = {
            f"{rule} {method}"
            for rule, words in (("train", "train the network"), ("infer", "activations of"))
            for method in re.findall(rf"^Job \d+: (\w+): {words}", text, re.MULTILINE)
        }
        assert {name.split()[0] for name in of_methods} == rules & {"train", "infer"}
        return rules - {"train", "infer"} | of_methods


def copy_checkout(target: Path, *base: str) -> Checkout:
    """Copy what the workflow consists of; `base` are the configurations that a test starts from."""
    ignore = shutil.ignore_patterns("__pycache__")
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=ignore)
        else:
            shutil.copy2(source, target / part)
    return Checkout(target, base) if base else Checkout(target)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder: they take minutes together."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.workflow)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which `snakemake all` has run on the tiny configuration."""
    checkout = copy_checkout(tmp_path_factory.mktemp("checkout"))
    checkout.configure()
    checkout.snakemake("all")
    return checkout
