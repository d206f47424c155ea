"""What is shown, and what a dead database looks like; on both engines."""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from ichnode.domain.errors import ConfigurationError, WorklistDown
from ichnode.domain.findings import Finding
from ichnode.domain.lifecycle import Band
from ichnode.domain.triage import ListEntry, Weights, list_key
from ichnode.domain.work import Failed
from ichnode.worklist.engine import connect, database_now
from ichnode.worklist.policy import Policy
from ichnode.worklist.worklist import Worklist
from tests.worklist_fixtures import OpenWorklist
from tests.worklist_kit import POLICY, HandClock, analysed, build, fresh_uid, look, send, slices


def test_the_list_is_in_the_order_of_the_domain(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """URGENT, REVIEW, then order, weight and arrival, with the waiting cap; by pages too."""
    weights = Weights({"CT_ED": 1, "CT_LAB": -2}, {"ROOM 7": 1}, {"ROUTINE": -1})
    worklist = open_worklist(Policy(waiting_cap=timedelta(minutes=30), weights=weights))
    chance = random.Random(5)
    orders = ["STAT", "HIGH", "", "ROUTINE", "LOW", "NONSENSE"]
    weighed = {}
    for _ in range(60):
        order, ae = chance.choice(orders), chance.choice(["CT_ED", "CT_LAB", "CT1"])
        station = chance.choice(["ROOM 7", ""])
        (brought,) = slices(
            1,
            calling_ae=ae,
            station_name=station,
            requested_priority=order,
            expected_count=1,
        )
        worklist.record([brought])
        weighed[brought.header.study_uid] = weights.of(ae, station, order)
        look(worklist, analysed(chance.choices(list(Finding), weights=[1, 1, 6])[0]))
        hand_clock.forward(60)
    rows = worklist.views.reading_list()
    cap, now = timedelta(minutes=30), hand_clock.now()
    keys = [
        list_key(
            ListEntry(row.band, row.ordered_priority, row.arrived_at, weighed[row.study_uid]),
            now,
            cap,
        )
        for row in rows
    ]
    assert len(rows) == 60
    assert sorted(keys) == keys
    unweighed = [
        list_key(ListEntry(row.band, row.ordered_priority, row.arrived_at), now, cap)
        for row in rows
    ]
    assert sorted(unweighed) != unweighed, "the weights changed nothing"
    assert len({row.band for row in rows}) == 3
    pages = [row for offset in range(0, 60, 7) for row in worklist.views.reading_list(7, offset)]
    assert [row.study_uid for row in rows] == [row.study_uid for row in pages]


def test_weights_only_ever_move_a_study_forward(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """What another scanner, or a later slice, says of a study never moves it back."""
    weights = Weights({"CT_ED": 2, "CT_LAB": -2})
    worklist = open_worklist(Policy(weights=weights))
    first, second = fresh_uid(), fresh_uid()
    worklist.record(slices(1, study_uid=first))
    hand_clock.forward(60)
    worklist.record(slices(1, study_uid=second))
    assert [row.study_uid for row in worklist.views.reading_list()] == [first, second]
    worklist.record(slices(1, study_uid=second, calling_ae="CT_ED"))
    assert [row.study_uid for row in worklist.views.reading_list()] == [second, first]
    worklist.record(slices(1, study_uid=second, calling_ae="CT_LAB"))
    assert [row.study_uid for row in worklist.views.reading_list()] == [second, first]


def test_the_list_shows_what_was_found_and_where(worklist: Worklist, hand_clock: HandClock) -> None:
    """Labels with their key slice, the model, and every delivery."""
    brought = slices(5)
    worklist.record(brought)
    hand_clock.forward(20)
    key = brought[2].header.sop_uid
    labels = tuple(
        type(one)(one.label, one.probability, one.presence, key)
        for one in analysed(Finding.POSITIVE).result.labels
    )
    look(worklist, analysed(Finding.POSITIVE, labels=labels))
    (row,) = worklist.views.reading_list()
    assert ("any", 0.97, "present", key, 3) == (
        row.findings[0].label,
        row.findings[0].probability,
        row.findings[0].presence,
        row.findings[0].key_sop_uid,
        row.findings[0].key_instance_number,
    )
    assert (row.patient_name, row.patient_id, row.accession_number) == ("Doe^Jane", "4711", "A1")
    assert "Doe" not in repr(row)


def test_every_transition_is_in_the_history_without_the_patient(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """The story of a study can be told afterwards, and names nobody."""
    brought = slices(5)
    worklist.record(brought)
    hand_clock.forward(20)
    look(worklist, analysed(Finding.POSITIVE))
    build(worklist)
    story = worklist.views.study(brought[0].header.study_uid)
    assert story is not None
    told = [f"{one.noun} {one.verb}" for one in story.events]
    assert told[:4] == ["series appeared", "series claimed", "series analysed", "study judged"]
    assert {"document entered", "document built", "delivery entered"} <= set(told)
    words = " ".join(one.sentence for one in story.events)
    # A random UID of 38 digits holds 4711 now and then; a patient's number stands by itself.
    assert not re.search(r"Doe|A1|(?<!\d)4711(?!\d)", words)
    assert worklist.views.study("1.2.3") is None
    assert worklist.views.series("1.2.3") is None


def test_gauges_count_and_age(worklist: Worklist, hand_clock: HandClock) -> None:
    """Every state has its figure, and the oldest due work its age."""
    worklist.record(slices(3))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.POSITIVE))
    worklist.record(slices(3))
    hand_clock.forward(12)
    counts = worklist.views.counts()
    assert (counts["series"]["pending"], counts["series"]["positive"]) == (1, 1)
    assert (counts["studies"]["urgent"], counts["studies"]["not_analysed"]) == (1, 1)
    assert (counts["documents"]["due"], counts["documents"]["built"]) == (2, 0)
    assert (counts["deliveries"]["due"], counts["deliveries"]["waiting"]) == (1, 2)
    assert {
        key: count for key, count in worklist.views.deliveries_by_destination().items() if count
    } == {("pacs", "due"): 1, ("pacs", "waiting"): 2}
    assert worklist.views.queue_age() == {"analysis": 10.0, "document": 12.0, "delivery": 12.0}


def test_latencies_can_be_read_on_from_the_last(worklist: Worklist, hand_clock: HandClock) -> None:
    """A histogram is filled once with each delivery."""
    assert worklist.views.latencies() == []
    worklist.record(slices(3))
    hand_clock.forward(20)
    look(worklist, analysed(Finding.POSITIVE))
    send(worklist)
    (alert,) = worklist.views.latencies()
    assert (alert.kind, alert.seconds) == ("ups", 80.0), "a minute before it was recorded counts"
    hand_clock.forward(1)
    build(worklist)
    send(worklist)
    assert {"sr", "sc"} == {one.kind for one in worklist.views.latencies(alert.delivered_at)}


# ------------------------------------------------------------------ a database that is not there


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize("kind", ["damaged", "no folder", "no server"])
def test_a_dead_database_is_worklist_down(kind: str, tmp_path: Path) -> None:
    """Whatever is wrong with it, callers catch one error, without any patient in it."""
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"this is no database" * 1000)
    url = {
        "damaged": f"sqlite:///{damaged}",
        "no folder": f"sqlite:///{tmp_path / 'none' / 'worklist.db'}",
        "no server": f"postgresql://somebody@127.0.0.1:{closed_port()}/none",
    }[kind]
    worklist = Worklist(connect(url), POLICY)
    for attempt in (
        lambda: worklist.record(slices(1)),
        lambda: worklist.analyses.claim("infer"),
        lambda: worklist.views.counts(),
        lambda: database_now(connect(url)),
    ):
        with pytest.raises(WorklistDown) as caught:
            attempt()
        assert "Doe" not in str(caught.value)


