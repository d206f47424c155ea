"""Workers killed at the system calls between claim and settle: one report, and exactly one.

The kill comes from strace at the N-th call of a thread after it was attached, not from a hook in
the product. SQLite makes a commit durable by one fdatasync, so that each N is another point of the
path: 1 is the claim, 2 the settle, and so on. One node serves all cases, each with its own study.
"""

from __future__ import annotations

import itertools
import signal
import subprocess

import pytest

from ichnode.domain.lifecycle import Analysis, Delivery
from ichnode.phantom import Identity, simulate_head, write_series
from ichnode.phantom.studies import DEMONSTRATION_SEEDS
from tests.models import write_model
from tests.node import Node, wait_for
from tests.pacs import Pacs

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(180)]
SEED = DEMONSTRATION_SEEDS.start + 77


class Site:
    """A node whose model finds blood everywhere, its PACS, and studies to send."""

    def __init__(self, folder, pacs, strace):
        self.folder, self.pacs, self._strace = folder, pacs, strace
        self._numbers = itertools.count(SEED)
        self._head = simulate_head(SEED, bleeds=(), slices=28, size_px=192)
        (folder / "node").mkdir()
        self.node = Node(
            folder / "node", destinations=[("pacs", pacs.ae_title, pacs.port, False)], final_s=1.5
        )
        write_model(folder / "bundle", logit=6.0)
        self.node.use_model(folder / "bundle")
        self.port = self.node.start_receiver()
        self.workers = {}
        for role in ("infer", "deliver"):
            self.start(role)
        self.node.ready("infer", "deliver")

    def start(self, role):
        """Start a worker, again if it was killed."""
        self.workers[role] = self.node.start(role)

    def attach(self, role, call, number):
        """Have strace kill the worker at the N-th such call of any one of its threads."""
        tracer = subprocess.Popen(
            [self._strace, "-f", "-e", f"trace={call}", "-p", str(self.workers[role].pid),
             "-e", f"inject={call}:signal=KILL:when={number}"],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert "attached" in tracer.stderr.readline()
        return tracer

    def scan(self):
        """Send a study of its own and return its UID."""
        who = Identity.simulated(next(self._numbers))
        folder = self.folder / f"{who.accession}"
        write_series(self._head, folder, identity=who)
        self.node.call("send", str(folder), f"ICHNODE@127.0.0.1:{self.port}")
        return who.study_uid

    def delivered(self, study_uid):
        """Return the deliveries of a study once they are done and its series is final."""
        story = self.node.worklist.views.study(study_uid)
        if story is None or not story.series[0].final:
            return None
        rows = story.deliveries
        return rows if rows and all(r.state is Delivery.DELIVERED for r in rows) else None

    def wait_delivered(self, study_uid):
        return wait_for(lambda: self.delivered(study_uid), 90, self.node.log())


@pytest.fixture(scope="module")
def site(tmp_path_factory, require_program):
    """The node that all cases share."""
    strace = require_program("strace")
    with Pacs() as pacs:
        made = Site(tmp_path_factory.mktemp("killed"), pacs, strace)
        try:
            yield made
        finally:
            made.node.stop()


def assert_exactly_one_report(site, study_uid, rows):
    """One SR and one key image, whatever was re-sent: the same UIDs and the same bytes."""
    assert sorted(row.kind for row in rows) == ["sc", "sr"]
    story = site.node.worklist.views.study(study_uid)
    assert story.series[0].analysis is Analysis.POSITIVE
    own = {document.sop_uid for document in story.documents}
    copies = {}
    for one in site.pacs.received:
        if one.sop_uid in own:
            copies.setdefault((one.sop_class_uid, one.sop_uid), set()).add(one.data_set)
    assert len(copies) == 2
    assert all(len(contents) == 1 for contents in copies.values())


def kill(site, role, call, number):
    """Kill a worker at its N-th call, about a study that is sent meanwhile; return the study."""
    tracer = site.attach(role, call, number)
    study_uid = site.scan()
    try:
        assert site.workers[role].wait(60) == -signal.SIGKILL, site.node.log()
    finally:
        tracer.kill()
        tracer.communicate()
    site.node.processes.remove(site.workers[role])
    return study_uid


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_infer_is_killed_at_claim_and_settle(site, number):
    """Early claim, early settle, final claim, final settle: analysed and reported all the same."""
    study_uid = kill(site, "infer", "fdatasync", number)
    site.start("infer")
    assert_exactly_one_report(site, study_uid, site.wait_delivered(study_uid))


@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("fdatasync", 1),  # the claim of a document
        ("fsync", 1),  # its bytes
        ("fsync", 3),
        ("rename", 1),  # its name
        ("fdatasync", 2),  # its settling, or the claim of a delivery
        ("connect", 1),
        ("sendto", 3),  # in the middle of a transfer
    ],
)
def test_deliver_is_killed_on_the_way_to_the_peer(site, call, number):
    """Killed while building, keeping, sending and settling: each document arrives as one object."""
    study_uid = kill(site, "deliver", call, number)
    site.start("deliver")
    assert_exactly_one_report(site, study_uid, site.wait_delivered(study_uid))


def test_deliver_is_killed_when_the_peer_has_answered_and_nothing_is_settled(site):
    """The ambiguous moment: the PACS has it, we do not know; it gets the same bytes once more.

    An association about an SR is five messages: the request, a command, the data set in two, and
    what comes after the answer, be it the release or the next object.
    """
    study_uid = kill(site, "deliver", "sendto", 5)
    own = {d.sop_uid for d in site.node.worklist.views.study(study_uid).documents}
    assert [one for one in site.pacs.kept if one.sop_uid in own]
    rows = site.node.worklist.views.study(study_uid).deliveries
    assert all(row.state is not Delivery.DELIVERED for row in rows)
    site.start("deliver")
    assert_exactly_one_report(site, study_uid, site.wait_delivered(study_uid))
