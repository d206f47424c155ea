"""The list as UPS tasks, asked by pynetdicom's client over real associations."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom.dimse_primitives import C_FIND

from ichnode.domain.findings import Finding
from ichnode.domain.series import Refusal
from ichnode.query.answers import Answers
from ichnode.query.notifying import EVENT, NotifyStage
from ichnode.send.association import EXPLICIT_LE, Peer, associate
from ichnode.service.loop import StageLoop
from ichnode.worklist.engine import connect
from ichnode.worklist.policy import Policy
from ichnode.worklist.worklist import Worklist
from tests.query_kit import (
    ALL,
    PULL,
    PUSH,
    QUERY,
    STUDY_ROOT,
    WATCH,
    Subscriber,
    act,
    ask,
    change,
    client,
    coded,
    encoded,
    find,
    get,
    keyed,
    keyed_plain,
    performed,
    published,
    query_settings,
)
from tests.scanner import LIMIT_S, ct, scanner, send
from tests.worklist_fixtures import Databases, OpenWorklist
from tests.worklist_kit import POLICY, HandClock, analysed, look, slices

T1, T2 = "1.2.3.1", "1.2.3.2"
GLOBAL, FILTERED = "1.2.840.10008.5.1.4.34.5", "1.2.840.10008.5.1.4.34.5.1"


@pytest.fixture
def engine_name() -> str:
    """SQLite, where nothing else is said; both are in test_worklist_tasks."""
    return "sqlite"


def record(worklist: Worklist, finding: Finding | None = None, **header: object) -> str:
    """Record a study of two images; return its UID."""
    # Without a finding it is not due yet, so that the next look is not at this one.
    expected = None if finding is None else 2
    brought = [
        replace(one, header=replace(one.header, expected_count=expected, **header))
        for one in slices(2)
    ]
    worklist.record(brought)
    if finding is not None:
        look(worklist, analysed(finding))
    return brought[0].header.study_uid


@pytest.fixture
def port(worklist: Worklist, tmp_path: Path) -> Iterator[int]:
    """The port of a receiver that publishes the worklist."""
    with published(worklist, tmp_path, receivers=("WATCHER", "READER")) as receiver:
        yield receiver.port


def refusals(worklist: Worklist, count: int) -> list[Refusal]:
    """Wait until so many refusals are to be seen, and return them."""
    pause, deadline = threading.Event(), LIMIT_S / 0.05
    while len(found := worklist.views.refusals()) < count and deadline:
        pause.wait(0.05)
        deadline -= 1
    return found


def task_of(association: Any, study_uid: str) -> str:
    (found,), status, _ = find(association, PULL, StudyInstanceUID=study_uid, SOPInstanceUID="")
    assert status == 0
    return str(found.SOPInstanceUID)


def test_a_client_sees_the_list_in_its_order(
    open_worklist: OpenWorklist, hand_clock: HandClock, tmp_path: Path
) -> None:
    """Order, priority, state, patient and request, as the page has them."""
    worklist = open_worklist(Policy(waiting_cap=timedelta(hours=4)))
    for number, finding in enumerate(
        [Finding.NEGATIVE, None, Finding.POSITIVE, Finding.REVIEW, Finding.NEGATIVE]
    ):
        record(worklist, finding, requested_priority="STAT" if number == 4 else "")
        hand_clock.forward(60)
    listed = [row.study_uid for row in worklist.views.reading_list()]
    wanted = keyed(
        StudyInstanceUID="",
        PatientName="",
        PatientID="",
        ScheduledProcedureStepPriority="",
        ProcedureStepState="",
        ProcedureStepLabel="",
        InputReadinessState="",
        ScheduledProcedureStepStartDateTime="",
        ScheduledWorkitemCodeSequence=[],
        ReferencedRequestSequence=[keyed_plain(AccessionNumber="")],
        TransactionUID="",
    )
    with published(worklist, tmp_path) as receiver, client(receiver.port) as association:
        found, status, pending = ask(association, QUERY, wanted)
        assert (status, len(pending)) == (0, 5)
        assert [one.StudyInstanceUID for one in found] == listed
        assert [one.ScheduledProcedureStepPriority for one in found] == [
            "HIGH",
            "MEDIUM",
            "HIGH",  # the order says STAT
            "LOW",
            "LOW",
        ]
        first = found[0]
        assert (first.PatientName, first.PatientID) == ("Doe^Jane", "4711")
        assert first.ReferencedRequestSequence[0].AccessionNumber == "A1"
        assert list(first.ReferencedRequestSequence[0].keys()) == [0x00080050]
        assert first.ScheduledWorkitemCodeSequence[0].CodeValue == "110005"
        assert first.ProcedureStepState == "SCHEDULED"
        assert "urgent" in first.ProcedureStepLabel
        assert first.SOPClassUID == PUSH
        assert "TransactionUID" not in first
        assert set(pending) == {0xFF01}, "the Transaction UID is not told"
        for model in (PULL, WATCH):
            assert len(find(association, model, StudyInstanceUID="")[0]) == 5


def test_keys_match_as_the_standard_says(port: int, worklist: Worklist) -> None:
    """Single values, lists, wild cards, ranges, sequences, and letters of every kind."""
    names = {
        record(worklist, patient_name="Müller^Jürgen", accession_number="X1"): "Müller",
        record(worklist, patient_name="Ярослав^Ѯ", accession_number="X2", patient_id="9"): "Я",
        record(worklist, Finding.POSITIVE, patient_name="Muller^Jurgen"): "Muller",
    }
    uids = list(names)
    request = partial(keyed_plain)
    with client(port) as association:

        def hits(**keys: Any) -> set[str]:
            found, status, _ = find(association, PULL, StudyInstanceUID="", **keys)
            assert status == 0
            return {names[str(one.StudyInstanceUID)] for one in found}

        assert hits(PatientName="MÜLLER*") == {"Müller"}
        assert hits(PatientName="m?ller^j*") == {"Müller", "Muller"}
        assert hits(PatientName="Ярослав*") == {"Я"}
        assert hits(PatientName="Müller") == set()
        assert hits(PatientName="*", PatientID="9") == {"Я"}
        assert hits(ReferencedRequestSequence=[request(AccessionNumber="X1")]) == {"Müller"}
        assert hits(ReferencedRequestSequence=[request(StudyInstanceUID=uids[1])]) == {"Я"}
        assert hits(ScheduledProcedureStepPriority="HIGH") == {"Muller"}
        assert hits(ProcedureStepState="IN PROGRESS") == set()
        assert hits(ProcedureStepState="SCHEDULED") == {"Müller", "Я", "Muller"}
        assert hits(WorklistLabel="ICHNODE", InputReadinessState="READY") <= set(names.values())
        assert hits(WorklistLabel="OTHER") == set()
        assert hits(ScheduledWorkitemCodeSequence=[request(CodeValue="110005")]) != set()
        assert hits(ScheduledWorkitemCodeSequence=[request(CodeValue="110006")]) == set()
        assert hits(ScheduledStationNameCodeSequence=[request(CodeValue="CT1")]) == set()
        assert hits(ScheduledProcedureStepStartDateTime="20260301-") == {"Müller", "Я", "Muller"}
        assert hits(ScheduledProcedureStepStartDateTime="-20260228") == set()
        assert hits(ScheduledProcedureStepStartDateTime="202603011200+0000") == set(names.values())
        found, _, _ = find(association, PULL, StudyInstanceUID=uids[:2])
        assert {one.StudyInstanceUID for one in found} == set(uids[:2])
        (one,), _, _ = find(association, PULL, StudyInstanceUID=uids[1], PatientName="")
        assert (str(one.PatientName), one.SpecificCharacterSet) == ("Ярослав^Ѯ", "ISO_IR 192")
        latin = keyed(StudyInstanceUID="", PatientName="Müller*")
        latin.SpecificCharacterSet = "ISO_IR 100"
        assert len(ask(association, PULL, latin)[0]) == 1


def test_a_task_is_taken_up_changed_and_completed(  # noqa: PLR0915 - one life, step by step
    port: int, worklist: Worklist, hand_clock: HandClock
) -> None:
    """The whole life, with every status on the way that the standard has for it."""
    study_uid = record(worklist, Finding.POSITIVE)
    with client(port) as association:
        uid = task_of(association, study_uid)
        state = partial(act, association, uid, 1)
        assert act(
            association, "2.25.1", 1, ProcedureStepState="IN PROGRESS", TransactionUID=T1
        ) == (0xC307)
        assert state(ProcedureStepState="COMPLETED", TransactionUID=T1) == 0xC310
        assert state(ProcedureStepState="IN PROGRESS") == 0xC301
        assert state(ProcedureStepState="SCHEDULED", TransactionUID=T1) == 0xC303
        assert state(ProcedureStepState="READ", TransactionUID=T1) == 0x0115
        steps = {"UnifiedProcedureStepPerformedProcedureSequence": [performed()]}
        assert change(association, uid, **steps) == 0xC310
        assert change(association, uid, WorklistLabel="NIGHT", CompletionFlag="COMPLETE") == 0x0001
        assert state(ProcedureStepState="IN PROGRESS", TransactionUID=T1) == 0
        assert state(ProcedureStepState="IN PROGRESS", TransactionUID=T2) == 0xC302
        assert change(association, uid, WorklistLabel="DAY") == 0xC301
        assert change(association, uid, TransactionUID=T2, WorklistLabel="DAY") == 0xC301
        assert state(ProcedureStepState="COMPLETED", TransactionUID=T2) == 0xC301
        assert state(ProcedureStepState="COMPLETED", TransactionUID=T1) == 0xC304
        assert change(association, uid, TransactionUID=T1, **steps) == 0
        for wrong in ({"PatientName": "X"}, {"ProcedureStepState": "COMPLETED"}):
            assert change(association, uid, TransactionUID=T1, **wrong) == 0x0105
        for wrong in (
            {"ScheduledProcedureStepPriority": "STAT"},
            {"WorklistLabel": ""},
            {"ExpectedCompletionDateTime": "20260231"},
        ):
            assert change(association, uid, TransactionUID=T1, **wrong) == 0x0106
        assert state(ProcedureStepState="COMPLETED", TransactionUID=T1) == 0
        assert state(ProcedureStepState="COMPLETED", TransactionUID=T1) == 0xB306
        assert state(ProcedureStepState="CANCELED", TransactionUID=T1) == 0xC300
        assert change(association, uid, TransactionUID=T1, WorklistLabel="DAY") == 0xC300
        assert act(association, uid, 2) == 0xC311

        status, whole = get(association, uid)
        assert status == 0
        assert (whole.ProcedureStepState, whole.WorklistLabel) == ("COMPLETED", "NIGHT")
        assert "TransactionUID" not in whole
        series = whole.InputInformationSequence[0]
        assert [one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence] == [
            f"{series.SeriesInstanceUID}.{number}" for number in (1, 2)
        ]
        done = whole.UnifiedProcedureStepPerformedProcedureSequence[0]
        assert done.PerformedStationNameCodeSequence[0].CodeValue == "READER1"
        status, part = get(association, uid, 0x00741000, 0x00100010)
        assert (status, len(part)) == (0, 3), "with the character set"
        assert get(association, uid, 0x00741000, 0x00281050)[0] == 0x0001
        assert get(association, "1.2.3.4")[0] == 0xC307
        found, _, _ = find(association, PULL, WorklistLabel="NIGHT")
        assert [one.SOPInstanceUID for one in found] == [uid]
    told = {f"{one.noun} {one.verb}" for one in worklist.views.study(study_uid).events}
    assert {"task taken", "task changed", "task completed"} <= told


def test_cancellations_say_why(port: int, worklist: Worklist) -> None:
    """A reason that is given is kept, and one is given where none was."""
    first, second = record(worklist), record(worklist)
    with client(port) as association:
        uid = task_of(association, first)
        act(association, uid, 1, ProcedureStepState="IN PROGRESS", TransactionUID=T1)
        assert act(association, uid, 2, ReasonForCancellation="wrong head") == 0xC312
        assert act(association, uid, 1, ProcedureStepState="CANCELED", TransactionUID=T1) == 0
        assert act(association, uid, 1, ProcedureStepState="CANCELED", TransactionUID=T1) == 0xB304
        progress = get(association, uid)[1].ProcedureStepProgressInformationSequence[0]
        assert progress.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"
        assert progress.ProcedureStepCancellationDateTime.startswith("20260301")
        uid = task_of(association, second)
        assert act(association, uid, 2, ReasonForCancellation="wrong head") == 0
        assert act(association, uid, 2) == 0xB304
        progress = get(association, uid)[1].ProcedureStepProgressInformationSequence[0]
        assert progress.ReasonForCancellation == "wrong head"


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgres", marks=pytest.mark.peer)])
def test_two_clients_race_for_one_task(engine: str, databases: Databases, tmp_path: Path) -> None:
    """Through the wire, ten times: one is given the task, the other is told that it is too late."""
    url = databases.migrated(engine)
    worklist = Worklist(connect(url), POLICY)
    studies = [record(worklist) for _ in range(10)]
    start = threading.Barrier(2)

    def race(port: int, transaction_uid: str) -> list[int]:
        statuses = []
        with client(port) as association:
            for study in studies:
                uid = task_of(association, study)
                start.wait(LIMIT_S)
                statuses.append(
                    act(
                        association,
                        uid,
                        1,
                        ProcedureStepState="IN PROGRESS",
                        TransactionUID=transaction_uid,
                    )
                )
        return statuses

    with published(worklist, tmp_path) as receiver, ThreadPoolExecutor(2) as pool:
        replies = zip(*pool.map(partial(race, receiver.port), (T1, T2)), strict=True)
        assert [sorted(pair) for pair in replies] == [[0, 0xC302]] * 10
    worklist.close()
    databases.drop(url)


def test_a_cancel_ends_a_long_answer(worklist: Worklist, port: int) -> None:
    """C-CANCEL: the rest is not sent, and the association goes on."""
    for _ in range(60):
        record(worklist)
    with client(port) as association:
        count, final = 0, 0
        for answer, _ in association.send_c_find(keyed(StudyInstanceUID=""), PULL, msg_id=7):
            final = int(answer.Status)
            count += 1
            if count == 1:
                association.send_c_cancel(7, query_model=PULL)
        assert final == 0xFE00
        assert count < 60
        assert find(association, PULL, PatientID="nobody")[1] == 0


def test_answers_are_bounded(worklist: Worklist, tmp_path: Path) -> None:
    """The first of the list come, and then the word that there are more."""
    for _ in range(12):
        record(worklist)
    listed = [row.study_uid for row in worklist.views.reading_list()]
    with published(worklist, tmp_path, max_results=5) as receiver, client(receiver.port) as asking:
        found, status, _ = find(asking, PULL, StudyInstanceUID="")
        assert [one.StudyInstanceUID for one in found] == listed[:5]
        assert status == 0xA700
        # What SQL lets through and is no match does not count: letters are compared afterwards.
        found, status, _ = find(asking, PULL, PatientName="Dö*")
        assert (len(found), status) == (0, 0)


# ------------------------------------------------------------------ events


def notifier(worklist: Worklist, port: int, title: str = "WATCHER") -> StageLoop[Any, Any]:
    """The loop that tells a subscriber, to be stepped by the test."""
    peer = Peer("127.0.0.1", port, title, "ICHNODE", LIMIT_S)
    connect = partial(associate, peer, [(EVENT, EXPLICIT_LE)], serving=[EVENT])
    return StageLoop(
        "notify",
        worklist.tasks.notices(title),
        NotifyStage(connect),
        owner="test",
        stop=threading.Event(),
        lease=timedelta(seconds=60),
    )


def test_a_subscriber_gets_events(port: int, worklist: Worklist) -> None:
    """By itself, over an association that the node opens: new, urgent, taken, asked to cancel."""
    with Subscriber() as subscriber, client(port, *ALL) as association:
        assert act(association, GLOBAL, 3, ReceivingAE="WATCHER", DeletionLock="FALSE") == 0
        study_uid = record(worklist, Finding.POSITIVE)
        uid = task_of(association, study_uid)
        act(association, uid, 1, ProcedureStepState="IN PROGRESS", TransactionUID=T1)
        assert act(association, uid, 3, ReceivingAE="READER", DeletionLock="TRUE") == 0
        assert act(association, uid, 2, ReasonForCancellation="again") == 0
        change(
            association,
            uid,
            TransactionUID=T1,
            ProcedureStepProgressInformationSequence=[keyed_plain(ProcedureStepProgress="50")],
            ScheduledStationNameCodeSequence=[coded("ROOM2")],
        )
        loop = notifier(worklist, subscriber.port)
        assert loop.step()
        assert not loop.step()
        subscriber.wait(7)
    assert {one[0] for one in subscriber.events} == {uid}
    kinds = [kind for _, kind, _ in subscriber.events]
    assert kinds == [1, 1, 1, 1, 2, 3, 5]
    first, *said = [event for _, _, event in subscriber.events]
    assert first.InputReadinessState == "INCOMPLETE"
    assert {one.InputReadinessState for one in said[:3]} == {"READY"}
    assert [one.ScheduledProcedureStepPriority for one in said[:3]] == ["LOW", "HIGH", "HIGH"]
    assert [one.ProcedureStepState for one in said[1:3]] == ["SCHEDULED", "IN PROGRESS"]
    assert (said[3].RequestingAE, said[3].ReasonForCancellation) == ("READER", "again")
    assert said[4].ProcedureStepProgressInformationSequence[0].ProcedureStepProgress == 50
    assert said[5].ScheduledStationNameCodeSequence[0].CodeValue == "ROOM2"


def test_events_wait_for_a_subscriber_that_is_away(
    port: int, worklist: Worklist, hand_clock: HandClock
) -> None:
    """Nobody there, then somebody who cannot just now, then everything in order."""
    with client(port) as association:
        act(association, GLOBAL, 3, ReceivingAE="WATCHER", DeletionLock="FALSE")
        uid = task_of(association, record(worklist))
        act(association, uid, 1, ProcedureStepState="IN PROGRESS", TransactionUID=T1)
    with Subscriber() as gone:
        dead = gone.port
    assert notifier(worklist, dead).step()
    hand_clock.forward(400)
    with Subscriber(refuses=0x0110) as subscriber:
        loop = notifier(worklist, subscriber.port)
        assert loop.step()
        assert len(subscriber.events) == 1
        hand_clock.forward(400)
        subscriber.refuses = 0
        assert loop.step()
        assert [one[2].ProcedureStepState for one in subscriber.events[1:]] == [
            "SCHEDULED",
            "IN PROGRESS",
        ]
        assert not loop.step()


def test_subscriptions_that_cannot_be(port: int, worklist: Worklist) -> None:
    """A filter, a stranger, no such task, half a request."""
    study_uid = record(worklist)
    with client(port) as association:
        uid = task_of(association, study_uid)
        both = {"ReceivingAE": "WATCHER", "DeletionLock": "FALSE"}
        assert act(association, FILTERED, 3, **both) == 0xC307
        assert act(association, GLOBAL, 3, **(both | {"ReceivingAE": "NOBODY"})) == 0xC308
        assert act(association, "2.25.5", 3, **both) == 0xC307
        assert act(association, uid, 3, ReceivingAE="WATCHER") == 0x0115
        assert act(association, uid, 5, ReceivingAE="WATCHER") == 0xC314
        assert act(association, uid, 9, ReceivingAE="WATCHER") == 0x0123
        assert act(association, GLOBAL, 5, ReceivingAE="WATCHER") == 0
        assert act(association, uid, 4, ReceivingAE="WATCHER") == 0
        assert act(association, GLOBAL, 4, ReceivingAE="WATCHER") == 0


# ------------------------------------------------------------------ who may ask, and what not


def test_nobody_asks_who_is_not_named(worklist: Worklist, tmp_path: Path) -> None:
    """Another title, another network: no context, one visible refusal; images are taken as ever."""
    for settings in ({"calling_ae_titles": ("PACS",)}, {"networks": ("10.0.0.0/8",)}):
        with published(worklist, tmp_path, **settings) as receiver:
            with client(receiver.port) as association:
                assert not association.accepted_contexts
            with scanner(receiver.port) as association:
                assert send(association, ct()) == 0
    sentences = {one.sentence for one in refusals(worklist, 2)}
    assert any("query.calling_ae_titles" in one for one in sentences)
    assert any("query.networks" in one for one in sentences)


def test_in_observe_mode_the_list_does_not_leave_the_machine(worklist: Worklist) -> None:
    """Loopback may ask; others once the model is commissioned."""
    opened = False
    answers = Answers(
        worklist.tasks,
        query_settings(networks=("127.0.0.0/8", "10.0.0.0/8")),
        is_open=lambda: opened,
    )
    assert answers.objection("READER", "127.0.0.1") == ""
    assert "commissioned" in answers.objection("READER", "10.1.2.3")
    opened = True
    assert answers.objection("READER", "10.1.2.3") == ""


def test_a_list_that_is_closed_is_closed_to_those_who_are_in(
    worklist: Worklist, tmp_path: Path
) -> None:
    """An association that stands gets no more answers."""
    record(worklist)
    with published(worklist, tmp_path) as receiver, client(receiver.port) as association:
        assert len(find(association, PULL, StudyInstanceUID="")[0]) == 1
        receiver._questions._services._callers = set()
        assert find(association, PULL, StudyInstanceUID="")[:2] == ([], 0x0124)
        assert get(association, "1.2.3")[0] == 0x0124


def test_those_who_ask_leave_room_for_scanners(worklist: Worklist, tmp_path: Path) -> None:
    """Two may ask at a time; a scanner gets in beside them, and a full disk stops no question."""
    with (
        published(worklist, tmp_path, max_associations=2) as receiver,
        contextlib.ExitStack() as stack,
    ):
        asking = [stack.enter_context(client(receiver.port)) for _ in range(2)]
        assert all(one.is_established for one in asking)
        with client(receiver.port) as third:
            assert not third.is_established
        with scanner(receiver.port) as association:
            assert send(association, ct()) == 0
    full = {"max_backlog": 1}
    with published(worklist, tmp_path, receive=full) as receiver:
        receiver._intake._recorder._backlog = 5
        with client(receiver.port) as association:
            assert association.is_established
        receiver._intake._recorder._backlog = 0


def deep(levels: int) -> Dataset:
    """A sequence in a sequence in a sequence ..."""
    found = Dataset()
    for _ in range(levels):
        found = keyed_plain(ReferencedRequestSequence=[found])
    return found


HOSTILE = {
    "more values than can be compared": (
        encoded(keyed_plain(ProcedureStepLabel="")).getvalue()[:-2] + b"\xe8\x03" + b"A\\" * 500,
        0xC000,
    ),
    "no data set at all": (b"\xff" * 40, 0xC000),
    "cut off": (encoded(keyed(PatientName="Doe")).getvalue()[:-2], 0xC000),
    "too deep": (encoded(deep(60)).getvalue(), 0xC000),
    "a character set of nobody": (
        b"\x08\x00\x05\x00CS\x08\x00KLINGON \x10\x00\x20\x00LO\x00\x00",
        0xC000,
    ),
    "another character set than it says": (
        encoded(keyed(PatientName="")).getvalue() + b"\x10\x00\x10\x00PN\x04\x00D\xf6e*",
        0xC000,
    ),
    "a range that is none": (
        encoded(keyed_plain(ScheduledProcedureStepStartDateTime="")).getvalue()[:-2]
        + b"\x08\x00soon----",
        0xC000,
    ),
    "two items in a sequence": (
        encoded(
            keyed(ReferencedRequestSequence=[keyed_plain(AccessionNumber=n) for n in "12"])
        ).getvalue(),
        0xA900,
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_queries_are_refused_and_seen(kind: str, worklist: Worklist) -> None:
    """The right status, one sentence without what was in it, and nothing is broken."""
    record(worklist)
    content, status = HOSTILE[kind]
    answers = Answers(worklist.tasks, query_settings())
    request = C_FIND()
    request.MessageID, request.AffectedSOPClassUID = 3, PULL
    request.Identifier = BytesIO(content)
    (answer,) = answers.answer("READER", request, PULL, EXPLICIT_LE, lambda: False)
    assert f"{answer.status:04X}" == f"{status:04X}"
    assert answer.complaint
    assert "Doe" not in answer.complaint


def test_a_search_that_finds_nothing_is_not_out_of_touch(
    worklist: Worklist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its parts it can be canceled, and makes way; nothing is sent for that."""
    monkeypatch.setattr("ichnode.query.finding.PART", 2)
    for _ in range(5):
        record(worklist)
    answers = Answers(worklist.tasks, query_settings())
    request = C_FIND()
    request.MessageID, request.AffectedSOPClassUID = 3, PULL

    def statuses(*, canceled: bool) -> list[tuple[int, bool]]:
        request.Identifier = encoded(keyed(ProcedureStepLabel="nothing is called so"))
        found = answers.answer("READER", request, PULL, EXPLICIT_LE, lambda: canceled)
        return [(one.status, one.message is None) for one in found]

    assert statuses(canceled=False) == [(0xFF00, True)] * 2 + [(0x0000, False)]
    assert statuses(canceled=True) == [(0xFE00, False)]


