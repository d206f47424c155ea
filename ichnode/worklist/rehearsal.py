"""What a destination would get about a study, without an outbox."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import select

from ichnode.domain.errors import ConfigurationError
from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Document
from ichnode.domain.work import ALERT_KINDS, DeliveryItem
from ichnode.worklist import tables as t
from ichnode.worklist.carried import item_of
from ichnode.worklist.policy import Policy, Route
from ichnode.worklist.transactions import Transaction


def rehearse(
    transaction: Transaction, policy: Policy, study_uid: str, destination: str
) -> tuple[DeliveryItem, ...]:
    """Return what a destination would get about a study now, whatever it got before.

    Documents that are not built, or that nobody writes about this finding, are not among them.

    Raises
    ------
    ConfigurationError
        When nothing was found in the study yet, or there is no such study or destination.
    """
    routes = [one for one in policy.destinations if one.name == destination]
    if not routes:
        raise ConfigurationError(f"There is no destination {destination!r}.")
    study = transaction.session.scalar(select(t.Study).where(t.Study.study_uid == study_uid))
    if study is None:
        raise ConfigurationError(f"There is no study {study_uid[:64]!r}.")
    analysis = _told_of(transaction, study)
    rows = _rehearsed(transaction, study, analysis, routes[0])
    return tuple(_as_an_alert(item_of(transaction, row)) for row in rows)


def _told_of(transaction: Transaction, study: t.Study) -> t.Analysis:
    """Return the analysis of the trusted series, or of the first that has one."""
    analysis = transaction.session.scalar(
        select(t.Analysis)
        .join(t.Series, t.Series.analysis_id == t.Analysis.id)
        .where(t.Series.study_id == study.id)
        .order_by((t.Series.series_uid == study.trusted_series_uid).desc(), t.Series.id)
        .limit(1)
    )
    if analysis is None:
        raise ConfigurationError("No series of that study has a result yet.")
    return analysis


def _rehearsed(
    transaction: Transaction, study: t.Study, analysis: t.Analysis, route: Route
) -> Iterator[t.Delivery]:
    """Yield rows that are in no outbox."""
    documents: dict[str, int] = {
        one.kind: one.id
        for one in transaction.session.scalars(
            select(t.Document)
            .where(t.Document.analysis_id == analysis.id, t.Document.state == Document.BUILT)
            .order_by(t.Document.id.desc())  # the first that was built is kept
        )
    }
    for number, kind in enumerate(sorted(route.kinds), start=1):
        if kind in ALERT_KINDS or kind in documents:
            yield t.Delivery(
                id=number,
                study_id=study.id,
                analysis_id=analysis.id,
                document_id=documents.get(kind),
                kind=kind,
                destination=route.name,
                revision=study.revision,
                urgent=analysis.finding is Finding.POSITIVE,
                attempts=0,
            )


def _as_an_alert(item: DeliveryItem) -> DeliveryItem:
    """Return what is told while a study is urgent, whatever it is now."""
    return item if item.alert is None else replace(item, alert=replace(item.alert, withdrawn=False))
