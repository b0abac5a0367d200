"""Does a run support the claim? A paragraph filled from its numbers, whichever way they point."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workflow_scripts.report.names import (
    compared_pair,
    made_at,
    mean_std,
    method_name,
    refinement_of,
    signed,
)

Answer = Literal["supported", "partly supported", "not supported", "cannot be tested"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison that the claim makes."""

    what: str
    before: str
    """The baseline's figure, mean ± standard deviation."""
    after: str
    """The other method's."""
    relation: str
    """The difference and what it amounts to."""
    sentence: str
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
        """The answer in a few sentences."""
        if not self.findings:
            return self.note
        held, number = sum(finding.holds for finding in self.findings), len(self.findings)
        which = "All" if held == number else f"{held} of the" if held else "None of the"
        said = "; ".join(finding.sentence for finding in self.findings).replace(
            " %", "\N{NO-BREAK SPACE}%"
        )
        return f"{which} {number} comparisons that the claim makes hold in this run. {said}. {self.note}"


@dataclass(frozen=True, slots=True)
class _Measure:
    path: tuple[str, ...]
    what: str
    sentence: str
    """With {after} and {before} for the figures, {second} and {first} for the methods."""
    scale: float = 1.0
    threshold: str | None = None
    """Of a network's pseudo-masks, as a key of the summary."""


def _measures(split: str, thresholds: Sequence[str], refinement: str) -> Iterator[_Measure]:
    activations = ("activations", split)
    yield _Measure(
        (*activations, "best_miou"),
        f"best mIoU of the activations on {split}, %",
        f"At its best threshold on {split} {{second}} reaches {{after}} % mIoU, {{first}} {{before}} %",
    )
    yield _Measure(
        (*activations, "mean_miou"),
        "mIoU averaged over all thresholds, %",
        "averaged over all thresholds {after} % against {before} %",
    )
    yield _Measure(
        (*activations, "plateau"),
        "share of thresholds within 5 % of the best, %",
        "{after} % of the thresholds come within 5 % of the best, against {before} %",
        100.0,
    )
    yield _Measure(
        (*activations, "refined_mean_miou"),
        f"mIoU after {refinement}, averaged over thresholds, %",
        f"after {refinement} the average over thresholds is {{after}} % against {{before}} %",
    )
    if not thresholds:
        yield _network(("segmentation", "val", "miou"), None, True)
    for i, key in enumerate(thresholds):
        yield _network(("by_threshold", key, "segmentation", "val", "miou"), key, i == 0)


def _network(path: tuple[str, ...], key: str | None, first: bool) -> _Measure:
    at = f" {made_at(key)}" if key else ""
    subject = f"networks trained on pseudo-masks{at} reach" if first else f"{at.strip()}:"
    return _Measure(
        path,
        f"mIoU of the segmentation network on val, pseudo-masks{at}, %",
        f"{subject} {{after}} % against {{before}} %",
        threshold=key,
    )


def verdict(
    summary: dict[str, Any], differences: Sequence[dict[str, str]], split: str | None
) -> Verdict:
    """Weigh the figures of a run.

    A comparison holds when the mean over trials is better by more than the larger of the two
    methods' standard deviations; with one trial there is no deviation, and the text says so. For the
    segmentation networks it must also be more than chance in the bootstrap over images.

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
        f"{second} makes better pseudo-masks than {first}, depends less on the background"
        " threshold, and so trains better segmentation networks from image labels alone."
    )
    if split is None:
        note = (
            "This dataset has no ground-truth masks, so that nothing can be measured against them."
        )
        return Verdict("cannot be tested", claim, (), note)
    sections = [summary["methods"][method] for method in pair]
    thresholds = [
        k for k in sections[0].get("by_threshold", {}) if k in sections[1]["by_threshold"]
    ]
    findings = []
    for measure in _measures(split, thresholds, refinement_of(summary)):
        before, after = (_figure(part, measure.path) for part in sections)
        if before and after:
            network = "segmentation" in measure.path
            chance = _chance(differences, pair, measure.threshold) if network else None
            findings.append(_finding(measure, first, second, before, after, chance))
    return Verdict(answer_of(findings), claim, tuple(findings), _note(summary["trials"]))


def answer_of(findings: Sequence[Finding]) -> Answer:
    """In part only where at least half of the comparisons hold."""
    if not findings:
        return "cannot be tested"
    held = sum(finding.holds for finding in findings)
    if held == len(findings):
        return "supported"
    return "partly supported" if 2 * held >= len(findings) else "not supported"


def _note(trials: int) -> str:
    if trials > 1:
        return f"Figures are means of {trials} trials; the table has their standard deviations."
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
    relation = signed(difference)
    if difference < -spread:
        relation += ", against the claim"
    elif difference <= spread:
        relation += ", no more than the spread over trials"
    if chance:
        relation += f", {chance}"
    figures = [mean_std(figure, measure.scale) for figure in (before, after)]
    means = [f"{measure.scale * figure['mean']:.1f}" for figure in (before, after)]
    sentence = measure.sentence.format(before=means[0], after=means[1], first=first, second=second)
    holds = difference > spread and chance != "within chance"
    return Finding(measure.what, figures[0], figures[1], relation, sentence, holds)


def _chance(
    differences: Sequence[dict[str, str]], pair: tuple[str, str], threshold: str | None
) -> str | None:
    """What the bootstrap says of the networks at a threshold (the first one), all trials together.

    "beyond chance" when each trial's interval lies on the same side of zero.
    """
    rows = [
        row
        for row in differences
        if row["section"] == "segmentation"
        and row["split"] == "val"
        and {row["first"], row["second"]} == set(pair)
    ]
    rows = [row for row in rows if row["threshold"] == (threshold or rows[0]["threshold"])]
    if not rows:
        return None
    signs = {(float(row["low"]) > 0) - (float(row["high"]) < 0) for row in rows}
    return "beyond chance" if signs in ({1}, {-1}) else "within chance"
