"""Several reports of one study: a preliminary and a final one, two readers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ichnode.domain.findings import LABELS
from train.reports.labelling import LabelAnswer, ReportLabels


def merged(reports: Sequence[tuple[str, ReportLabels]]) -> tuple[str, ReportLabels]:
    """Return the texts of one study's reports as one, and what they say together.

    What one says and the other does not mention is said. Where one says that blood is there and
    another that it is not, nobody knows here which of them is the later: it is uncertain.
    """
    if len(reports) == 1:
        return reports[0]
    text, held = "", []
    for one, labels in reports:
        held.append({label: _moved(labels[label], len(text)) for label in LABELS})
        text += f"{one}\n\n"
    answers = {label: _merged(one[label] for one in held) for label in LABELS}
    kinds = {answers[label].answer for label in LABELS[1:]}
    whole = answers[LABELS[0]]
    if whole.answer == "absent" and "uncertain" in kinds:
        answers[LABELS[0]] = replace(whole, answer="uncertain", rule="a kind is uncertain")
    return text, ReportLabels(answers)


def _moved(said: LabelAnswer, by: int) -> LabelAnswer:
    """Return an answer whose evidence stands so many characters later."""
    if (found := said.evidence) is None:
        return said
    return replace(said, evidence=replace(found, start=found.start + by, end=found.end + by))


def _merged(said: Iterable[LabelAnswer]) -> LabelAnswer:
    spoken = {one.answer: one for one in said if one.answer != "not mentioned"}
    if {"present", "absent"} <= set(spoken):
        return replace(spoken["present"], answer="uncertain", rule="reports of the study disagree")
    for answer in ("present", "uncertain", "absent"):
        if answer in spoken:
            return spoken[answer]
    return LabelAnswer("not mentioned")
