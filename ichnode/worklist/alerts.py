"""Alerts and what becomes of them: owed, needed no longer, taken back.

One destination is told of a study once per revision of its verdict, and what it was told last is
what holds: a withdrawal that was not delivered yet is overtaken by a new alert, and the other way
round. While the overtaken one is on its way, the new one waits until nobody holds it
(`deliveries`), so that they cannot arrive in the wrong order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, exists, func, select

from ichnode.domain.lifecycle import DELIVERY, Band, Delivery, DeliveryEvent, advance
from ichnode.domain.telling import PENDING, Seen, Told, is_needed, standing
from ichnode.domain.work import ALERT_KINDS, WITHDRAWABLE
from ichnode.worklist import tables as t
from ichnode.worklist.outbox import delivery_event, enter_delivery
from ichnode.worklist.policy import Policy
from ichnode.worklist.transactions import Transaction

_Way = tuple[str, str]  # destination and kind


def is_withdrawal() -> ColumnElement[bool]:
    """Return the condition that a delivery takes an alert back."""
    return t.Delivery.document_id.is_(None) & exists().where(
        t.Verdict.study_id == t.Delivery.study_id,
        t.Verdict.revision == t.Delivery.revision,
        t.Verdict.band != Band.URGENT,
    )


def owe_alert(
    transaction: Transaction,
    policy: Policy,
    study: t.Study,
    series: t.Series,
    analysis: t.Analysis,
) -> None:
    """Enter the deliveries that tell of an urgent study, for this revision of its verdict.

    What a person has reported on is entered as suppressed, so that it can be seen why nobody was
    told. The caller holds the study's row.
    """
    because = None
    if study.seen_how is Seen.REPORTED and study.seen_at is not None:
        newest_at = images_at(transaction, analysis)
        if not is_needed(Seen.REPORTED, study.seen_at, transaction.now, newest_at):
            because = "a person reported the study"
    if because is None:
        taken_back = _alerts(transaction, study, is_withdrawal())
        _suppress(transaction, taken_back, "a new finding")
    for kind in ALERT_KINDS:
        for route in policy.takers(kind):
            enter_delivery(transaction, study, series, analysis, route, kind, because=because)


def is_unread(
    transaction: Transaction, policy: Policy, study: t.Study, analysis: t.Analysis
) -> bool:
    """Say whether a positive rests on images that nobody has seen, and none such was told.

    A study has one alert. But where that was of images that a person has reported, or was
    suppressed because a person opened them, a control scan that bleeds would be told to nobody. The
    caller holds the study's row.
    """
    seen_at = study.seen_at
    if seen_at is None or not any(policy.takers(kind) for kind in ALERT_KINDS):
        return False
    if images_at(transaction, analysis) <= seen_at:
        return False
    alerts = list(_alerts(transaction, study, ~is_withdrawal()))
    if study.seen_how is Seen.OPENED and any(a.state is not Delivery.SUPPRESSED for a in alerts):
        return False
    session = transaction.session
    told = [session.get_one(t.Analysis, key) for key in {one.analysis_id for one in alerts}]
    return all(images_at(transaction, one) <= seen_at for one in told)


def silenced(transaction: Transaction, study: t.Study) -> t.Analysis | None:
    """Return what a suppressed alert tells of, among the latest revision that has any, or None."""
    alerts = list(_alerts(transaction, study, ~is_withdrawal()))
    latest = max((one.revision for one in alerts), default=0)
    for one in alerts:
        if one.revision == latest and one.state is Delivery.SUPPRESSED:
            return transaction.session.get_one(t.Analysis, one.analysis_id)
    return None


def note_look(transaction: Transaction, study: t.Study, how: Seen, at: datetime, by: str) -> None:
    """Note that a person has seen a study, and suppress the alerts that this makes needless.

    A report is not undone by somebody who opens the study later. The caller holds the study's row.
    """
    if study.seen_how is None or how.stage > study.seen_how.stage:
        study.seen_how, study.seen_at = how, at
    elif how is study.seen_how and (study.seen_at is None or at > study.seen_at):
        study.seen_at = at
    transaction.event("study", how.value, study_uid=study.study_uid, by=by, seen_at=at.isoformat())
    needless = [
        one
        for one in _alerts(transaction, study, ~is_withdrawal())
        if one.state in PENDING and not _is_needed(transaction, one, how, at)
    ]
    _suppress(transaction, needless, f"a person {how.value} the study")


def withdraw(transaction: Transaction, policy: Policy, study: t.Study) -> None:
    """Take back what others were told of a study that a person has lowered just now.

    Alerts that nobody was told yet are suppressed. Where one was told, or may have been (an answer
    may get lost on its way), its withdrawal is owed for this revision. The caller holds the study's
    row, and has revised its verdict.
    """
    rows = list(_alerts(transaction, study))
    bands = _bands(transaction, study)
    alerts = [one for one in rows if bands.get(one.revision) is Band.URGENT]
    _suppress(transaction, alerts, "a person lowered the study")
    by_way: dict[_Way, dict[int, t.Delivery]] = defaultdict(dict)
    for one in rows:
        by_way[one.destination, one.kind][one.revision] = one
    for way, of_way in sorted(by_way.items()):
        believed = standing(
            Told(one.revision, one not in alerts, one.state, one.attempts)
            for one in of_way.values()
        )
        if believed is not None and way[1] in WITHDRAWABLE:
            _owe_withdrawal(transaction, policy, study, of_way[believed.revision])


def _owe_withdrawal(
    transaction: Transaction, policy: Policy, study: t.Study, alert: t.Delivery
) -> None:
    session = transaction.session
    analysis = session.get_one(t.Analysis, alert.analysis_id)
    series = session.get_one(t.Series, analysis.series_id)
    for route in policy.takers(alert.kind):
        if route.name == alert.destination:
            enter_delivery(
                transaction, study, series, analysis, route, alert.kind, taking_back=True
            )
            return
    because = "the destination left the settings"
    delivery_event(transaction, alert, "not_withdrawn", because=because)


def _alerts(
    transaction: Transaction, study: t.Study, *conditions: ColumnElement[bool]
) -> Iterable[t.Delivery]:
    """Return the deliveries of a study that tell or take back, locked."""
    return transaction.session.scalars(
        select(t.Delivery)
        .where(t.Delivery.study_id == study.id, t.Delivery.document_id.is_(None), *conditions)
        .order_by(t.Delivery.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )


def _suppress(transaction: Transaction, rows: Iterable[t.Delivery], because: str) -> None:
    """Suppress what of the rows is pending; what is on its way may arrive all the same."""
    for one in rows:
        if one.state not in PENDING:
            continue
        one.state = advance(DELIVERY, one.state, DeliveryEvent.SUPPRESSED)
        delivery_event(transaction, one, "suppressed", because=because)


def _is_needed(transaction: Transaction, alert: t.Delivery, how: Seen, at: datetime) -> bool:
    session = transaction.session
    judged_at = session.scalars(
        select(t.Verdict.at).where(
            t.Verdict.study_id == alert.study_id, t.Verdict.revision == alert.revision
        )
    ).one()
    analysis = session.get_one(t.Analysis, alert.analysis_id)
    return is_needed(how, at, judged_at, images_at(transaction, analysis))


def images_at(transaction: Transaction, analysis: t.Analysis) -> datetime:
    """Return when the last image of an analysis was recorded, by the database's clock."""
    return transaction.session.scalars(
        select(func.max(t.Instance.recorded_at)).where(
            t.Instance.series_id == analysis.series_id,
            t.Instance.ordinal <= analysis.instance_count,
        )
    ).one()


def _bands(transaction: Transaction, study: t.Study) -> dict[int, Band]:
    rows = transaction.session.execute(
        select(t.Verdict.revision, t.Verdict.band).where(t.Verdict.study_id == study.id)
    )
    return {row.revision: row.band for row in rows}
