"""The report of a check: report.json for machines, report.md for people."""

import json
from pathlib import Path
from typing import Any

from workflow_scripts.storage.atomic import atomic_path

# What issue and documents promise of one large GPU with 16 cores.
MOST_WAITED, LEAST_IMAGES, LEAST_BARE = 0.15, 80.0, 0.7
SIGNS = {True: "passed", False: "FAILED", None: "not looked at"}


def write(folder: Path, report: dict[str, Any]) -> None:
    """Write both files."""
    files = {
        "report.json": json.dumps(report, indent=1, ensure_ascii=False) + "\n",
        "report.md": page(report),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def page(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    machine = report["machine"]
    lines = [
        f"# {report['device']}",
        "",
        f"{report['date']}, commit {report['commit'] or 'unknown'}, torch "
        f"{report['versions'].get('torch', '?')}, {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory']}. {report['seconds']:.0f} seconds.",
        "",
    ]
    if not report["is_gpu"]:
        lines += ["A CPU stood in: this says that the check runs, and nothing about any GPU.", ""]
    if report["checks"]:
        lines += ["| check | result | figures |", "| --- | --- | --- |"]
        lines += [
            f"| {check['name']} | {SIGNS[check['passed']]} | {check['said'].replace('|', '/')} |"
            for check in report["checks"]
        ]
        lines.append("")
    if report["speeds"]:
        lines += [
            "| stage | images a second | device waited | of the bare network | peak memory |",
            "| --- | --: | --: | --: | --: |",
        ]
        lines += [_row(speed) for speed in report["speeds"]]
        lines.append("")
    for dataset, hours in report["hours"].items():
        lines.append(
            f"- {dataset}: {hours:.1f} hours of this device for one trial, CPU stages apart."
        )
    if report["hours"]:
        lines.append("")
    lines += [f"- {aim}" for aim in report["missed"]]
    return "\n".join(lines).rstrip("\n") + "\n"


def _row(speed: dict[str, Any]) -> str:
    bare = "" if speed["bare"] is None else f"{100 * speed['bare']:.0f} %"
    return (
        f"| {speed['stage']} | {speed['images_per_second']:.1f} | {100 * speed['waited']:.0f} % | {bare} | "
        f"{speed['peak_bytes'] / 1e9:.1f} GB |"
    )


def missed(speeds: list[dict[str, Any]]) -> list[str]:
    """Aims that the speeds fall short of, in words."""
    found = []
    for speed in speeds:
        stage = speed["stage"]
        if speed["waited"] > MOST_WAITED:
            found.append(f"{stage}: the device waits {100 * speed['waited']:.0f} % of the time, aim "
                         f"≤ {100 * MOST_WAITED:.0f} %")  # fmt: skip
        if stage in ("infer cam", "infer amn") and speed["images_per_second"] < LEAST_IMAGES:
            found.append(
                f"{stage}: {speed['images_per_second']:.0f} images a second, aim ≥ {LEAST_IMAGES:.0f}"
            )
        if speed["bare"] is not None and speed["bare"] < LEAST_BARE:
            found.append(f"{stage}: {100 * speed['bare']:.0f} % of the bare network's speed, aim "
                         f"≥ {100 * LEAST_BARE:.0f} %")  # fmt: skip
    return found
