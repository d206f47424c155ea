"""The node's export, as a list of consecutive studies: labelled or not, analysed or not.

Sensitivity can only be known of studies that were labelled whether the model flagged them or not.
So the list holds every study of its window, and what is missing is counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ichnode.domain.findings import LABELS
from ichnode.domain.labels import SOURCES
from ichnode.phantom.identity import MANUFACTURER
from train.errors import TrainingError

KIND, FORMAT = "ichnode export", 1


@dataclass(frozen=True, slots=True)
class ExportedStudy:
    """One study of the export."""

    study: str
    patient: str
    arrived_week: str
    labels: tuple[float | None, ...]  # in the order of LABELS; None where nobody said
    label_source: str
    confirmed: bool  # by a person
    flagged: bool  # the model that ran called it urgent or to be reviewed
    reason: str  # why it was not analysed, or ""
    series: Mapping[str, Any] | None = field(default=None, repr=False)
    champion: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def labelled(self) -> bool:
        """Whether a person said if there is any haemorrhage."""
        return self.confirmed and self.labels[0] is not None

    @property
    def usable(self) -> bool:
        """Whether there are both label and images."""
        return self.labelled and self.series is not None

    @property
    def positive(self) -> bool:
        """Whether there is haemorrhage, as far as anybody said."""
        return self.labels[0] == 1


@dataclass(frozen=True, slots=True)
class Export:
    """A whole export."""

    folder: Path
    about: Mapping[str, Any]
    studies: tuple[ExportedStudy, ...] = field(repr=False)

    @property
    def analysed(self) -> tuple[ExportedStudy, ...]:
        """The studies that the model looked at."""
        return tuple(one for one in self.studies if not one.reason)

    @property
    def simulated(self) -> bool:
        """Whether every scan comes from the simulator: no figure then says anything of people."""
        makers = {one.series["facts"].get("manufacturer") for one in self.usable if one.series}
        return makers == {MANUFACTURER}

    @property
    def usable(self) -> tuple[ExportedStudy, ...]:
        """The labelled studies with pixels."""
        return tuple(one for one in self.studies if one.usable)


def read_export(folder: Path) -> Export:
    """Read the list of an export.

    Raises
    ------
    TrainingError
        When it is missing, of another version, or has a line that makes no sense.
    """
    try:
        about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        lines = (folder / "studies.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{folder} is no whole export of the node; `ichnode retrain` writes one."
        ) from error
    if not isinstance(about, dict):
        about = {}
    if about.get("kind") != KIND or about.get("format") != FORMAT:
        raise TrainingError(f"{folder} is an export of another version; write it again.")
    studies = tuple(_study(line, number) for number, line in enumerate(lines, 1))
    if len({one.study for one in studies}) != len(studies):
        raise TrainingError("A study is in the export twice; write it again.")
    return Export(folder=folder, about=about, studies=studies)


def _study(line: str, number: int) -> ExportedStudy:
    try:
        stated = json.loads(line)
        labels = tuple(_label(stated["labels"].get(name)) for name in LABELS)
        study = ExportedStudy(
            study=str(stated["study"]),
            patient=str(stated["patient"]),
            arrived_week=str(stated["arrived_week"]),
            labels=labels,
            label_source=str(stated["label_source"] or ""),
            confirmed=bool(stated["confirmed"]),
            flagged=bool(stated["flagged"]),
            reason=str(stated["reason"] or ""),
            series=stated["series"],
            champion=stated["champion"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(f"Line {number} of studies.jsonl makes no sense.") from error
    if study.labelled and study.label_source not in SOURCES:
        raise TrainingError(
            f"Line {number} of studies.jsonl has labels of the source {study.label_source[:20]!r}; "
            f"only {', '.join(SOURCES)} may say what is true."
        )
    return study


def _label(value: Any) -> float | None:
    if value is None:
        return None
    if value not in (0, 1):
        raise ValueError("a label is 0, 1 or null")
    return float(value)


def coverage(studies: Sequence[ExportedStudy]) -> tuple[float | None, int, int]:
    """Return the share of some studies with label and images (None of none), with its counts."""
    usable = sum(one.usable for one in studies)
    return (usable / len(studies) if studies else None), usable, len(studies)
