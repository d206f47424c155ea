"""The whole node under its supervisor: a dead role comes back, and nobody is left behind."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from ichnode.domain.lifecycle import Delivery
from ichnode.phantom import Identity, simulate_head, write_series
from ichnode.phantom.studies import DEMONSTRATION_SEEDS
from ichnode.service.stopping import Stopping
from ichnode.service.supervisor import ROLES, Supervisor
from tests.models import write_model
from tests.node import Ended, Node, wait_for
from tests.pacs import Pacs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
SEED = DEMONSTRATION_SEEDS.start + 400


@pytest.fixture
def pacs():
    """A PACS that takes everything."""
    with Pacs() as peer:
        yield peer


@pytest.fixture
def node(tmp_path, pacs):
    """A node whose model finds blood everywhere, not yet started."""
    (tmp_path / "node").mkdir()
    node = Node(
        tmp_path / "node", destinations=[("pacs", pacs.ae_title, pacs.port, False)], final_s=1.0
    )
    write_model(tmp_path / "bundle", logit=6.0)
    node.use_model(tmp_path / "bundle")
    yield node
    node.stop()


def log_lines(node, event):
    """Return what the node logged of one kind, in order."""
    whole, _, _ = (node.folder / "node.log").read_text().rpartition("\n")
    lines = whole.splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    return [row for row in rows if row["event"] == event]


def pids(node):
    """Return the process of each role that started last."""
    return {row["role"]: row["pid"] for row in log_lines(node, "role.started")}


def is_there(pid):
    """Say whether a process runs (one that is dead and not yet collected does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def start(node):
    """Start the whole node and wait until every role is ready."""
    supervisor = node.start()
    try:
        wait_for(lambda: log_lines(node, "node.ready"), 60)
    except Ended:
        pytest.fail(f"the node did not start; {node.log()}")
    return supervisor


def scan(node, folder, number):
    """Send a study and return its UID."""
    who = Identity.simulated(SEED + number)
    head = simulate_head(SEED, bleeds=(), slices=24, size_px=128)
    write_series(head, folder / who.accession, identity=who)
    beats = {beat.pid: beat for beat in node.worklist.views.heartbeats()}
    port = beats[pids(node)["receive"]].detail["port"]
    node.call("send", str(folder / who.accession), f"ICHNODE@127.0.0.1:{port}")
    return who.study_uid


def delivered(node, study_uid):
    """Return the deliveries of a study when all of them are done."""
    story = node.worklist.views.study(study_uid)
    rows = story.deliveries if story else ()
    return rows if rows and all(row.state is Delivery.DELIVERED for row in rows) else ()


def test_a_killed_role_comes_back_and_the_node_stops_in_order(node, pacs, tmp_path):
    """After kill -9 of infer a study is analysed and delivered; SIGTERM ends all, with 0."""
    supervisor = start(node)
    before = pids(node)
    os.kill(before["infer"], signal.SIGKILL)
    wait_for(lambda: pids(node)["infer"] != before["infer"], 30, node.log())
    study_uid = scan(node, tmp_path, 1)
    kinds = {row.kind for row in wait_for(lambda: delivered(node, study_uid), 60, node.log())}
    assert kinds == {"sr", "sc"}
    assert len(pacs.kept) >= 2
    after = pids(node)
    assert {role for role in ROLES if after[role] != before[role]} == {"infer"}

    supervisor.terminate()
    assert supervisor.wait(60) == 0, node.log()
    assert [row["role"] for row in log_lines(node, "role.ended")] == list(ROLES)
    assert not any(map(is_there, after.values()))


def test_nobody_outlives_a_killed_supervisor(node):
    """After kill -9 of `ichnode run` every role ends by itself, and in order."""
    supervisor = start(node)
    roles = pids(node)
    assert set(roles) == set(ROLES)
    supervisor.kill()
    supervisor.wait()
    wait_for(lambda: not any(map(is_there, roles.values())), 30, f"{roles} to end; {node.log()}")
    assert {row["role"] for row in log_lines(node, "role.stopped")} == set(ROLES)


def children(pid):
    """Return the processes that a process has forked or started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def share_the_door(node, processes):
    """Have the node receive with so many processes."""
    text = node.config.read_text()
    node.config.write_text(text.replace("port = 0", f"port = 0\nprocesses = {processes}", 1))


def test_a_dead_receiving_process_ends_the_role(node):
    """With several processes the role ends with an error when one dies, and takes all along."""
    share_the_door(node, 3)
    first = node.start("receive")
    node.ready("receive", "receive-1", "receive-2")
    siblings = children(first.pid)
    assert len(siblings) == 2
    os.kill(siblings[0], signal.SIGKILL)
    assert first.wait(30) == 1, node.log()
    assert not any(map(is_there, siblings))
    node.processes.remove(first)


def test_receiving_processes_end_with_the_first(node):
    """After kill -9 of the first one none of the others is left."""
    share_the_door(node, 2)
    first = node.start("receive")
    node.ready("receive", "receive-1")
    siblings = children(first.pid)
    assert len(siblings) == 1
    first.kill()
    wait_for(lambda: not any(map(is_there, siblings)), 20, node.log())


HANGS = """
import pathlib, sys, threading
with pathlib.Path(sys.argv[1]).open("a") as file:
    file.write("started\\n")
threading.Event().wait()
"""


def test_a_role_that_never_gets_ready_is_killed_and_started_again(tmp_path):
    """Hanging before READY is noticed by the start limit."""
    starts = tmp_path / "starts"
    stopping = Stopping()
    supervisor = Supervisor(
        (), stopping=stopping, roles=("infer",), start_s=0.5,
        program=(sys.executable, "-c", HANGS, str(starts)),
    )  # fmt: skip
    codes = []
    thread = threading.Thread(target=lambda: codes.append(supervisor.run()))
    thread.start()
    try:
        wait_for(lambda: starts.exists() and starts.read_text().count("started") >= 2, 20)
    finally:
        stopping.event.set()
        thread.join(20)
    assert codes == [0]
