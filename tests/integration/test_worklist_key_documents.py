"""Key objects and presentation states from the outbox to a PACS that asks for them."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO

import pytest
from pydicom import dcmread

from ichnode.domain.findings import Finding
from ichnode.domain.series import Arrival
from ichnode.domain.work import Analysed
from ichnode.report.stage import ReportStage
from ichnode.send.mechanisms import mechanisms_for
from ichnode.send.stage import SendStage
from ichnode.settings import DestinationSettings, ReportSettings, SendSettings
from ichnode.worklist.policy import Policy, Route
from tests.documents import keep_series, result
from tests.pacs import KEY_OBJECTS, PRESENTATION_STATE, Pacs

BUSY = 0xA700


class Way:
    """A worklist, the report stage and the send stage, one destination that takes documents."""

    def __init__(self, open_worklist, clock, spool, port, **takes):
        self.pacs = DestinationSettings(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=port, timeout_s=10, **takes
        )
        route = Route("pacs", self.pacs.takes, loopback=True)
        self.worklist = open_worklist(Policy(destinations=(route,), negative_sr=True))
        self._clock, self._spool = clock, spool
        self._report = ReportStage(spool, ReportSettings())
        self._send = SendStage(spool, [self.pacs], SendSettings(), calling_ae="ICHNODE")

    def analyse(self, finding, name):
        """Bring a series as far as its outbox rows; return its study."""
        instances = keep_series(self._spool, 3, name=name)
        self.worklist.record([arrival(one) for one in instances])
        self._clock.forward(60)
        work = self.worklist.analyses.claim("infer")
        found = result([one.header.sop_uid for one in instances], finding)
        assert self.worklist.analyses.settle(work, Analysed(found))
        return work.study_uid

    def build(self):
        """Build what is due; return the kinds."""
        kinds = []
        while work := self.worklist.documents.claim("report"):
            assert self.worklist.documents.settle(work, self._report.handle(work))
            kinds.append(work.kind)
        return sorted(kinds)

    def send(self):
        """Deliver what is due, once."""
        while work := self.worklist.deliveries.claim("send"):
            assert self.worklist.deliveries.settle(work, self._send.handle(work))

    def preview(self, study_uid):
        """What `ichnode outputs test` shows, by kind."""
        mechanisms = mechanisms_for(self.pacs, self._spool, "ICHNODE")
        items = self.worklist.deliveries.rehearse(study_uid, "pacs")
        return {item.kind: mechanisms[item.kind].preview(item) for item in items}


def arrival(instance):
    return Arrival(
        header=instance.header,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        sha256=instance.sha256,
        path=instance.path,
        size_bytes=1000,
        received_at=datetime(2026, 3, 1, 11, 59, tzinfo=UTC),
        association_id="a1",
        calling_ae="CT1",
        called_ae="ICHNODE",
        peer_address="127.0.0.1",
    )


def test_a_positive_has_one_of_each_and_nothing_else_has_any(open_worklist, hand_clock, tmp_path):
    """Reports of all findings; key objects and presentation state of the positive alone."""
    with Pacs() as pacs:
        way = Way(open_worklist, hand_clock, tmp_path, pacs.port, sc=False, kos=True, gsps=True)
        for finding in Finding:
            way.analyse(finding, finding.value)
        assert way.build() == ["gsps", "kos", "sc", "sr", "sr", "sr"]
        way.send()
        kept = [one.sop_class_uid for one in pacs.kept]
    assert kept.count(KEY_OBJECTS) == kept.count(PRESENTATION_STATE) == 1
    assert len(kept) == 5


def test_they_are_off_unless_a_destination_takes_them(open_worklist, hand_clock, tmp_path):
    """Nobody asked: nothing is written, nothing sent."""
    with Pacs() as pacs:
        way = Way(open_worklist, hand_clock, tmp_path, pacs.port)
        way.analyse(Finding.POSITIVE, "unasked")
        assert way.build() == ["sc", "sr"]
        way.send()
        assert len(pacs.kept) == 2


@pytest.mark.parametrize("kind", ["kos", "gsps"])
def test_one_that_was_refused_comes_again_byte_for_byte(open_worklist, hand_clock, tmp_path, kind):
    """The same UID and the same bytes, however often; then never again."""
    only = {"sr": False, "sc": False, kind: True}
    with Pacs(script=[BUSY, BUSY]) as pacs:
        way = Way(open_worklist, hand_clock, tmp_path, pacs.port, **only)
        way.analyse(Finding.POSITIVE, "refused")
        way.build()
        for _ in range(4):
            way.send()
            hand_clock.forward(3600)
        received = pacs.received
    assert len(received) == 3
    assert [one.kept for one in received] == [False, False, True]
    assert len({(one.sop_uid, one.data_set) for one in received}) == 1
    assert dcmread(BytesIO(received[0].data_set), force=True).SOPInstanceUID == received[0].sop_uid


def test_a_rehearsal_shows_them(open_worklist, hand_clock, tmp_path):
    """Each with its elements, the words that a reader will see among them."""
    way = Way(open_worklist, hand_clock, tmp_path, 104, kos=True, gsps=True)
    study_uid = way.analyse(Finding.POSITIVE, "rehearsed")
    way.build()
    shown = way.preview(study_uid)
    assert sorted(shown) == ["gsps", "kos", "sc", "sr"]
    assert "C-STORE, priority HIGH" in shown["kos"]
    assert "Key Object Description" in shown["kos"]
    assert "AI output, preliminary, not for diagnostic use." in shown["kos"]
    assert "AI model that orders the reading list" in shown["sr"]
    assert "Graphic Annotation Sequence" in shown["gsps"]
    assert "AI OUTPUT - NOT FOR DIAGNOSTIC USE" in shown["gsps"]
