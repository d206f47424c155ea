"""What is taken to be true of studies, and what the node itself said of them: read, never shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import ColumnElement, exists, select

from ichnode.domain.findings import Label, Presence
from ichnode.domain.labels import LabelSource, Statement, Truth, truth_of
from ichnode.domain.lifecycle import Analysis, Band
from ichnode.worklist import tables as t
from ichnode.worklist.transactions import Transaction

Spoken = dict[tuple[str | None, LabelSource], dict[Label, Presence]]
"""What was said last of each label, by series (None: the study as a whole) and source."""


@dataclass(frozen=True, slots=True)
class StudyTruth:
    """What is true of a study as a whole, and of single series of it."""

    study: Truth = field(default_factory=Truth)
    series: Mapping[str, Truth] = field(default_factory=dict)

    def about(self, series_uid: str | None) -> Truth:
        """Return what is true of the study, as far as nobody spoke of this series of it.

        A label of a series is about that series; it says nothing of what another one shows.
        """
        of_series = self.series.get(series_uid or "")
        return of_series if of_series is not None else self.study


def flagged_by_model() -> ColumnElement[bool]:
    """Return the condition that the node itself once called a study urgent or to be reviewed.

    Not its band of today: a person may have lowered it, and was flagged to all the same.
    """
    return exists().where(
        t.Verdict.study_id == t.Study.id,
        t.Verdict.judged_by == "ichnode",
        t.Verdict.band.in_([Band.URGENT, Band.REVIEW]),
    )


def was_analysed() -> ColumnElement[bool]:
    """Return the condition that a model stated something of a study."""
    stated = [Analysis.POSITIVE, Analysis.REVIEW, Analysis.NEGATIVE]
    return (
        exists()
        .where(t.Series.study_id == t.Study.id, t.Series.analysis.in_(stated))
        .correlate(t.Study)
    )


def spoken(transaction: Transaction, study_ids: Iterable[int]) -> dict[int, Spoken]:
    """Return what was said last of each of these studies."""
    found: dict[int, Spoken] = defaultdict(lambda: defaultdict(dict))
    rows = transaction.session.scalars(
        select(t.Label).where(t.Label.study_id.in_(list(study_ids))).order_by(t.Label.id)
    )
    for row in rows:
        place = (row.series_uid, cast(LabelSource, row.source))
        found[row.study_id][place][cast(Label, row.label)] = Presence(row.presence)
    return found


def truths(transaction: Transaction, study_ids: Iterable[int]) -> dict[int, StudyTruth]:
    """Return what is taken to be true of each study of which anything was said."""
    return {study: _study_truth(said) for study, said in spoken(transaction, study_ids).items()}


def _study_truth(said: Spoken) -> StudyTruth:
    series = {uid for uid, _ in said if uid is not None}
    return StudyTruth(truth_about(said, None), {uid: truth_about(said, uid) for uid in series})


def truth_about(said: Spoken, series_uid: str | None) -> Truth:
    """Return what is true of a series, or of the whole study (None), by what was said of it."""
    return truth_of(
        Statement(label, presence, source)
        for (uid, source), labels in said.items()
        for label, presence in labels.items()
        if uid == series_uid
    )
