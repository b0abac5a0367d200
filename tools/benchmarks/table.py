"""The table of a bench.json, as Markdown."""

import json
from pathlib import Path
from typing import Any

from workflow_scripts.errors import InputError
from workflow_scripts.storage.atomic import atomic_path

Marks = tuple[str, str]
BEGIN, END = "<!-- bench -->", "<!-- end of bench -->"
_HEADER = "| benchmark | reference | ours | ratio (range) | target | agreement |"


def read_bench(path: Path, command: str) -> dict[str, Any]:
    """Read what a measuring command wrote; InputError when it is anything else."""
    try:
        bench: dict[str, Any] = json.loads(path.read_text("utf-8"))
        bench["entries"], bench["machine"]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; `{command}` writes it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a file that `{command}` wrote ({error!r})") from None
    return bench


def _amount(value: float, unit: str) -> str:
    """A figure with its unit, for people."""
    if unit.startswith("bytes"):
        return f"{value / 1e6:.3g} MB" if value >= 1e6 else f"{value / 1e3:.3g} kB"
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def _ratio(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _agreement(entry: dict[str, Any]) -> str:
    value = entry["agreement"]
    if value is None:
        return ""
    shown = f"{100 * value:.2f} %" if entry["agreement_of"].startswith("equal") else f"{value:.1e}"
    return f"{shown} {entry['agreement_of']}"


def _row(name: str, entry: dict[str, Any]) -> str:
    sign = "≤" if entry["target_is_limit"] else "≥"
    wanted = f"{sign} {entry['target']:g}"
    if entry.get("target_amount") is not None:
        wanted = f"≤ {_amount(entry['target_amount'], entry['unit'])}"
    missed = "" if entry["target_met"] else ", missed"
    cells = (
        f"`{name}`",
        _amount(entry["reference"], entry["unit"]),
        _amount(entry["ours"], entry["unit"]),
        f"{_ratio(entry['ratio'])} ({_ratio(entry['ratio_min'])}–{_ratio(entry['ratio_max'])})",
        f"{wanted}{missed}",
        _agreement(entry),
    )
    return f"| {' | '.join(cells)} |"


def table(bench: dict[str, Any]) -> str:
    """The entries as a Markdown table, and below it the machine and what each entry measures."""
    machine = bench["machine"]
    lines = [_HEADER, "| --- | --: | --: | --: | --: | --- |"]
    lines += [_row(name, entry) for name, entry in bench["entries"].items()]
    lines += [
        "",
        f"Medians of interleaved pairs on {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory']}; {bench['threads']} threads, torch {bench['versions'].get('torch', '?')}, "
        f"{bench['date']}.",
        "",
    ]
    lines += [f"- `{name}`: {e['unit']}; {e['note']}" for name, e in bench["entries"].items()]
    return "\n".join(lines)


def insert(text: str, page: Path, marks: Marks) -> None:
    """Replace what stands between the markers of a page.

    Raises:
        InputError: The page cannot be read or lacks the markers.
    """
    try:
        before, begin, rest = page.read_text("utf-8").partition(marks[0])
    except OSError as error:
        raise InputError(f"{page}: not readable ({error.strerror})") from None
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise InputError(
            f"{page}: lacks the lines `{marks[0]}` and `{marks[1]}`; add them, run again"
        )
    with atomic_path(page) as temporary:
        temporary.write_text(f"{before}{marks[0]}\n\n{text}\n\n{marks[1]}{after}", "utf-8")
