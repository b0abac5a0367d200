"""Puts the usual implementations in place of the workflow's while Python imports it.

A Python that finds `start/sitecustomize.py` on its path does so from its start, and with it all stages
that Snakemake starts. Nothing is loaded before the workflow itself loads what is replaced. Code and
parameters of the stages stay as they are, and so do Snakemake's jobs.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

START = Path(__file__).with_name("start")
# What is replaced, by module, and the module beside this one that holds another of that name.
REPLACED = {
    "workflow_scripts.refinement.dense_crf": ("refine", "dense_crf"),
    "workflow_scripts.evaluation.threshold_sweep": ("histogram_of_image", "threshold_sweep"),
    "workflow_scripts.training.precision": ("choose_dtype", "networks"),
    "torch": ("channels_last", "networks"),
}


def message(module: str) -> str:
    """What is written to the standard error once a module's kernel is replaced."""
    return f"reference kernel in place of {module}.{REPLACED[module][0]}"


def replace(module: ModuleType) -> None:
    """Replace the kernel of a module that has just been imported.

    Raises:
        AttributeError: It no longer has what is to be replaced.
    """
    name, source = REPLACED[module.__name__]
    getattr(module, name)
    usual = importlib.import_module(f"{__package__}.{source}")
    setattr(module, name, getattr(usual, name))
    print(message(module.__name__), file=sys.stderr)


class _Finder(MetaPathFinder):
    """Finds modules where they are, and replaces once they have been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The usual spec, for the modules of the table; None for all others."""
        if fullname not in REPLACED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_replace(module: ModuleType) -> None:
            execute(module)
            replace(module)

        spec.loader.exec_module = execute_and_replace  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Watch the imports of this process."""
    sys.meta_path.insert(0, _Finder())
