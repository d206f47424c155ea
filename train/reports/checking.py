"""Hold what the labeller says against what people said of the same reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ichnode.domain.findings import LABELS, Label
from ichnode.domain.intervals import wilson
from train.errors import TrainingError
from train.reports.labelling import LabelAnswer, label_report
from train.reports.rules import Rules
from train.reports.tables import Report
from train.reports.training_labels import Policy, training_labels

_PRESENT = frozenset(("1", "1.0", "yes", "y", "true", "present", "positive"))
_ABSENT = frozenset(("0", "0.0", "no", "n", "false", "absent", "negative"))
_NOT_KNOWN = frozenset(
    ("", "nan", "na", "n/a", "unknown", "uncertain", "undetermined", "not mentioned", "?")
)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A label on which the labeller and a person differ."""

    line: int
    label: Label
    by_hand: bool
    read: LabelAnswer = field(repr=False)
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often the labeller is right on one label.

    Attributes
    ----------
    found, missed, open_present : int
        Of those that are present by hand: labelled present, absent, and left unknown.
    right, false, open_absent : int
        Of those that are absent by hand: labelled absent, present, and left unknown.
    """

    label: Label
    found: int = 0
    missed: int = 0
    open_present: int = 0
    right: int = 0
    false: int = 0
    open_absent: int = 0

    @property
    def sensitivity(self) -> tuple[int, int]:
        """Found, of the present ones that were labelled at all."""
        return self.found, self.found + self.missed

    @property
    def specificity(self) -> tuple[int, int]:
        """Right, of the absent ones that were labelled at all."""
        return self.right, self.right + self.false

    @property
    def predictive_value(self) -> tuple[int, int]:
        """Right, of those that were labelled present."""
        return self.found, self.found + self.false

    @property
    def decided(self) -> tuple[int, int]:
        """Labelled present or absent, of all that people labelled."""
        known = self.found + self.missed + self.right + self.false
        return known, known + self.open_present + self.open_absent


def check(
    reports: Sequence[Report], rules: Rules | None = None, policy: Policy | None = None
) -> tuple[list[Agreement], list[Disagreement]]:
    """Label reports and compare with the labels that people gave them in the same table.

    Raises
    ------
    TrainingError
        When the table has no column of a label, none is filled in, or a value is none.
    """
    columns = [label for label in LABELS if label in reports[0].cells]
    if not columns:
        raise TrainingError(f"The table has no column of labels; known are {', '.join(LABELS)}.")
    counts = {label: dict.fromkeys(Agreement.__slots__[1:], 0) for label in columns}
    differing: list[Disagreement] = []
    for report in reports:
        by_hand = {label: _by_hand(report, label) for label in columns}
        read = label_report(report.text, rules)
        labels = training_labels(read, policy)
        for label, truth in by_hand.items():
            if truth is None:
                continue
            value = labels[label].value
            counts[label][_cell(truth, value)] += 1
            if value is not None and value is not truth:
                differing.append(Disagreement(report.line, label, truth, read[label], report.text))
    if not any(sum(one.values()) for one in counts.values()):
        raise TrainingError("No report of the table has a label that says present or absent.")
    return [Agreement(label, **count) for label, count in counts.items()], differing


def interval(part: tuple[int, int]) -> tuple[float, float, float]:
    """Return a share with its 95 % interval (Wilson); NaN where there is nothing to share."""
    hits, count = part
    return (hits / count if count else float("nan"), *wilson(hits, count))


def total(agreements: Iterable[Agreement]) -> tuple[int, int]:
    """Return how many labels are right, of all that were decided and that people labelled."""
    parts = [(one.found + one.right, one.decided[0]) for one in agreements]
    return sum(right for right, _ in parts), sum(count for _, count in parts)


def _by_hand(report: Report, label: Label) -> bool | None:
    word = report.cells.get(label, "").strip().lower()
    if word in _NOT_KNOWN:
        return None
    if word not in _PRESENT | _ABSENT:
        raise TrainingError(
            f"Line {report.line} says of {label} neither present, absent nor unknown; 1, 0 and "
            "blank will do too."
        )
    return word in _PRESENT


def _cell(truth: bool, value: bool | None) -> str:
    if value is None:
        return "open_present" if truth else "open_absent"
    if truth:
        return "found" if value else "missed"
    return "false" if value else "right"
