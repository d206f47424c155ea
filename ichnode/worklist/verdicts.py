"""The verdict on a study: judged anew whenever one of its series changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import select

from ichnode.domain.lifecycle import VERDICT, Analysis, Band, VerdictEvent, advance
from ichnode.domain.telling import Seen
from ichnode.domain.triage import Judgement, SeriesStanding, judge
from ichnode.worklist import tables as t
from ichnode.worklist.alerts import is_unread, owe_alert, silenced
from ichnode.worklist.notices import outgrow_priority, tell_of_state
from ichnode.worklist.policy import Policy
from ichnode.worklist.reopening import reopen
from ichnode.worklist.transactions import Transaction

_JUDGED = {
    Band.URGENT: VerdictEvent.JUDGED_URGENT,
    Band.REVIEW: VerdictEvent.JUDGED_REVIEW,
    Band.ROUTINE: VerdictEvent.JUDGED_ROUTINE,
    Band.NOT_ANALYSED: VerdictEvent.JUDGED_NOT_ANALYSED,
}
_STATED = {Analysis.POSITIVE, Analysis.REVIEW}


def rejudge(transaction: Transaction, policy: Policy, study: t.Study) -> None:
    """Judge a study by its series as they are now; the caller holds the study's row.

    A new revision is written only when the band or the trusted series changes. The band never
    falls here (`VERDICT`); when it rises to URGENT the priority deliveries of this revision are
    owed, and again when blood is found in images that nobody has seen (`is_unread`). REVIEW moves
    a study up on our own list and is reported; it raises no alarm elsewhere.
    """
    transaction.session.flush()
    series = list(
        transaction.session.scalars(
            select(t.Series).where(t.Series.study_id == study.id).order_by(t.Series.id)
        )
    )
    judgement = _judge(series)
    band = advance(VERDICT, study.band, _JUDGED[judgement.band])
    if judgement.band.rank > study.band.rank:
        return  # it would fall: what was said before stands, sentence and all
    trusted = judgement.trusted_series_uid
    rises = band.rank < study.band.rank
    changed = band is not study.band or trusted != study.trusted_series_uid
    study.sentence = judgement.sentence
    if rises:
        outgrow_priority(transaction, study, band)
    if changed:
        revise(transaction, study, band, trusted, judgement.sentence)
    if band is not Band.URGENT:
        return
    if rises:
        _alert(transaction, policy, study, series)
    positives = list(_positives(transaction, series))
    reopen(transaction, study, [analysis for _, analysis in positives], rises=rises)
    for one, analysis in positives:
        if is_unread(transaction, policy, study, analysis):
            revise(transaction, study, band, trusted, judgement.sentence)
            owe_alert(transaction, policy, study, one, analysis)


def _judge(series: Sequence[t.Series]) -> Judgement:
    """Judge; what a person has seen and put aside counts as nothing found.

    Otherwise the next slice of another series would undo the person's decision.
    """
    standings = [
        SeriesStanding(
            series_uid=one.series_uid,
            analysis=Analysis.NEGATIVE if _is_dismissed(one) else one.analysis,
            final=one.final,
            score=one.score,
        )
        for one in series
    ]
    judgement = judge(standings)
    if judgement.band.rank == Band.ROUTINE.rank and any(map(_is_dismissed, series)):
        return Judgement(Band.ROUTINE, None, "Lowered by a person.")
    return judgement


def _is_dismissed(series: t.Series) -> bool:
    return (
        series.analysis in _STATED
        and series.analysis_id is not None
        and series.analysis_id == series.dismissed_analysis_id
    )


def give_back(transaction: Transaction, policy: Policy, study: t.Study) -> None:
    """Note that whoever had opened a study has it in hand no longer, and has not read it.

    Alerts that were suppressed because somebody had opened it are owed anew: of what is positive
    now, or else, since nothing but a person takes an alert back, of what they would have told. The
    caller holds the study's row.
    """
    if study.seen_how is not Seen.OPENED:
        return
    study.seen_how = study.seen_at = None
    untold = silenced(transaction, study)
    if study.band is not Band.URGENT or untold is None:
        return
    series = list(
        transaction.session.scalars(select(t.Series).where(t.Series.study_id == study.id))
    )
    told_of = transaction.session.get_one(t.Series, untold.series_id), untold
    for one, analysis in _positives(transaction, series):
        if one.series_uid == study.trusted_series_uid:
            told_of = one, analysis
    revise(transaction, study, study.band, study.trusted_series_uid, study.sentence)
    owe_alert(transaction, policy, study, *told_of)


def _positives(
    transaction: Transaction, series: Sequence[t.Series]
) -> Iterator[tuple[t.Series, t.Analysis]]:
    for one in series:
        stands = one.analysis is Analysis.POSITIVE and not _is_dismissed(one)
        if stands and one.analysis_id is not None:
            yield one, transaction.session.get_one(t.Analysis, one.analysis_id)


def _alert(
    transaction: Transaction, policy: Policy, study: t.Study, series: Sequence[t.Series]
) -> None:
    for one in series:
        if one.series_uid == study.trusted_series_uid and one.analysis_id is not None:
            analysis = transaction.session.get_one(t.Analysis, one.analysis_id)
            owe_alert(transaction, policy, study, one, analysis)


def revise(
    transaction: Transaction,
    study: t.Study,
    band: Band,
    trusted_series_uid: str | None,
    sentence: str,
    *,
    judged_by: str = "ichnode",
    reason: str = "",
) -> None:
    """Write the next revision of a study's verdict."""
    before = study.band
    study.band, study.band_rank = band, band.rank
    study.trusted_series_uid, study.sentence = trusted_series_uid, sentence
    study.revision += 1
    transaction.session.add(
        t.Verdict(
            study_id=study.id,
            revision=study.revision,
            band=band,
            trusted_series_uid=trusted_series_uid,
            sentence=sentence,
            judged_by=judged_by,
            reason=reason,
            at=transaction.now,
        )
    )
    transaction.event(
        "study",
        "judged" if judged_by == "ichnode" else "lowered",
        study_uid=study.study_uid,
        series_uid=trusted_series_uid,
        band=band.value,
        before=before.value,
        revision=study.revision,
    )
    tell_of_state(transaction, study)