def test_too_much_of_a_query_is_refused_and_the_association_goes_on(
    port: int, worklist: Worklist
) -> None:
    """It is read to its end and not kept; private, unknown and odd keys do no harm."""
    record(worklist)
    with client(port) as association:
        long = keyed(PatientName="", DataSetTrailingPadding=b"x" * 200_000)
        assert ask(association, PULL, long)[1] == 0xA700
        odd = keyed(PatientName="D*", BodyPartExamined="FOOT")
        odd.private_block(0x0009, "Somebody", create=True).add_new(1, "LO", "secret")
        found, status, pending = ask(association, PULL, odd)
        assert (len(found), status, pending) == (1, 0, [0xFF01])
        assert "BodyPartExamined" not in found[0]
        answer, _ = association.send_n_action(keyed(), 3, PUSH, "1.2.3", meta_uid=PULL)
        assert answer.Status == 0x0123
        answer, _ = association.send_n_get([], PUSH, "1.2.3", meta_uid=QUERY)
        assert answer.Status == 0x0211
        assert find(association, STUDY_ROOT, PatientName="")[1] == 0xA900
    sentences = [one.sentence for one in refusals(worklist, 3)]
    assert any("longer than any" in one for one in sentences)


def test_queries_do_not_hold_up_a_scanner(port: int, worklist: Worklist) -> None:
    """While somebody has an answer half read, images are taken on another association."""
    for _ in range(80):
        record(worklist)
    with client(port) as asking, scanner(port) as association:
        answers = asking.send_c_find(keyed(StudyInstanceUID=""), PULL)
        next(answers)
        assert send(association, ct()) == 0
        assert len(list(answers)) == 80
