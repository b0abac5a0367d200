"""The conda environment, made from the pinned requirements.

`python -m workflow_scripts.planning.environments > envs/environment.yaml` writes it anew.
"""

import os
from pathlib import Path

import yaml

from workflow_scripts.errors import InputError

ENVS = Path(__file__).resolve().parents[2] / "envs"
PYTHON = "3.11"
HEADER = "# Made from requirements.txt: python -m workflow_scripts.planning.environments\n"


def set_environment(root: str) -> None:
    """Let the jobs' Python find the stages, wherever Snakemake is called from, and its idle threads sleep.

    Threads of OpenMP that wait for others spin otherwise: on a machine that has other things to do, a
    training on two cores took five times the processor time. OpenMP reads this when it is loaded, with torch.

    Args:
        root: Folder of the checkout.

    Raises:
        InputError: Snakemake would take a part of its path for a wildcard.
    """
    if {"{", "}"} & set(root):
        raise InputError(
            f"{root}: Snakemake takes braces in the path of a checkout for wildcards; move or rename the "
            "folder"
        )
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, known]))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pinned(path: Path) -> list[str]:
    """Requirements of a file, without comments."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def render_conda(requirements: list[str]) -> str:
    """A conda environment that installs the same versions by pip."""
    environment = {
        "name": "wsss",
        "channels": ["conda-forge"],
        "dependencies": [f"python={PYTHON}", "pip", {"pip": requirements}],
    }
    return HEADER + yaml.safe_dump(environment, sort_keys=False)


if __name__ == "__main__":
    print(render_conda(pinned(ENVS / "requirements.txt")), end="")
