"""The real roles: a client asks the node for its list, takes a study up, and hears of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import Node, wait_for
from tests.query_kit import PULL, Subscriber, act, client, find
from tests.scanner import ct, scanner, send

GLOBAL = "1.2.840.10008.5.1.4.34.5"
QUERY = """
[query]
enabled = true
calling_ae_titles = ["READER"]
networks = ["127.0.0.1/32"]
[[subscribers]]
name = "watcher"
ae_title = "WATCHER"
host = "127.0.0.1"
port = {port}
"""


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    """Somebody who wants to know."""
    with Subscriber() as found:
        yield found


@pytest.fixture
def node(tmp_path: Path, subscriber: Subscriber) -> Iterator[Node]:
    """A node that publishes its list to this machine."""
    node = Node(tmp_path)
    with node.config.open("a") as config:
        config.write(QUERY.format(port=subscriber.port))
    yield node
    node.stop()


def test_a_worklist_client_works_from_the_list(node: Node, subscriber: Subscriber) -> None:
    """Receiver and deliverer as the processes that they are."""
    node.start("deliver")
    port = node.start_receiver()
    node.ready("deliver")
    with client(port, calling="READER") as reader:
        assert act(reader, GLOBAL, 3, ReceivingAE="WATCHER", DeletionLock="FALSE") == 0
        with scanner(port) as association:
            assert send(association, ct()) == 0
        wait_for(lambda: node.worklist.views.reading_list(), what="the study")
        (task,), status, _ = find(
            reader, PULL, ProcedureStepState="SCHEDULED", SOPInstanceUID="", PatientName=""
        )
        assert (status, str(task.PatientName)) == (0, "Secret^Name")
        uid = str(task.SOPInstanceUID)
        taken = {"ProcedureStepState": "IN PROGRESS", "TransactionUID": "1.2.3"}
        assert act(reader, uid, 1, **taken) == 0
        assert find(reader, PULL, ProcedureStepState="SCHEDULED")[0] == []
    subscriber.wait(2)
    assert {of for of, _, _ in subscriber.events} == {uid}
    assert subscriber.events[-1][2].ProcedureStepState == "IN PROGRESS"
    assert "Secret" not in node.log()
    listed = node.call("outputs", "list").stdout
    assert "UPS events" in listed
