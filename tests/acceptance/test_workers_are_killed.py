"""Workers killed at the system calls between claim and settle: one report, and exactly one.

The kill comes from strace at the N-th call, not from a hook in the product. SQLite makes a commit
durable by fdatasync, so that each N is another point of the path; sends go out by sendto.
"""

from __future__ import annotations

import signal

import pytest

from ichnode.domain.lifecycle import Delivery
from ichnode.phantom.studies import DEMONSTRATION_SEEDS, write_study
from tests.models import write_model
from tests.node import Node, wait_for
from tests.pacs import Pacs

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(300)]
SEED = DEMONSTRATION_SEEDS.start + 77


@pytest.fixture(scope="module")
def positive(tmp_path_factory):
    """A simulated study, as files; the model of these tests calls everything positive."""
    folder = tmp_path_factory.mktemp("positive")
    return write_study(folder, SEED, bleeds=(), extras=(), slices=28, size_px=256)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A tiny bundle that nobody trained and that finds blood everywhere."""
    folder = tmp_path_factory.mktemp("bundle")
    write_model(folder, logit=6.0)
    return folder


@pytest.fixture
def pacs():
    """A PACS that takes everything and keeps what it was sent, in order."""
    with Pacs() as peer:
        yield peer


@pytest.fixture
def node(tmp_path, pacs, positive, bundle):
    """A node that has received the study, with nobody working on it yet."""
    node = Node(tmp_path, destinations=[("pacs", pacs.ae_title, pacs.port, False)])
    node.use_model(bundle)
    try:
        port = node.start_receiver()
        node.call("send", str(positive.series["head"][0].parent), f"ICHNODE@127.0.0.1:{port}")
        wait_for(lambda: len(node.series()) == 1)
        yield node
    finally:
        node.stop()


def killing(strace, calls, number):
    """Return the tracer's command line."""
    return [strace, "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", f"trace={calls}",
            "-e", f"inject={calls}:signal=KILL:when={number}"]  # fmt: skip


def delivered(node, positive):
    """Return the deliveries of the study once all of them are done."""
    story = node.worklist.views.study(positive.identity.study_uid)
    rows = story.deliveries
    return rows if rows and all(r.state is Delivery.DELIVERED for r in rows) else None


def finish(node, positive, *roles):
    """Run these workers undisturbed until everything is delivered."""
    for role in roles:
        node.start(role)
    return wait_for(lambda: delivered(node, positive), 90, f"delivery; {node.log()}")


def assert_exactly_one_report(pacs, rows):
    """One SR and one key image, whatever was re-sent: the same UIDs and the same bytes."""
    assert sorted(row.kind for row in rows) == ["sc", "sr"]
    copies = {}
    for one in pacs.received:
        copies.setdefault((one.sop_class_uid, one.sop_uid), set()).add(one.data_set)
    assert len(copies) == 2
    assert all(len(contents) == 1 for contents in copies.values())


def killed(process):
    return process.wait(120) in (-signal.SIGKILL, 128 + signal.SIGKILL)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_infer_is_killed_around_its_commits(node, pacs, positive, require_program, number):
    """Killed at the N-th durable write of the infer role: the series is analysed all the same."""
    strace = require_program("strace")
    process = node.start("infer", wrapper=killing(strace, "fdatasync", number))
    assert killed(process), node.log()
    rows = finish(node, positive, "infer", "deliver")
    assert_exactly_one_report(pacs, rows)


@pytest.mark.parametrize(
    ("calls", "number"),
    [("fdatasync", 1), ("fdatasync", 2), ("fdatasync", 4), ("fdatasync", 6), ("fdatasync", 8),
     ("fsync", 1), ("fsync", 2), ("renameat2,rename", 1), ("connect", 1)],
)  # fmt: skip
def test_deliver_is_killed_between_document_and_acknowledgement(
    node, pacs, positive, require_program, calls, number
):
    """Killed while building, keeping, sending and settling: each document arrives as one object."""
    strace = require_program("strace")
    node.start("infer")
    wait_for(lambda: node.worklist.views.counts()["documents"]["due"] >= 1, 60, node.log())
    process = node.start("deliver", wrapper=killing(strace, calls, number))
    assert killed(process), node.log()
    rows = finish(node, positive, "deliver")
    assert_exactly_one_report(pacs, rows)
