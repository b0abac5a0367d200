"""The tables of a demo.json, as Markdown."""

from collections.abc import Iterator
from typing import Any

BEGIN, END = "<!-- bench-demo -->", "<!-- end of bench-demo -->"
NAMES = {"demo_wall_time": "wall time", "demo_cpu_time": "time of all cores"}
# Stages that differ by less, in seconds, share a row.
LEAST = 2.0


def demo_table(demo: dict[str, Any]) -> str:
    """Times of the whole demo and of its stages; below them the figures, and the machine."""
    return "\n".join((*_times(demo), "", *_figures(demo), "", _machine(demo)))


def _times(demo: dict[str, Any]) -> Iterator[str]:
    yield "| demo | reference | ours | ratio (range) |"
    yield "| --- | --: | --: | --: |"
    for name, entry in demo["entries"].items():
        span = (
            f"{entry['ratio_min']:.2f}–{entry['ratio_max']:.2f}" if entry["n"] > 1 else "one pair"
        )
        times = f"{entry['reference']:.0f} s | {entry['ours']:.0f} s"
        yield f"| {NAMES[name]} | {times} | {entry['ratio']:.2f} ({span}) |"
    others = {"reference": 0.0, "ours": 0.0}
    for stage, seconds in demo["stages"].items():
        if abs(seconds["reference"] - seconds["ours"]) >= LEAST:
            yield _stage(f"`{stage}`", seconds)
        else:
            others = {name: others[name] + seconds[name] for name in others}
    yield _stage("other stages", others)


def _stage(name: str, seconds: dict[str, float]) -> str:
    ratio = f"{seconds['reference'] / seconds['ours']:.2f}" if seconds["ours"] else ""
    return f"| {name} | {seconds['reference']:.1f} s | {seconds['ours']:.1f} s | {ratio} |"


def _figures(demo: dict[str, Any]) -> Iterator[str]:
    yield "| figure | reference | ours | difference | deviation over trials |"
    yield "| --- | --: | --: | --: | --: |"
    for row in demo["figures"]:
        place = [row[key] for key in ("method", "section", "threshold", "split") if row[key]]
        spread = row["std_of_trials"]
        cells = (
            f"{' '.join(place)}: {row['figure']}",
            f"{row['reference']:.2f}",
            f"{row['ours']:.2f}",
            f"{row['difference']:+.2f}",
            "" if spread is None else f"{spread:.2f}",
        )
        yield f"| {' | '.join(cells)} |"


def _machine(demo: dict[str, Any]) -> str:
    entry, machine = demo["entries"]["demo_wall_time"], demo["machine"]
    images = ", ".join(f"{number} {split}" for split, number in demo["images"].items())
    rounds = "one pair" if entry["n"] == 1 else f"medians of {entry['n']} pairs"
    return (
        f"The demo ({images} images, {demo['jobs']} jobs), {rounds} on {machine['processor']}, "
        f"{demo['threads']} cores, {machine['memory']}; torch {demo['versions'].get('torch', '?')}, "
        f"{demo['date']}. Seconds of a stage are added over its jobs, of which several run at once. "
        f"{entry['note'][:1].upper()}{entry['note'][1:]}."
    )
