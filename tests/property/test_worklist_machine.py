"""Whatever happens in whatever order, the promises about the worklist hold."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Row, func, select, text
from sqlalchemy.orm import Session

from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Analysis, Band, Delivery
from ichnode.domain.reasons import Reason
from ichnode.domain.telling import PENDING, Seen, Told, standing
from ichnode.domain.work import (
    WITHDRAWABLE,
    Acknowledged,
    AnalysisOutcome,
    AnalysisWork,
    Built,
    Declined,
    DeliveryWork,
    Dispatched,
    DocumentWork,
    Failed,
    NotYet,
    Reclass,
    Undelivered,
)
from ichnode.worklist import tables as t
from ichnode.worklist.engine import connect
from ichnode.worklist.policy import Policy, Route
from ichnode.worklist.worklist import Worklist
from tests.worklist_fixtures import Databases
from tests.worklist_kit import HandClock, analysed, slices

POLICY = Policy(
    destinations=(
        Route("pacs", frozenset({"sr", "sc", "ups"}), loopback=True),
        Route("other", frozenset({"sr"}), loopback=True),
        Route("ris", frozenset({"hl7", "hl7_order"}), loopback=True),
    ),
    negative_sr=True,
    batch=3,
)
STUDIES = ("1.2.1", "1.2.2")
SERIES = {"1.2.1.1": "1.2.1", "1.2.1.2": "1.2.1", "1.2.2.1": "1.2.2"}
COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.88.33"
MODELS = ("2.25.1", "2.25.2")

OUTCOMES: st.SearchStrategy[AnalysisOutcome] = st.one_of(
    st.builds(
        lambda finding, model: analysed(finding, model_uid=model),
        st.sampled_from(list(Finding)),
        st.sampled_from(MODELS),
    ),
    st.builds(lambda cure: Declined(Reason.TOO_FEW_SLICES, may_change=cure), st.booleans()),
    st.just(NotYet()),
    st.builds(lambda transient: Failed("Boom", transient), st.booleans()),
)
ANSWERS = st.sampled_from(
    [
        Acknowledged(),
        Reclass(COMPREHENSIVE),
        Undelivered("no"),
        Undelivered("never", permanent=True),
        None,
    ]
)


class Corridor(RuleBasedStateMachine):
    """Receivers, workers that crash, hang and come back, senders, impatient people."""

    worklist: Worklist

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.worklist = self.opened(self.clock)
        self.sent: dict[str, int] = Counter()
        self.sops: set[str] = set()
        self.held: list[AnalysisWork] = []
        self.building: list[DocumentWork] = []
        self.sending: list[DeliveryWork] = []
        self.revoked: set[str] = set()  # tokens that a person took away
        self.outlived: set[str] = set()  # tokens of leases that ran out and went to another
        self.bands: dict[str, Band] = {}
        self.delivered: set[int] = set()
        self.lowered: set[str] = set()

    def opened(self, clock: HandClock) -> Worklist:
        raise NotImplementedError

    # ------------------------------------------------------------------ what may happen

    @rule(uid=st.sampled_from(sorted(SERIES)), count=st.integers(1, 3), announce=st.booleans())
    def slices_arrive(self, uid: str, count: int, announce: bool) -> None:
        first = self.sent[uid] + 1
        expected = first + count if announce else None
        self.worklist.record(
            slices(
                count,
                series_uid=uid,
                study_uid=SERIES[uid],
                first=first,
                association=uid,
                expected_count=expected,
            )
        )
        self.sent[uid] += count

    @rule(uid=st.sampled_from(sorted(SERIES)))
    def slices_come_again(self, uid: str) -> None:
        if self.sent[uid]:
            before = self.settled(uid)
            self.worklist.record(slices(self.sent[uid], series_uid=uid, study_uid=SERIES[uid]))
            assert before == self.settled(uid), "an identical resend must not re-open"

    @rule(uid=st.sampled_from(sorted(SERIES)))
    def the_association_is_released(self, uid: str) -> None:
        self.worklist.association_released(uid)

    @rule(seconds=st.sampled_from([0.5, 2, 20, 59, 61, 400]))
    def time_passes(self, seconds: float) -> None:
        self.clock.forward(seconds)

    @rule()
    def infer_claims(self) -> None:
        if (work := self.worklist.analyses.claim("infer")) is not None:
            for other in self.held:
                if other.series_uid == work.series_uid and other.lease.token not in self.revoked:
                    assert other.lease.until <= self.clock.now(), "two holders of a live lease"
            assert work.lease.attempts <= 3
            assert len({ref.sha256 for ref in work.instances}) == len(work.instances)
            self.outlived |= {
                other.lease.token for other in self.held if other.series_uid == work.series_uid
            }
            self.held.append(work)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=OUTCOMES)
    def infer_settles(self, data: st.DataObject, outcome: AnalysisOutcome) -> None:
        work = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        settled = self.worklist.analyses.settle(work, outcome)
        if work.lease.token in self.revoked or work.lease.token in self.outlived:
            assert not settled, "a zombie wrote"
        assert not self.worklist.analyses.settle(work, outcome), "the same lease settled twice"

    @rule()
    def report_claims(self) -> None:
        if (work := self.worklist.documents.claim("report")) is not None:
            for other in self.building:
                if other.sop_uid == work.sop_uid:
                    assert other.lease.until <= self.clock.now(), "two holders of a live lease"
            self.building.append(work)

    @precondition(lambda self: self.building)
    @rule(data=st.data(), works=st.booleans())
    def report_settles(self, data: st.DataObject, works: bool) -> None:
        work = self.building.pop(data.draw(st.integers(0, len(self.building) - 1)))
        built = Built("ab" * 32, f"documents/{work.sop_uid}.dcm", 10, "2.25.7", "1.2.840.10008.1.2")
        self.worklist.documents.settle(work, built if works else Failed("Boom"))

    @rule()
    def send_claims(self) -> None:
        if (work := self.worklist.deliveries.claim("send")) is not None:
            ids = {item.delivery_id for item in work.items}
            assert not ids & self.delivered, "delivered is final"
            for other in self.sending:
                if ids & {item.delivery_id for item in other.items}:
                    assert other.lease.until <= self.clock.now(), "two holders of a live lease"
            self.sending.append(work)

    @precondition(lambda self: self.sending)
    @rule(data=st.data())
    def send_settles(self, data: st.DataObject) -> None:
        work = self.sending.pop(data.draw(st.integers(0, len(self.sending) - 1)))
        results = {}
        for item in work.items:
            answer = data.draw(ANSWERS)
            if isinstance(answer, Reclass) and item.kind != "sr":
                answer = Acknowledged()
            if answer is not None:
                results[item.delivery_id] = answer
        if self.worklist.deliveries.settle(work, Dispatched(results)):
            self.delivered |= {
                id_ for id_, answer in results.items() if isinstance(answer, Acknowledged)
            }

    @rule(uid=st.sampled_from(sorted(SERIES)))
    def a_person_queues_again(self, uid: str) -> None:
        self.worklist.requeue(uid)
        self.worklist.requeue_deliveries("other")
        self.revoked |= {work.lease.token for work in self.held if work.series_uid == uid}

    @rule(study=st.sampled_from(STUDIES))
    def a_person_lowers(self, study: str) -> None:
        if self.worklist.lower(study, "Dr B", "seen"):
            self.lowered.add(study)

    @rule(study=st.sampled_from(STUDIES), how=st.sampled_from(Seen))
    def a_person_looks(self, study: str, how: Seen) -> None:
        noted = self.worklist.seen(study, how=how, by="Dr B")
        pending = [one for one in self.alerts(study) if one.state in PENDING]
        # Who looks now has seen every verdict and every image: only withdrawals may still go.
        assert not noted or all(one.band is not Band.URGENT for one in pending)

    # ------------------------------------------------------------------ what always holds

    def alerts(self, study: str) -> list[Row]:
        """The deliveries that tell of a study, with the band of their revision."""
        with Session(self.worklist._database.engine) as session:
            return list(
                session.execute(
                    select(
                        t.Delivery.destination,
                        t.Delivery.kind,
                        t.Delivery.revision,
                        t.Delivery.state,
                        t.Delivery.attempts,
                        t.Verdict.band,
                    )
                    .join(t.Study, t.Study.id == t.Delivery.study_id)
                    .join(
                        t.Verdict,
                        (t.Verdict.study_id == t.Study.id)
                        & (t.Verdict.revision == t.Delivery.revision),
                    )
                    .where(t.Study.study_uid == study, t.Delivery.document_id.is_(None))
                )
            )

    @invariant()
    def nobody_goes_on_believing_what_a_person_took_back(self) -> None:
        for study in STUDIES:
            ways: dict[tuple[str, str], list[Told]] = {}
            for one in self.alerts(study):
                way = ways.setdefault((one.destination, one.kind), [])
                taken_back = one.band is not Band.URGENT
                way.append(Told(one.revision, taken_back, one.state, one.attempts))
                if taken_back:
                    assert one.kind in WITHDRAWABLE, "a priority was lowered"
            for (_, kind), history in ways.items():
                revisions = [one.revision for one in history]
                assert len(revisions) == len(set(revisions)), "told twice of one revision"
                pending = [one for one in history if one.state in PENDING]
                assert len({one.withdrawn for one in pending}) <= 1, "told and taken back at once"
                if self.bands.get(study) is not Band.URGENT and kind in WITHDRAWABLE:
                    assert standing(history) is None, "it was lowered, and is still believed"

    def settled(self, uid: str) -> tuple[Analysis, bool] | None:
        story = self.worklist.views.series(uid)
        return (story.row.analysis, story.row.due_at is None) if story else None

    @invariant()
    def nothing_is_lost_and_no_band_falls_by_itself(self) -> None:
        listed = self.worklist.views.reading_list()
        rows = {one.series_uid: one for row in listed for one in row.series}
        for uid, count in self.sent.items():
            if count:
                assert rows[uid].instances == count
                pending = rows[uid].analysis is Analysis.PENDING
                assert not pending or rows[uid].due_at is not None, "pending and never looked at"
        for row in listed:
            before = self.bands.get(row.study_uid, row.band)
            if row.study_uid not in self.lowered:
                assert row.band.rank <= before.rank
            self.bands[row.study_uid] = row.band
        self.lowered.clear()

    @invariant()
    def what_is_delivered_stays_delivered(self) -> None:
        done = {
            row.delivery_id
            for row in self.worklist.views.deliveries(states=[Delivery.DELIVERED], limit=10_000)
        }
        assert self.delivered == done

    @invariant()
    def no_report_is_made_twice(self) -> None:
        with Session(self.worklist._database.engine) as session:
            twice = session.execute(
                select(func.count())
                .select_from(t.Document)
                .join(t.Analysis, t.Analysis.id == t.Document.analysis_id)
                .group_by(
                    t.Analysis.series_id,
                    t.Analysis.set_digest,
                    t.Analysis.model_uid,
                    t.Document.kind,
                    t.Document.sop_class_uid,
                )
                .having(func.count() > 1)
            ).all()
            positive_given_up = session.scalar(
                select(func.count())
                .select_from(t.Delivery)
                .where(t.Delivery.urgent.is_(True), t.Delivery.state == Delivery.FAILED)
            )
        assert not twice
        assert not positive_given_up, "a positive was given up"


def run(opened: object, examples: int) -> None:
    """Run the machine on databases that `opened` makes."""
    machine = type("Machine", (Corridor,), {"opened": opened})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_promises_hold_on_sqlite(databases: Databases, tmp_path: Path) -> None:
    """Random lives of three series in two studies, on SQLite."""
    template = Path(databases.migrated("sqlite").removeprefix("sqlite:///"))

    def opened(_machine: Corridor, clock: HandClock) -> Worklist:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        shutil.copy(template, folder / "worklist.db")
        return Worklist(connect(f"sqlite:///{folder / 'worklist.db'}"), POLICY, clock)

    run(opened, examples=25)


@pytest.mark.peer
def test_the_promises_hold_on_postgresql(databases: Databases) -> None:
    """Random lives of three series in two studies, on PostgreSQL."""
    engine = connect(databases.migrated("postgres"))
    tables = ", ".join(f'"{table.name}"' for table in t.Base.metadata.sorted_tables)

    def opened(_machine: Corridor, clock: HandClock) -> Worklist:
        with engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
        return Worklist(engine, POLICY, clock)

    run(opened, examples=12)
    engine.dispose()
