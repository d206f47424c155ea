"""What other systems say of studies: ordered priorities, final reports, who a patient is.

Each message is one transaction, and acted on once. What names a study is its accession number,
which is only unique together with its patient: where the patients contradict each other nothing
follows, and the history says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from typing import Any, assert_never

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from ichnode.domain.hearing import (
    Demographics,
    Heard,
    OrderHeard,
    PatientCorrected,
    PatientKey,
    PatientsMerged,
    ReportHeard,
)
from ichnode.domain.telling import Seen
from ichnode.domain.triage import ordered_rank
from ichnode.worklist import tables as t
from ichnode.worklist.alerts import note_look
from ichnode.worklist.columns import accession, patient_id, plain
from ichnode.worklist.dueness import set_due
from ichnode.worklist.notices import outgrow_priority, tell_of_state
from ichnode.worklist.ordering import fits, raise_order
from ichnode.worklist.policy import Policy
from ichnode.worklist.transactions import Database, Transaction
from ichnode.worklist.verdicts import rejudge

MESSAGES_KEPT = timedelta(days=14)  # a sender that repeats itself does so sooner
ORDERS_KEPT = timedelta(days=90)  # scheduled studies come later than they were ordered
REPORTS_KEPT = timedelta(days=365)
_HAS_NUMBER = text("study.accession_number <> ''")  # so that the index over those is taken
LONGEST_REPORT = 200_000  # characters; a head CT has a few thousand


@dataclass(frozen=True, slots=True)
class Consequence:
    """What followed from a message.

    Attributes
    ----------
    repeated : bool
        It was acted on before, and nothing followed now.
    studies : int
        Of how many studies something changed.
    """

    repeated: bool = False
    studies: int = 0


@dataclass(frozen=True, slots=True)
class ReportText:
    """The report of a study, for labels. PHI: never log it."""

    accession_number: str
    text: str


class OrderBook:
    """Takes in what other systems say.

    Parameters
    ----------
    database : Database
        Where the rows are.
    policy : Policy
        How far an ordered priority moves a series forward, and what is kept of reports.
    """

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database, self._policy = database, policy

    def hear(self, digest: str, kind: str, things: Sequence[Heard]) -> Consequence:
        """Act on a message, in one transaction; return when that is committed.

        Parameters
        ----------
        digest : str
            Of the message: the same again changes nothing.
        kind : str
            What it is, for the history, such as "ORM^O01".
        things : sequence of Heard
            What it says.

        Raises
        ------
        WorklistDown
            When the database does not answer; nothing was changed, and it may be heard again.
        """
        with self._database.writing() as transaction:
            if not _enter(transaction, digest, kind):
                return Consequence(repeated=True)
            hearing = _Hearing(transaction, self._policy, kind)
            ordered = hearing.in_order(things)
            return Consequence(studies=sum(hearing.follow(one) for one in ordered))

    def report_texts(self) -> Iterator[ReportText]:
        """Yield the texts of final reports that were kept, of studies that are here."""
        with self._database.reading() as transaction:
            rows = transaction.session.execute(
                select(t.Report.accession_number, t.Report.text)
                .where(
                    t.Report.text != "",
                    select(t.Study.id)
                    .where(t.Study.accession_number == t.Report.accession_number)
                    .exists(),
                )
                .order_by(t.Report.id)
            )
            yield from (ReportText(*row) for row in rows)


_KEPT: tuple[tuple[Any, timedelta], ...] = (
    (t.Message, MESSAGES_KEPT),
    (t.Ordered, ORDERS_KEPT),
    (t.Report, REPORTS_KEPT),
)


def _enter(transaction: Transaction, digest: str, kind: str) -> bool:
    """Enter a message; False when it is there already. What is old enough is forgotten."""
    session = transaction.session
    sqlite = session.get_bind().dialect.name == "sqlite"
    insert: Any = sqlite_insert if sqlite else postgres_insert
    entered = session.scalar(
        insert(t.Message)
        .values(digest=digest, kind=plain(kind, 16), at=transaction.now)
        .on_conflict_do_nothing(index_elements=["digest"])
        .returning(t.Message.id)
    )
    if entered is None:
        return False
    for table, kept in _KEPT:
        session.execute(delete(table).where(table.at < transaction.now - kept))
    return True


class _Hearing:
    """One message on its way into the database."""

    def __init__(self, transaction: Transaction, policy: Policy, kind: str) -> None:
        self._transaction, self._policy, self._kind = transaction, policy, plain(kind, 16)
        self._authority = policy.assigning_authority
        self._session = transaction.session

    def in_order(self, things: Sequence[Heard]) -> Sequence[Heard]:
        """Return what is said in the order of its accession numbers, their studies locked.

        Otherwise two messages, or a message and arriving images, would wait for each other.
        """
        numbers = {one: _number(one) for one in things}
        if any(numbers.values()):
            self._locked(t.Study.accession_number.in_(set(numbers.values())), _HAS_NUMBER)
        return sorted(things, key=numbers.__getitem__)

    def follow(self, heard: Heard) -> int:
        """Do what follows; return of how many studies something changed."""
        match heard:
            case OrderHeard():
                return self._order(heard)
            case ReportHeard():
                return self._report(heard)
            case PatientCorrected():
                return self._correct(heard)
            case PatientsMerged():
                return self._merge(heard)
        assert_never(heard)

    # ------------------------------------------------------------------ by accession number

    def _order(self, heard: OrderHeard) -> int:
        number = accession(heard.accession_number)
        kept = self._kept(t.Ordered, number)
        patients = _plain_keys(heard.patients)
        rank = ordered_rank(heard.priority)
        if kept is None:
            self._session.add(
                t.Ordered(
                    accession_number=number,
                    patients=patients,
                    priority=heard.priority,
                    rank=rank,
                    at=self._transaction.now,
                )
            )
        else:  # the newest word: what was raised here before stays raised
            kept.patients, kept.priority, kept.rank = patients, heard.priority, rank
            kept.at = self._transaction.now
        self._session.flush()
        changed = 0
        for study in self._of(number, patients):
            before = study.ordered_priority
            if raise_order(study, heard.priority, self._policy.weights):
                self._hasten(study)
                self._tell(study, "ordered", before=before or None, priority=heard.priority)
                outgrow_priority(self._transaction, study, study.band)
                tell_of_state(self._transaction, study)  # the priority of its task may be another
                changed += 1
        return changed

    def _hasten(self, study: t.Study) -> None:
        """Give the series of a study that are due the head start of its priority."""
        for series in self._session.scalars(
            select(t.Series)
            .where(t.Series.study_id == study.id, t.Series.due_at.is_not(None))
            .order_by(t.Series.id)
            .with_for_update(key_share=True)
        ):
            set_due(series, series.due_at, study.ordered_rank, self._policy)
        self._transaction.hint()

    def _report(self, heard: ReportHeard) -> int:
        number = accession(heard.accession_number)
        words = plain(heard.text, LONGEST_REPORT) if self._policy.keep_reports else ""
        patients = _plain_keys(heard.patients)
        kept = self._kept(t.Report, number)
        if kept is None:
            self._session.add(
                t.Report(
                    accession_number=number,
                    patients=patients,
                    text=words,
                    corrected=heard.corrected,
                    first_at=self._transaction.now,
                    at=self._transaction.now,
                )
            )
        else:
            kept.patients, kept.text, kept.corrected = patients, words, heard.corrected
            kept.at = self._transaction.now
        self._session.flush()
        studies = self._of(number, patients)
        if _are_of_several(studies, self._authority):
            for study in studies:
                self._tell(study, "not_followed", because="several patients have this number")
            return 0
        at = min(heard.at or self._transaction.now, self._transaction.now)
        if heard.corrected and kept is not None:  # it need not be about what came since
            at = min(at, kept.first_at)
        for study in studies:
            note_look(self._transaction, study, Seen.REPORTED, at, "a report by HL7")
            rejudge(self._transaction, self._policy, study)  # later images may be nobody's by now
        return len(studies)

    def _kept(self, table: Any, number: str) -> Any:
        return self._session.scalar(
            select(table).where(table.accession_number == number).with_for_update(key_share=True)
        )

    def _of(self, number: str, patients: Sequence[Sequence[str]]) -> list[t.Study]:
        """Return the locked studies of an accession number whose patient is not another one."""
        studies = self._locked(t.Study.accession_number == number, _HAS_NUMBER)
        found = [study for study in studies if fits(study, patients, self._authority)]
        for study in studies:
            if study not in found:
                self._tell(study, "not_followed", because="the message names another patient")
        return found

    # ------------------------------------------------------------------ by patient

    def _correct(self, heard: PatientCorrected) -> int:
        return sum(
            self._now_is(study, heard.now, "corrected") for study in self._whose(heard.patients)
        )

    def _merge(self, heard: PatientsMerged) -> int:
        changed = 0
        for study in self._whose(heard.gone):
            issuer = study.issuer_of_patient_id or self._authority
            kept = next(
                (one for one in heard.kept if one.issuer.casefold() == issuer.casefold()),
                heard.kept[0],
            )
            study.patient_id = patient_id(kept.id)
            if study.issuer_of_patient_id and kept.issuer:
                study.issuer_of_patient_id = plain(kept.issuer)
            self._now_is(study, heard.now, "")
            self._tell(study, "merged")
            changed += 1
        return changed

    def _whose(self, patients: Sequence[PatientKey]) -> list[t.Study]:
        ids = {patient_id(one.id) for one in patients} - {""}
        keys = _plain_keys(patients)
        studies = self._locked(t.Study.patient_id.in_(ids))
        return [study for study in studies if fits(study, keys, self._authority)]

    def _now_is(self, study: t.Study, now: Demographics, verb: str) -> int:
        """Write what is said of a patient; return 1 where it is news."""
        said = {
            "patient_name": now.name,
            "patient_birth_date": now.birth_date,
            "patient_sex": now.sex,
        }
        news = {
            name: plain(value)
            for name, value in said.items()
            if value is not None and plain(value) != getattr(study, name)
        }
        for name, value in news.items():
            setattr(study, name, value)
        if news and verb:
            self._tell(study, verb, fields=sorted(news))
        return 1 if news else 0

    def _locked(self, *conditions: Any) -> list[t.Study]:
        return list(
            self._session.scalars(
                select(t.Study)
                .where(*conditions)
                .order_by(t.Study.id)
                .with_for_update(key_share=True)
            )
        )

    def _tell(self, study: t.Study, verb: str, **detail: Any) -> None:
        self._transaction.event(
            "study", verb, study_uid=study.study_uid, message=self._kind, **detail
        )


def _number(heard: Heard) -> str:
    if isinstance(heard, OrderHeard | ReportHeard):
        return accession(heard.accession_number)
    return ""


def _are_of_several(studies: Sequence[t.Study], authority: str) -> bool:
    """Say whether studies may be of different patients."""
    keys = [PatientKey(one.patient_id, one.issuer_of_patient_id or authority) for one in studies]
    return any(not one.may_be(other) for one, other in combinations(keys, 2))


def _plain_keys(patients: Sequence[PatientKey]) -> list[list[str]]:
    return [[patient_id(one.id), plain(one.issuer)] for one in patients if one.id]
