"""Read the invented reports of this folder and what is expected of them."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from ichnode.domain.findings import LABELS, Label
from train.reports.labelling import Answer, ReportLabels, label_report

FOLDER = Path(__file__).parent
DEVELOPMENT = ("development", "harder", "later", "latest")
HELD_OUT = ("heldout", "heldout_second")

_SIGNS: dict[str, Answer] = {"+": "present", "-": "absent", "?": "uncertain"}
_WORD = re.compile(r"([a-z]+)([-+?])([a-z]*)")


@dataclass(frozen=True)
class Case:
    """A report and the answer, and the age where one is expected, of each label."""

    id: str
    topic: str
    text: str
    answers: dict[Label, Answer]
    ages: dict[Label, str]


def cases(*names: str) -> list[Case]:
    """Return the reports of files of this folder."""
    return [
        _case(held)
        for name in names
        for held in tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))["report"]
    ]


def _case(held: dict[str, str]) -> Case:
    if held["expect"] == "none":
        return Case(held["id"], held["topic"], held["text"], dict.fromkeys(LABELS, "absent"), {})
    words = [_WORD.fullmatch(word) for word in held["expect"].split()]
    stated = {word[1]: (_SIGNS[word[2]], word[3]) for word in words}
    rest: Answer = stated.pop("rest", ("not mentioned", ""))[0]
    assert set(stated) <= set(LABELS), held["id"]
    answers = {label: stated.get(label, (rest, ""))[0] for label in LABELS}
    ages = {label: age for label, (_, age) in stated.items() if age}
    return Case(held["id"], held["topic"], held["text"], answers, ages)


def differences(case: Case, read: ReportLabels | None = None) -> list[str]:
    """Return the labels on which the labeller and the expectation differ, in words."""
    read = read or label_report(case.text)
    return [
        f"{case.id} {label}: expected {case.answers[label]} {case.ages.get(label, '')}, "
        f"read {read[label].answer} {read[label].acuity} ({read[label].rule})"
        for label in LABELS
        if read[label].answer != case.answers[label]
        or case.ages.get(label, read[label].acuity) != read[label].acuity
    ]
