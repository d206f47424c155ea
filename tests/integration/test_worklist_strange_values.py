"""What strangers may write into the headers that are indexed, on both engines."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from sqlalchemy import select, text
from structlog.testing import capture_logs

from ichnode.domain.commitment import CommitmentReport
from ichnode.domain.findings import Finding
from ichnode.domain.hearing import (
    Demographics,
    OrderHeard,
    PatientCorrected,
    PatientKey,
    PatientsMerged,
    ReportHeard,
)
from ichnode.domain.labels import completed
from ichnode.domain.series import SET_ASIDE, Arrival, Refusal
from ichnode.domain.tasks import Search
from ichnode.domain.telling import Seen
from ichnode.receive.scp import Receiver
from ichnode.service.assembly import Door
from ichnode.settings import NodeSettings, ReceiveSettings
from ichnode.worklist import tables as t
from ichnode.worklist.engine import connect
from ichnode.worklist.labels import LabelLine, Outcome
from ichnode.worklist.worklist import Worklist
from tests.scanner import LIMIT_S, ct, scanner, send
from tests.worklist_fixtures import Databases
from tests.worklist_kit import POLICY, HandClock, analysed, look, slices

CHARACTERS = 1024  # of three bytes each: more than a row of an index of PostgreSQL holds
ACCESSION, PATIENT_ID, PATIENT_NAME = 0x00080050, 0x00100020, 0x00100010


def long_text(seed: int) -> str:
    """Ideographs that do not compress."""
    drawn = random.Random(seed)
    return "".join(chr(drawn.randrange(0x4E00, 0x9FA5)) for _ in range(CHARACTERS))


def strange(number: int, *values: tuple[int, str, str]) -> Dataset:
    """A CT image of a series of its own, with values longer than their VR allows."""
    image = ct(1, series=f"1.2.826.9.{number}", StudyInstanceUID=f"1.2.826.8.{number}")
    image.SpecificCharacterSet = "ISO_IR 192"
    for tag, vr, value in values:
        image[tag] = DataElement(tag, vr, value, validation_mode=config.IGNORE)
    return image


class Watched:
    """The door of a worklist, and whoever waits for what comes of it."""

    def __init__(self, worklist: Worklist) -> None:
        self.worklist, self._door, self._changed = worklist, Door(worklist), threading.Condition()

    def record(self, arrivals: Sequence[Arrival]) -> None:
        self._door.record(arrivals)
        self._notify()

    def released(self, association_id: str) -> None:
        self._door.released(association_id)

    def refuse(self, refusal: Refusal) -> None:
        self._door.refuse(refusal)
        self._notify()

    def committed(self, report: CommitmentReport) -> bool:
        return self._door.committed(report)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        """Return when it holds; fail when it does not in time."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout=LIMIT_S), "never came"

    def studies(self) -> set[str]:
        return {row.study_uid for row in self.worklist.views.reading_list()}


@contextmanager
def receiving(door: Watched, spool: Path) -> Iterator[Receiver]:
    """A receiver before a worklist."""
    receiver = Receiver(
        NodeSettings(host_id="here", spool=spool),
        ReceiveSettings(port=0, reserve_bytes=0, drain_s=1),
        door,
        segment_bytes=1 << 20,
    )
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()


def stored(receiver: Receiver, *images: Dataset) -> list[int]:
    with scanner(receiver.port) as association:
        return [send(association, image) for image in images]


def test_overlong_numbers_do_not_stop_the_recording(worklist: Worklist, tmp_path: Path) -> None:
    """They are cut, and what comes after them is recorded as ever."""
    image = strange(1, (ACCESSION, "SH", long_text(1)), (PATIENT_ID, "LO", long_text(2)))
    door = Watched(worklist)
    with receiving(door, tmp_path) as receiver:
        assert stored(receiver, image, strange(2)) == [0, 0]
        door.wait(lambda: door.studies() == {"1.2.826.8.1", "1.2.826.8.2"})
    assert worklist.views.refusals() == []
    with worklist._database.reading() as transaction:
        header = transaction.session.scalars(select(t.Instance.header).order_by(t.Instance.id))
        assert header.first().patient_id == long_text(2), "the header is as it came"


def test_an_overlong_number_still_finds_its_study(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """By an order, a report, a correction, a merge, a label, a search and a person."""
    number, patient, other = long_text(3), long_text(4), long_text(5)
    (image,) = slices(1, expected_count=1)
    header = replace(image.header, accession_number=number, patient_id=patient)
    worklist.record([replace(image, header=header)])
    look(worklist, analysed(Finding.POSITIVE))
    hand_clock.forward(1)
    me, now = (PatientKey(patient),), Demographics(name="Roe^Jane")
    things = (
        OrderHeard(number, me, "STAT"),
        PatientCorrected(me, now),
        PatientsMerged((PatientKey(other),), me, now),
    )
    for place, thing in enumerate(things):
        assert worklist.orders.hear(f"{place:064}", "ORM^O01", [thing]).studies == 1
    said = ReportHeard(number, (PatientKey(other),), "no bleed", corrected=False)
    assert worklist.orders.hear(f"{9:064}", "ORU^R01", [said]).studies == 1
    assert worklist.seen(accession_number=number, how=Seen.REPORTED, by="RIS") == 1
    label = LabelLine(1, "", number, "", completed({"any": True}), "reader", "Dr B")
    assert [one.outcome for one in worklist.labels.enter([label])] == [Outcome.RECORDED]
    found = worklist.tasks.keys(Search(texts=(("accession_number", number),)), 9)
    assert len(found) == 1


@pytest.mark.peer
def test_what_a_server_cannot_hold_is_set_aside(databases: Databases, tmp_path: Path) -> None:
    """The index that a site has made refuses a name: visibly, and the others are recorded."""
    url = databases.migrated("postgres")
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE INDEX of_the_site ON study (patient_name)"))
    worklist = Worklist(engine, POLICY)
    image = strange(1, (PATIENT_NAME, "PN", long_text(6)))
    door = Watched(worklist)
    with capture_logs() as logs, receiving(door, tmp_path) as receiver:
        assert stored(receiver, image, strange(2)) == [0, 0]
        door.wait(lambda: door.studies() == {"1.2.826.8.2"} and bool(worklist.views.refusals()))
    assert [one.status for one in worklist.views.refusals()] == [SET_ASIDE]
    assert "instance.set_aside" in {one["event"] for one in logs}
    worklist.close()
    databases.drop(url)
