"""What follows from the answer about a series.

An answer is about the set that was frozen at the claim. When slices arrived meanwhile the set is
stale: a positive is stated all the same (alert early), anything else waits for the whole. The
whole is a set that was quiet for long enough, or one of as many instances as were announced in
which the strict, plausible look found nothing missing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, assert_never

from sqlalchemy import func, select

from ichnode.domain.findings import AnalysisResult, Finding
from ichnode.domain.lifecycle import (
    ANALYSIS,
    RECEPTION,
    Analysis,
    AnalysisEvent,
    ReceptionEvent,
    advance,
)
from ichnode.domain.work import (
    DOCUMENT_KINDS,
    Analysed,
    AnalysisOutcome,
    AnalysisWork,
    Declined,
    DocumentKind,
    Failed,
    NotYet,
    Phase,
)
from ichnode.worklist import tables as t
from ichnode.worklist.dueness import final_at, is_complete, set_due
from ichnode.worklist.outbox import owe_documents
from ichnode.worklist.policy import Policy
from ichnode.worklist.transactions import Transaction
from ichnode.worklist.verdicts import rejudge

_FOUND = {
    Finding.POSITIVE: AnalysisEvent.FOUND_POSITIVE,
    Finding.REVIEW: AnalysisEvent.FOUND_REVIEW,
    Finding.NEGATIVE: AnalysisEvent.FOUND_NEGATIVE,
}


class Settling:
    """Settles one piece of work; the caller holds the rows of study and series.

    Parameters
    ----------
    transaction : Transaction
        In which all of it happens.
    policy : Policy
        How long to wait, how often to try, what to write.
    study, series : Study, Series
        Locked; the series is held by the lease of `work`.
    work : AnalysisWork
        What was handed out.
    """

    def __init__(
        self,
        transaction: Transaction,
        policy: Policy,
        study: t.Study,
        series: t.Series,
        work: AnalysisWork,
    ) -> None:
        self._transaction, self._policy = transaction, policy
        self._study, self._series, self._work = study, series, work
        self._final = work.phase is Phase.FINAL
        self._stale = series.instance_count != series.generation_count

    def settle(self, outcome: AnalysisOutcome) -> None:
        """Write what came of it and let go of the lease."""
        self._series.drop_lease()
        match outcome:
            case Analysed():
                self._analysed(outcome)
            case Declined():
                self._declined(outcome)
            case NotYet(detail):
                self._not_yet(detail)
            case Failed():
                self._failed(outcome)
            case _:
                assert_never(outcome)

    # ------------------------------------------------------------------ the answers

    def _analysed(self, outcome: Analysed) -> None:
        analysis = self._keep(outcome)
        self._series.attempts = 0
        complete = (self._final or is_complete(self._series)) and not self._stale
        if analysis.finding is not Finding.POSITIVE and not complete:
            self._event("provisional", finding=analysis.finding.value)
            self._wait()
            return
        if complete:
            self._series.reception = advance(
                RECEPTION, self._series.reception, ReceptionEvent.COMPLETE
            )
        self._state(_FOUND[analysis.finding], final=complete)
        self._series.analysis_id = analysis.id
        self._series.score = analysis.result.series_score
        self._due(None if complete else self._final_at())
        self._event("analysed", finding=analysis.finding.value, final=complete)
        rejudge(self._transaction, self._policy, self._study)
        kinds = self._kinds(analysis)
        owe_documents(self._transaction, self._policy, self._study, self._series, analysis, kinds)

    def _kinds(self, analysis: t.Analysis) -> tuple[DocumentKind, ...]:
        """Return what is written about an analysis."""
        match analysis.finding:
            case Finding.POSITIVE:
                return tuple(kind for kind in DOCUMENT_KINDS if self._is_wanted(kind))
            case Finding.REVIEW:
                return ("sr",)
            case Finding.NEGATIVE:
                # Whoever got an earlier report that says otherwise must get its successor.
                succeeds = self._has_report_of_another_set(analysis)
                return ("sr",) if self._policy.negative_sr or succeeds else ()
        assert_never(analysis.finding)

    def _is_wanted(self, kind: DocumentKind) -> bool:
        """Say whether a positive gets such a document: report and key image are kept unasked."""
        match kind:
            case "sr":
                return True
            case "sc":
                return self._policy.key_image
            case _:
                return bool(self._policy.takers(kind))

    def _has_report_of_another_set(self, analysis: t.Analysis) -> bool:
        found = self._transaction.session.scalar(
            select(t.Document.id)
            .where(
                t.Document.series_id == self._series.id,
                t.Document.analysis_id != analysis.id,
                t.Document.kind == "sr",
            )
            .limit(1)
        )
        return found is not None

    def _declined(self, outcome: Declined) -> None:
        self._series.attempts = 0
        early = not self._final and outcome.may_change
        if early or self._stale:
            self._event("not_yet", reason=outcome.reason.code, about=outcome.detail)
            self._wait()
            return
        self._state(
            AnalysisEvent.DECLINED,
            final=True,
            reason=outcome.reason.code,
            detail=outcome.detail,
        )
        self._due(None)
        self._event("declined", reason=outcome.reason.code, about=outcome.detail)
        rejudge(self._transaction, self._policy, self._study)

    def _not_yet(self, detail: str) -> None:
        if self._final and not self._stale:
            # Nothing more is to come, so that asking again would go on for ever.
            self._failed(Failed(f"No answer about a complete series: {detail}", transient=False))
            return
        self._series.attempts = 0
        self._event("not_yet", about=detail)
        self._wait()

    def _failed(self, outcome: Failed) -> None:
        self._event("failed", error=outcome.error, attempt=self._work.lease.attempts)
        if self._stale:
            self._wait()
            return
        retry = self._policy.work_retry
        attempts = self._series.attempts
        self._series.detail = outcome.error
        if outcome.transient and not retry.exhausted(attempts):
            self._due(self._transaction.now + retry.wait(attempts))
            return
        self._due(None)
        if self._series.analysis is Analysis.POSITIVE:
            # Only the confirmation failed: an alert is not taken back by a fault of ours.
            self._event("unconfirmed", error=outcome.error)
            return
        self._state(AnalysisEvent.GAVE_UP, final=False, detail=outcome.error)
        self._event("quarantined", error=outcome.error)
        rejudge(self._transaction, self._policy, self._study)

    # ------------------------------------------------------------------ the rows

    def _state(
        self, event: AnalysisEvent, *, final: bool, reason: str | None = None, detail: str = ""
    ) -> None:
        series = self._series
        series.analysis = advance(ANALYSIS, series.analysis, event)
        series.final, series.reason, series.detail = final, reason, detail

    def _wait(self) -> None:
        """Leave the series due: at once for what arrived meanwhile, else when it is complete."""
        if not self._stale:
            self._due(self._final_at())

    def _final_at(self) -> datetime:
        return final_at(self._series, self._transaction.now, self._policy)

    def _due(self, at: datetime | None) -> None:
        set_due(self._series, at, self._study.ordered_rank, self._policy)
        if at is not None and at <= self._transaction.now:
            self._transaction.hint()

    def _keep(self, outcome: Analysed) -> t.Analysis:
        """Store the result of this set and model.

        What the same model said of the same pictures before stands: reports were made from it.
        """
        result, work = outcome.result, self._work
        digest = work.earlier_digest if outcome.kept else work.set_digest
        stored = self._transaction.session.scalar(
            select(t.Analysis).where(
                t.Analysis.series_id == self._series.id,
                t.Analysis.set_digest == digest,
                t.Analysis.model_uid == result.model_uid,
            )
        )
        return stored if stored is not None else self._store(result)

    def _store(self, result: AnalysisResult) -> t.Analysis:
        session, series, work = self._transaction.session, self._series, self._work
        last_slice_at = session.scalar(
            select(func.max(t.Instance.received_at)).where(
                t.Instance.series_id == series.id,
                t.Instance.ordinal <= series.generation_count,
            )
        )
        analysis = t.Analysis(
            series_id=series.id,
            generation=work.generation,
            instance_count=series.generation_count,
            set_digest=work.set_digest,
            model_uid=result.model_uid,
            model_name=result.model_name,
            model_version=result.model_version,
            finding=result.finding,
            phase=work.phase,
            result=result,
            started_at=series.claimed_at or self._transaction.now,
            settled_at=self._transaction.now,
            last_slice_at=last_slice_at or series.last_arrived_at,
        )
        session.add(analysis)
        session.flush()
        self._keep_findings(analysis)
        return analysis

    def _keep_findings(self, analysis: t.Analysis) -> None:
        numbers = {ref.header.sop_uid: ref.header.instance_number for ref in self._work.instances}
        self._transaction.session.add_all(
            t.Finding(
                analysis_id=analysis.id,
                label=label.label,
                probability=label.probability,
                presence=label.presence.value,
                key_sop_uid=label.key_sop_uid,
                key_instance_number=numbers.get(label.key_sop_uid.partition("#")[0]),
            )
            for label in analysis.result.labels
        )

    def _event(self, verb: str, **detail: Any) -> None:
        self._transaction.event(
            "series",
            verb,
            study_uid=self._study.study_uid,
            series_uid=self._series.series_uid,
            generation=self._work.generation,
            phase=self._work.phase.value,
            **detail,
        )
