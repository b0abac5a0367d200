"""Does a run support the claim? A paragraph filled from its numbers, whichever way they point."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workflow_scripts.report.names import compared_pair, method_name

Answer = Literal["supported", "partly supported", "not supported", "cannot be tested"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison that the claim makes."""

    text: str
    holds: bool
    """Whether the difference is in the claimed direction and above the spread over trials."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer and what it rests on."""

    answer: Answer
    claim: str
    findings: tuple[Finding, ...]
    note: str

    @property
    def paragraph(self) -> str:
        """The answer in a sentence or two."""
        if not self.findings:
            return self.note
        held, number = sum(finding.holds for finding in self.findings), len(self.findings)
        which = "All" if held == number else f"{held} of the" if held else "None of the"
        return f"{which} {number} comparisons that the claim makes hold in this run. {self.note}"


@dataclass(frozen=True, slots=True)
class _Measure:
    path: tuple[str, ...]
    what: str
    unit: str
    scale: float = 1.0


def _measures(split: str) -> tuple[_Measure, ...]:
    activations = ("activations", split)
    return (
        _Measure((*activations, "best_miou"), f"best mIoU of the activations on {split}", "points"),
        _Measure((*activations, "mean_miou"), "mIoU averaged over all thresholds", "points"),
        _Measure(
            (*activations, "plateau"), "share of thresholds within 5 % of the best", "points", 100.0
        ),
        _Measure(
            (*activations, "refined_mean_miou"),
            "mIoU after CRF, averaged over thresholds",
            "points",
        ),
        _Measure(("segmentation", "val", "miou"), "mIoU of the segmentation network", "points"),
    )


def verdict(
    summary: dict[str, Any], differences: Sequence[dict[str, str]], split: str | None
) -> Verdict:
    """Weigh the figures of a run.

    A comparison holds when the mean over trials is better by more than the larger of the two
    methods' standard deviations; with one trial there is no deviation, and the text says so. For the
    segmentation network it must also be more than chance in the bootstrap over images.

    Args:
        summary: Contents of summary.json.
        differences: Rows of differences.csv.
        split: The split that the sweep's figures are about; None without ground truth.
    """
    pair = compared_pair(list(summary["methods"]))
    if pair is None:
        return Verdict(
            "cannot be tested", "", (), "The run has a single method; there is nothing to compare."
        )
    first, second = map(method_name, pair)
    claim = (
        f"{second} makes better pseudo-masks than {first}, hardly depends on the background"
        " threshold, and so trains better segmentation networks from image labels alone."
    )
    if split is None:
        note = (
            "This dataset has no ground-truth masks, so that nothing can be measured against them."
        )
        return Verdict("cannot be tested", claim, (), note)
    sections = [summary["methods"][method] for method in pair]
    findings = []
    for measure in _measures(split):
        before, after = (_figure(part, measure.path) for part in sections)
        if before and after:
            chance = _chance(differences, pair) if measure.path[0] == "segmentation" else None
            findings.append(_finding(measure, first, second, before, after, chance))
    return Verdict(_answer(findings), claim, tuple(findings), _note(summary["trials"]))


def _answer(findings: Sequence[Finding]) -> Answer:
    if not findings:
        return "cannot be tested"
    held = sum(finding.holds for finding in findings)
    if held == len(findings):
        return "supported"
    return "partly supported" if held else "not supported"


def _note(trials: int) -> str:
    if trials > 1:
        return f"Figures are means of {trials} trials."
    return (
        "This is a single trial: how much of a difference is luck of the random seed is not known."
        " Run several to know."
    )


def _figure(sections: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    found: Any = sections
    for key in path:
        found = found.get(key, {})
    return found or None


def _finding(
    measure: _Measure,
    first: str,
    second: str,
    before: dict[str, Any],
    after: dict[str, Any],
    chance: str | None,
) -> Finding:
    difference = measure.scale * (after["mean"] - before["mean"])
    spread = measure.scale * max(before["std"] or 0.0, after["std"] or 0.0)
    values = (
        f"{_mean_std(after, measure.scale)} for {second} against"
        f" {_mean_std(before, measure.scale)} for {first}"
    )
    head = f"{measure.what}: {values}"
    if difference > spread:
        relation = f"{difference:.1f} {measure.unit} better"
    elif difference < -spread:
        relation = f"{-difference:.1f} {measure.unit} worse, against the claim"
    else:
        relation = f"a difference of {difference:+.1f}, no more than the spread over trials"
    holds = difference > spread and chance != "within chance"
    extra = f" ({chance} in the bootstrap over images)" if chance else ""
    return Finding(f"{head}, {relation}{extra}.", holds)


def _chance(differences: Sequence[dict[str, str]], pair: tuple[str, str]) -> str | None:
    """What the bootstrap says of the first threshold's networks, all trials together.

    "beyond chance" when each trial's interval lies on the same side of zero.
    """
    rows = [
        row
        for row in differences
        if row["section"] == "segmentation"
        and row["split"] == "val"
        and {row["first"], row["second"]} == set(pair)
    ]
    rows = [row for row in rows if row["threshold"] == rows[0]["threshold"]]
    if not rows:
        return None
    signs = {(float(row["low"]) > 0) - (float(row["high"]) < 0) for row in rows}
    return "beyond chance" if signs in ({1}, {-1}) else "within chance"


def _mean_std(figure: dict[str, Any], scale: float) -> str:
    mean = f"{scale * figure['mean']:.1f}"
    return mean if figure["std"] is None else f"{mean} ± {scale * figure['std']:.1f}"
