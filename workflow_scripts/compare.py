"""Compare several runs: a table of their figures, their curves, and how their configurations differ.

    python -m workflow_scripts.compare results/demo results/other --output comparison.html

Prints the tables; with --output also writes them with overlaid curves as a self-contained HTML page.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from workflow_scripts.console.stage import USER_ERROR, print_in_any_encoding
from workflow_scripts.errors import InputError
from workflow_scripts.report.comparison import (
    comparison_page,
    figure_columns,
    figure_groups,
    read_run,
    setting_rows,
    text_table,
    unique_names,
)
from workflow_scripts.storage.atomic import atomic_path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workflow_scripts.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--output", type=Path, metavar="PATH", help="page to write (HTML)")
    parser.add_argument(
        "--configuration",
        default="config.yaml",
        metavar="NAME",
        help="name of the resolved configuration in each folder (default: config.yaml)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = _parser().parse_args(argv)
    print_in_any_encoding()
    try:
        if len(given.runs) < 2:
            raise InputError("compare needs at least two runs, given as their folders")
        runs = [read_run(folder, given.configuration) for folder in given.runs]
    except InputError as error:
        print(f"compare: error: {error}", file=sys.stderr)
        return USER_ERROR
    names = unique_names(runs)
    rows = []
    for title, figures in figure_groups(runs).items():
        rows += [[title], *([f"  {name}", *values] for name, *values in figures)]
    print(text_table(figure_columns(runs), rows))
    settings = setting_rows(runs)
    print("\n" + text_table(["Setting", *names], settings) if settings else "\nSame configuration.")
    if given.output is not None:
        with atomic_path(given.output) as temporary:
            temporary.write_text(comparison_page(runs), encoding="utf-8")
        print(f"\n{given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
