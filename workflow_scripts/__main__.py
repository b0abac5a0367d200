"""The commands that need no workflow, as one program: `wsss COMMAND …`.

Each is a module of this package, `python -m workflow_scripts.COMMAND`, and tells its flags by `--help`.
"""

import ast
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DISTRIBUTION = "wsss-amn-workflow"
COMMANDS = (
    "predict", "label", "predict_labels", "evaluate", "judge", "compare", "convert_masks", "check_dataset",
    "resize_dataset", "export_onnx", "export_voc_test", "import_checkpoint",
)  # fmt: skip
USER_ERROR = 2


def installed_version() -> str:
    """Version of the installed package; of a checkout that is not installed it is unknown."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "not installed"


def summary(command: str) -> str:
    """First line of what a command says of itself, read without importing it."""
    source = Path(__file__).with_name(f"{command}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def usage() -> str:
    """What `--help` shows."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {shown(name):{width}}  {summary(name)}" for name in COMMANDS)
    return f"""usage: wsss COMMAND …

Weakly-supervised semantic segmentation: what finished runs, and masks of any origin, are used with.

{commands}

`wsss COMMAND --help` lists what a command can be told; `wsss --version` tells the version.
Networks are trained by the workflow: `snakemake all` in a checkout."""


def shown(command: str) -> str:
    """A command's name as one types it."""
    return command.replace("_", "-")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    name, *rest = [*(sys.argv[1:] if argv is None else argv)] or ["--help"]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(installed_version())
        return 0
    command = name.replace("-", "_")
    if command not in COMMANDS:
        known = ", ".join(map(shown, COMMANDS))
        print(f"wsss: there is no command `{name}`; there are {known}", file=sys.stderr)
        return USER_ERROR
    code: int = importlib.import_module(f"workflow_scripts.{command}").main(rest)
    return code


if __name__ == "__main__":
    sys.exit(main())
