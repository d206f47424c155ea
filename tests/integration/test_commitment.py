"""Whether destinations answer for documents, against scriptable peers, on either engine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import Dataset

from ichnode.domain.commitment import CommitmentReport
from ichnode.domain.findings import Finding
from ichnode.domain.ids import result_uid
from ichnode.domain.work import Acknowledged, Built, Dispatched
from ichnode.receive.scp import Receiver
from ichnode.service.assembly import Door, policy_of
from ichnode.service.committing import Committing
from ichnode.settings import NodeSettings, ReceiveSettings, Settings
from ichnode.spool import resolve
from tests.committing import CommittingPacs, report, tell
from tests.documents import stored_documents
from tests.pacs import Pacs, closed_port
from tests.worklist_kit import analysed, look, slices

DAY = timedelta(days=1)


class Site:
    """A worklist with one destination that is to answer, a spool, and a receiver if wanted."""

    def __init__(self, open_worklist, clock, folder: Path) -> None:
        self._open, self.clock, self.folder = open_worklist, clock, folder
        self.documents = stored_documents(folder)

    def serve(self, port: int, *, commit: bool = True) -> None:
        there = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port}
        self.settings = Settings(
            node={"spool": self.folder, "host_id": "test"},
            receive={"port": 0, "reserve_bytes": 0},
            destinations=[there | {"sc": False, "commit": commit, "timeout_s": 1.0}],
        )
        self.worklist = self._open(policy_of(self.settings))

    def deliver(self) -> str:
        """Count the report of a new study as delivered; return its SOP Instance UID."""
        self.worklist.record(slices(3))
        self.clock.forward(21)
        look(self.worklist, analysed(Finding.POSITIVE))
        [document] = self.documents
        sop_uids = {}
        while work := self.worklist.documents.claim("test"):
            sop_uids[work.kind] = work.sop_uid
            sha256 = hashlib.sha256(work.sop_uid.encode()).hexdigest()
            built = Built(sha256, document.path, 100, "2.25.77", document.transfer_syntax_uid)
            assert self.worklist.documents.settle(work, built)
        sending = self.worklist.deliveries.claim("test")
        answers = {item.delivery_id: Acknowledged() for item in sending.items}
        assert self.worklist.deliveries.settle(sending, Dispatched(answers))
        return sop_uids["sr"]

    def commit(self) -> int:
        return Committing(self.settings, self.worklist, linger_s=0.5).commit()

    def states(self) -> dict[str, int]:
        return {state: n for (_, state), n in self.worklist.views.commitments().items()}

    def may_purge(self) -> int:
        return len(self.worklist.purgeable(timedelta(0)))


@pytest.fixture
def site(open_worklist, hand_clock, tmp_path) -> Site:
    return Site(open_worklist, hand_clock, tmp_path)


@pytest.fixture
def receiver(site) -> Iterator[Receiver]:
    """Our own door, which lets reports in."""
    site.serve(closed_port())
    with_door = Receiver(
        NodeSettings(host_id="test", spool=site.folder),
        ReceiveSettings(port=0, reserve_bytes=0),
        Door(site.worklist),
        segment_bytes=256 << 10,
        committed=lambda told: Door(site.worklist).committed(told),
    )
    with_door.start()
    yield with_door
    with_door.stop(0)


@pytest.mark.parametrize("first", [False, True], ids=["after the answer", "before the answer"])
def test_a_report_on_the_same_association_commits(site, first):
    """Until then nothing is purged, afterwards it may be."""
    with CommittingPacs(first=first) as pacs:
        site.serve(pacs.port)
        sop_uid = site.deliver()
        pacs.keep(sop_uid)
        assert site.may_purge() == 0
        assert site.commit() == 1
        assert pacs.asked[0][1] == {sop_uid}
        assert site.states() == {"committed": 1}
        assert site.may_purge() == 3
        assert site.commit() == 0


def test_a_report_on_an_association_of_its_own_commits(site, receiver):
    """The peer comes to our door in the role of the SCP."""
    with CommittingPacs(report_to=receiver.port) as pacs:
        site.serve(pacs.port)
        pacs.keep(site.deliver())
        assert site.commit() == 1
        assert pacs.answers == [0x0000]
    assert site.states() == {"committed": 1}


def test_a_peer_that_negotiates_no_roles_is_heard_too(site, receiver):
    """Older archives just report."""
    with CommittingPacs(silent=True) as pacs:
        site.serve(pacs.port)
        site.deliver()
        site.commit()
        [(transaction_uid, sop_uids)] = pacs.asked
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.34"
    item.ReferencedSOPInstanceUID = sop_uids.pop()
    assert site.states() == {"asked": 1}
    assert tell(receiver.port, report(transaction_uid, [item], []), roles=False) == 0x0000
    assert site.states() == {"committed": 1}


def test_who_knows_our_documents_cannot_report_on_them(site):
    """The Transaction UID is drawn by lot: what follows from what everybody sees is unknown."""
    with CommittingPacs(silent=True) as pacs:
        site.serve(pacs.port)
        sop_uid = site.deliver()
        site.commit()
        [(transaction_uid, _)] = pacs.asked
    for losses in "01":
        guessed = result_uid("commitment", "pacs", losses, sop_uid)
        assert guessed != transaction_uid
        told = CommitmentReport(guessed, frozenset({sop_uid}), {})
        assert not site.worklist.commitments.report(told)
    assert site.states() == {"asked": 1}


def test_what_nobody_asked_for_commits_nothing(site, receiver):
    """Another transaction, no data, another event: refused, and nothing changes."""
    with CommittingPacs(report_to=receiver.port, other_uid="1.2.3.4") as pacs:
        site.serve(pacs.port)
        pacs.keep(site.deliver())
        site.commit()
        [(transaction_uid, _)] = pacs.asked
        assert pacs.answers == [0x0115]
    assert tell(receiver.port, None) == 0x0115
    assert tell(receiver.port, report(transaction_uid, [], []), 9) == 0x0115
    assert site.states() == {"asked": 1}
    assert site.may_purge() == 0


def test_a_receiver_that_expects_no_reports_takes_none(site):
    """Where no destination is to answer the class is refused as before."""
    site.serve(closed_port(), commit=False)
    door = Receiver(
        NodeSettings(host_id="test", spool=site.folder),
        ReceiveSettings(port=0, reserve_bytes=0),
        Door(site.worklist),
        segment_bytes=256 << 10,
    )
    door.start()
    assert tell(door.port, report("1.2.3", [], [])) is None
    door.stop(0)


def test_what_was_lost_is_delivered_again_and_given_up_visibly(site):
    """The same bytes, twice more; then a person must look, and nothing is purged meanwhile."""
    with CommittingPacs() as pacs:
        site.serve(pacs.port)
        site.deliver()
        for _ in range(5):
            site.commit()
            site.clock.forward(7200)
        assert len(pacs.asked) == 3
        sent = [one.data_set for one in pacs.received]
        assert len(sent) == 2
        assert sent[0] == sent[1]
        assert len({uid for uid, _ in pacs.asked}) == 3
        assert site.states() == {"failed": 1}
        assert site.may_purge() == 0
        site.worklist.requeue_deliveries("pacs")
        assert site.states() == {"due": 1}


def test_of_a_partial_failure_only_what_was_lost_is_asked_for_again(site):
    """The others are committed."""
    with CommittingPacs() as pacs:
        site.serve(pacs.port)
        kept, lost = site.deliver(), site.deliver()
        pacs.keep(kept)
        site.commit()
        assert pacs.asked[0][1] == {kept, lost}
        site.clock.forward(61)
        site.commit()
        assert pacs.asked[-1][1] == {lost}
    assert site.states()["committed"] == 1


def test_a_peer_that_never_reports_is_asked_again_under_the_same_uid(site):
    """After an hour; until it reports nothing is purged."""
    with CommittingPacs(silent=True) as pacs:
        site.serve(pacs.port)
        pacs.keep(site.deliver())
        assert site.commit() == 1
        assert site.commit() == 0
        site.clock.forward(3601)
        assert site.commit() == 1
        assert len({uid for uid, _ in pacs.asked}) == 1
        assert (len(pacs.asked), site.states()) == (2, {"asked": 1})
        assert site.may_purge() == 0
        pacs.silent = False
        site.clock.forward(3601)
        site.commit()
        assert site.states() == {"committed": 1}


def test_a_peer_that_does_none_is_said_to_and_holds_nothing_up(site):
    """Purging follows the delivery then, with a warning; a day later it is asked again."""
    with Pacs() as pacs:
        site.serve(pacs.port)
        site.deliver()
        site.commit()
        assert site.states() == {"refused": 1}
        assert site.may_purge() == 3
        before = pacs.associations
        site.clock.forward(DAY.total_seconds() + 1)
        site.commit()
        assert pacs.associations == before + 1


@pytest.mark.parametrize("how", [{"status": 0x0213}, {"stalls": True}, None])
def test_a_peer_that_fails_is_asked_again_later(site, how):
    """Busy, silent or not there: nothing is lost and nothing is purged."""
    with CommittingPacs(**(how or {})) as pacs:
        site.serve(closed_port() if how is None else pacs.port)
        site.deliver()
        assert site.commit() == 0
        assert site.states() == {"due": 1}
        assert site.may_purge() == 0
        site.clock.forward(3601)
        pacs.status, pacs.stalls = 0, False
        if how:
            assert site.commit() == 1


def test_switched_off_it_holds_nothing_up(site):
    """The way out for a site whose archive will not answer."""
    site.serve(closed_port())
    site.deliver()
    assert site.may_purge() == 0
    site.serve(closed_port(), commit=False)
    assert site.may_purge() == 3
    assert site.commit() == 0


def test_a_report_twice_changes_nothing(site):
    """What is committed stays committed, whatever comes later."""
    site.serve(closed_port())
    sop_uid = site.deliver()
    work = site.worklist.commitments.claim("pacs")
    told = CommitmentReport(work.transaction_uid, frozenset({sop_uid}), {})
    assert site.worklist.commitments.report(told)
    site.worklist.commitments.asked(work)  # the report was quicker than the answer
    lost = CommitmentReport(work.transaction_uid, frozenset(), {sop_uid: 0x0112})
    assert site.worklist.commitments.report(lost)
    assert site.states() == {"committed": 1}
    assert resolve(site.folder, site.documents[0].path).exists()
