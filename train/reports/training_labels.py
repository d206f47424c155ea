"""From what a report says to labels that a network may learn from, and why each is what it is.

What is in doubt is unknown, which training masks: a missing label costs a little, a wrong one costs
more. Two things are for the site to decide, because they depend on what its network is for: chronic
blood, which is no *acute* haemorrhage, and kinds that a report with blood does not speak of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ichnode.domain.findings import LABELS, Label
from train.reports.labelling import KINDS, LabelAnswer, ReportLabels

Chronic: TypeAlias = Literal["unknown", "present", "absent"]
Unmentioned: TypeAlias = Literal["unknown", "absent"]
ANY: Label = LABELS[0]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a site decides.

    Attributes
    ----------
    chronic : str
        What blood is that is chronic throughout.
    unmentioned : str
        What a kind is that a report does not mention beside another kind that is present.
    """

    chronic: Chronic = "unknown"
    unmentioned: Unmentioned = "unknown"


@dataclass(frozen=True, slots=True)
class TrainingLabel:
    """A label, None where it is unknown, and why."""

    value: bool | None
    reason: str


def training_labels(
    report: ReportLabels, policy: Policy | None = None
) -> dict[Label, TrainingLabel]:
    """Return the label of each kind, in the order of `LABELS`.

    They never contradict each other: "any" is 1 where a kind is, and 0 only where none may be.
    """
    policy = policy or Policy()
    labels = {label: _label(report[label], policy) for label in LABELS}
    named = any(labels[kind].value for kind in KINDS)
    if named and policy.unmentioned == "absent":
        for kind in KINDS:
            if report[kind].answer == "not mentioned":
                labels[kind] = TrainingLabel(False, "not mentioned beside a kind that is present")
    return _without_contradiction(labels)


def _label(answer: LabelAnswer, policy: Policy) -> TrainingLabel:
    if answer.answer == "absent":
        return TrainingLabel(False, "absent")
    if answer.answer == "present" and answer.acuity == "chronic":
        values: Mapping[Chronic, bool | None] = {"unknown": None, "present": True, "absent": False}
        return TrainingLabel(values[policy.chronic], "present, chronic only")
    if answer.answer == "present":
        return TrainingLabel(True, f"present, {answer.acuity}")
    return TrainingLabel(None, answer.answer)


def _without_contradiction(labels: dict[Label, TrainingLabel]) -> dict[Label, TrainingLabel]:
    """Return labels that can all be true: where they cannot, what is less sure is unknown."""
    values = [labels[kind].value for kind in KINDS]
    if labels[ANY].value is False and None in values:
        labels[ANY] = TrainingLabel(None, "a kind is unknown")
    elif labels[ANY].value and all(value is False for value in values):
        for kind in KINDS:
            labels[kind] = TrainingLabel(None, "blood is present and every kind is denied")
    return labels
