"""One destination that takes everything and answers nothing, beside one that is well."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Delivery
from ichnode.domain.retry import RetryPolicy
from ichnode.domain.work import Built, DeliveryItem, DeliveryWork, Undelivered
from ichnode.send.stage import SendStage
from ichnode.settings import DestinationSettings, SendSettings
from ichnode.worklist.policy import Policy, Route
from ichnode.worklist.worklist import Worklist
from tests.documents import LEASE, stored_documents, study_ref
from tests.pacs import SR_3D, Act, Pacs, UpsScp
from tests.worklist_fixtures import OpenWorklist
from tests.worklist_kit import analysed, fresh_uid, slices

OLD = 10
TIMEOUT_S = 0.4
IMPATIENT = RetryPolicy(timedelta(milliseconds=10), longest=timedelta(milliseconds=10))
POLICY = Policy(
    destinations=tuple(
        Route(name, frozenset({"sr"}), loopback=True) for name in ("stalled", "well")
    ),
    key_image=False,
    delivery_retry=IMPATIENT,  # what failed at one is due again before the other had its turn
)


def destination(name: str, port: int) -> DestinationSettings:
    """Return a destination that is given up after a short while."""
    return DestinationSettings(
        name=name, ae_title="PACS", host="127.0.0.1", port=port, timeout_s=TIMEOUT_S
    )


def owe_positive(worklist: Worklist, path: str) -> None:
    """Bring a series as far as a report that is due at both destinations."""
    association = fresh_uid()
    worklist.record(slices(3, association=association))
    worklist.association_released(association)
    work = worklist.analyses.claim("infer")
    assert work is not None
    worklist.analyses.settle(work, analysed(Finding.POSITIVE))
    document = worklist.documents.claim("report")
    assert document is not None
    worklist.documents.settle(document, Built("0" * 64, path, 1, "2.25.7", "1.2.840.10008.1.2.1"))


def deliver_until(worklist: Worklist, stage: SendStage, well: Pacs, count: int) -> None:
    """Work as the send loop does until the one that is well has so many reports."""
    outbox = worklist.outbox(stage.shut)
    for _ in range(10 * OLD):
        if len(well.kept) >= count:
            return
        if work := outbox.claim("send"):
            outbox.settle(work, stage.handle(work))
    pytest.fail("the reports did not arrive")


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a_stalled_destination_holds_another_up_for_two_timeouts_at_most(
    open_worklist: OpenWorklist, tmp_path: Path
) -> None:
    """Ten positives that one PACS never answers do not stand before a new one for the other."""
    worklist = open_worklist(POLICY, real_time=True)
    documents = stored_documents(tmp_path, OLD + 1)
    with Pacs(script=[Act.STALL] * 100) as stalled, Pacs() as well:
        stage = SendStage(
            tmp_path,
            [destination("stalled", stalled.port), destination("well", well.port)],
            SendSettings(),
            calling_ae="ICHNODE",
        )
        for document in documents[:OLD]:
            owe_positive(worklist, document.path)
        deliver_until(worklist, stage, well, OLD)
        before = len(stalled.received)
        assert before <= 2
        owe_positive(worklist, documents[OLD].path)
        deliver_until(worklist, stage, well, OLD + 1)
        assert len(stalled.received) <= before + 2
        assert stage.shut() == {"stalled"}
    rows = [one for one in worklist.views.deliveries() if one.destination == "stalled"]
    assert {one.state for one in rows} == {Delivery.DUE}
    assert sum(one.attempts for one in rows) == len(stalled.received)  # the rest was not tried


def stage_for(spool: Path, port: int, **more: float) -> SendStage:
    """Return a stage with one destination called pacs."""
    return SendStage(spool, [destination("pacs", port)], SendSettings(**more), calling_ae="ICHNODE")


def items_of(documents, *, first: int = 1) -> tuple[DeliveryItem, ...]:
    """Return rows for documents, numbered."""
    return tuple(
        DeliveryItem(number, "sr", True, 1, 1, document=one)
        for number, one in enumerate(documents, start=first)
    )


@pytest.mark.parametrize("act", [Act.STALL, Act.CLOSE, Act.ABORT, Act.KEEP_AND_CLOSE])
def test_an_answer_that_does_not_come_counts_for_the_breaker(tmp_path: Path, act: Act) -> None:
    """Two lost answers in a row shut the destination; the rest of each batch is not tried."""
    work = DeliveryWork(LEASE, "pacs", items_of(stored_documents(tmp_path, 3)))
    with Pacs(script=[act, act]) as pacs:
        stage = stage_for(tmp_path, pacs.port)
        assert set(stage.handle(work).results) == {1}
        assert stage.shut() == frozenset()
        assert set(stage.handle(work).results) == {1}
        assert stage.shut() == {"pacs"}
        assert len(pacs.received) == 2


def test_a_peer_that_takes_one_object_at_a_time_is_never_shut_for_long(tmp_path: Path) -> None:
    """Where something was answered before the silence the pause does not grow."""
    documents, now = stored_documents(tmp_path, 2), [100.0]
    with Pacs(script=[0x0000, Act.CLOSE] * 5) as pacs:
        stage = SendStage(
            tmp_path,
            [destination("pacs", pacs.port)],
            SendSettings(retry_first_s=3.0),
            calling_ae="ICHNODE",
            now_s=lambda: now[0],
        )
        for _ in range(5):
            assert stage.shut() == frozenset()
            stage.handle(DeliveryWork(LEASE, "pacs", items_of(documents)))
            now[0] += 3.0


def test_a_silent_store_leaves_the_priority_for_later(tmp_path: Path) -> None:
    """After a lost answer no second time-out is spent on the same peer's other service."""
    (document,) = stored_documents(tmp_path)
    ups = DeliveryItem(2, "ups", True, 1, 1, study=study_ref())
    work = DeliveryWork(LEASE, "pacs", (*items_of([document]), ups))
    with Pacs(script=[Act.STALL]) as pacs:
        results = stage_for(tmp_path, pacs.port).handle(work).results
        assert set(results) == {1}
        assert pacs.associations == 1