def test_a_restarted_database_is_found_again(
    open_worklist: OpenWorklist, database_url: str
) -> None:
    """Connections that the server cut are replaced without the caller's doing."""
    worklist = open_worklist()
    worklist.record(slices(1))
    if database_url.startswith("postgresql"):
        killer = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
        with killer.connect() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        killer.dispose()
    worklist.record(slices(1))
    assert len(worklist.views.reading_list()) == 2


@pytest.mark.parametrize("url", ["sqlite://", "mysql://h/d", "no address"])
def test_an_unusable_address_is_a_configuration_error(url: str) -> None:
    """Said at the start, in a sentence."""
    with pytest.raises(ConfigurationError):
        connect(url)


# ------------------------------------------------------------------ wakeup


def test_a_commit_elsewhere_ends_the_pause(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """Work that became due wakes an idle worker long before its pause is over."""
    worker, other = open_worklist(), open_worklist()
    wakeup, stop = worker.wakeup(), threading.Event()
    wakeup.wait(0.05, stop)  # connected and listening
    thread = threading.Timer(0.2, lambda: other.record(slices(2, expected_count=2)))
    thread.start()
    began = time.monotonic()
    wakeup.wait(30, stop)
    assert time.monotonic() - began < 20
    thread.join()
    assert worker.analyses.claim("infer") is not None
    wakeup.close()


def test_a_stop_ends_the_pause(worklist: Worklist) -> None:
    """Nobody waits for a pause to end when the node stops."""
    wakeup, stop = worklist.wakeup(), threading.Event()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    wakeup.wait(30, stop)
    assert time.monotonic() - began < 20
    wakeup.close()


def test_without_a_database_the_pause_just_lasts() -> None:
    """The hint is never needed: a wakeup without a server waits like a clock."""
    worklist = Worklist(connect(f"postgresql://x@127.0.0.1:{closed_port()}/none"), POLICY)
    began = time.monotonic()
    worklist.wakeup().wait(0.2, threading.Event())
    assert time.monotonic() - began >= 0.19


def test_the_failed_are_listed_with_their_error(worklist: Worklist, hand_clock: HandClock) -> None:
    """Silence never looks like a negative."""
    worklist.record(slices(3))
    hand_clock.forward(20)
    look(worklist, Failed("ModelUnusable: damaged", transient=False))
    assert [one.detail for one in worklist.views.not_analysed()] == ["ModelUnusable: damaged"]
    assert worklist.views.reading_list()[0].band is Band.NOT_ANALYSED