def test_a_study_without_a_task_does_not_end_the_association(tmp_path: Path) -> None:
    """A task that is missing is an answer: the next study's is asked for all the same."""
    items = tuple(DeliveryItem(n, "ups", True, 1, 1, study=study_ref()) for n in (1, 2, 3))
    with UpsScp() as scp:
        stage = stage_for(tmp_path, scp.port)
        for _ in range(3):
            results = stage.handle(DeliveryWork(LEASE, "pacs", items)).results
            assert results == dict.fromkeys(
                (1, 2, 3), Undelivered("The study has no reading task.")
            )
        assert stage.shut() == frozenset()
        assert scp.associations == 3


def test_an_unanswered_query_counts_for_the_breaker(tmp_path: Path) -> None:
    """A peer that takes the association and is silent about the tasks is shut like any other."""
    items = tuple(DeliveryItem(n, "ups", True, 1, 1, study=study_ref()) for n in (1, 2))
    with UpsScp(stalls=True) as scp:
        stage = stage_for(tmp_path, scp.port)
        for _ in range(2):
            results = stage.handle(DeliveryWork(LEASE, "pacs", items)).results
            assert set(results) == {1}
        assert stage.shut() == {"pacs"}


def test_a_report_that_may_have_arrived_keeps_its_class(tmp_path: Path) -> None:
    """After a lost answer the class is not changed: in another it would be a second report."""
    documents = stored_documents(tmp_path)
    work = DeliveryWork(LEASE, "pacs", items_of(documents))
    with Pacs(script=[Act.KEEP_AND_CLOSE]) as pacs:
        stage = stage_for(tmp_path, pacs.port)
        stage.handle(work)
        pacs.takes_no_more(SR_3D)
        result = stage.handle(work).results[1]
        assert result == Undelivered("The peer may have it, and takes its SOP class no more.")
        assert len(pacs.received) == 1
