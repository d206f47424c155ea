"""The loop, the lease keeper, the stop and the notifications, each by itself."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from ichnode.domain.errors import ModelUnusable, NotAnalysable, PeerFailure, WorklistDown
from ichnode.domain.reasons import Reason
from ichnode.domain.work import DocumentWork, Failed, Lease
from ichnode.service import systemd
from ichnode.service.loop import StageLoop

DEADLINE_S = 10


def document_work(row_id: int = 1) -> DocumentWork:
    lease = Lease(row_id, f"token-{row_id}", 1, datetime.now(UTC) + timedelta(seconds=1))
    return DocumentWork(lease, "sr", "1.2", "1.3", "1.4", "1.5", "d", datetime.now(UTC), None, ())


class ListQueue:
    """A queue of the tests: hands out a list, keeps what is settled, can be down."""

    def __init__(self, works, *, down=0):
        self.works, self.settled, self.renewals, self.down = list(works), [], 0, down
        self.unsettled = 0
        self.changed = threading.Condition()

    def claim(self, owner):
        if self.down:
            self.down -= 1
            raise WorklistDown
        return self.works.pop(0) if self.works else None

    def renew(self, lease, for_):
        with self.changed:
            self.renewals += 1
            self.changed.notify_all()
        return True

    def settle(self, work, outcome):
        if self.unsettled:
            self.unsettled -= 1
            raise WorklistDown
        with self.changed:
            self.settled.append(outcome)
            self.changed.notify_all()
        return True


class Calling:
    """A stage that calls a function."""

    def __init__(self, function):
        self.handle = function


def run(queue, handle, until, *, lease_s=60.0):
    stop = threading.Event()
    loop = StageLoop(
        "report",
        queue,
        Calling(handle),
        owner="t",
        stop=stop,
        lease=timedelta(seconds=lease_s),
        poll_s=0.001,
    )
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        with queue.changed:
            assert queue.changed.wait_for(until, DEADLINE_S)
    finally:
        stop.set()
        thread.join(DEADLINE_S)
    assert not thread.is_alive()


def raising(error):
    def handle(_work):
        raise error

    return handle


@pytest.mark.parametrize(
    ("error", "transient", "text"),
    [
        (PeerFailure("The peer is silent."), True, "PeerFailure: The peer is silent."),
        (NotAnalysable(Reason.NOT_CT), False, "NotAnalysable: This is not a CT image series."),
        (ValueError("DOE^JANE"), True, "ValueError"),
    ],
)
def test_an_error_becomes_an_outcome_that_quotes_no_data_set(error, transient, text):
    """Known errors keep their sentence, strange ones only their name; the loop goes on."""
    queue = ListQueue([document_work()])
    run(queue, raising(error), lambda: queue.settled)
    assert queue.settled == [Failed(text, transient)]


def test_a_dead_database_is_waited_for_and_work_goes_on_afterwards():
    """The loop survives a worklist that does not answer."""
    queue = ListQueue([document_work()], down=3)
    run(queue, lambda _work: "done", lambda: queue.settled)
    assert queue.settled == ["done"]


def test_an_answer_outlives_a_database_that_is_down_when_it_is_settled():
    """The work is not done again: settling is repeated under the same lease."""
    queue, handled = ListQueue([document_work()]), []
    queue.unsettled = 2

    def handle(work):
        handled.append(work)
        return "done"

    run(queue, handle, lambda: queue.settled)
    assert (queue.settled, len(handled)) == (["done"], 1)


def test_long_work_keeps_its_lease():
    """While the stage works the lease is renewed from another thread."""
    queue = ListQueue([document_work()])
    renewed = threading.Event()

    def handle(_work):
        with queue.changed:
            assert queue.changed.wait_for(lambda: queue.renewals >= 2, DEADLINE_S)
        renewed.set()
        return "done"

    run(queue, handle, lambda: queue.settled, lease_s=0.05)
    assert renewed.is_set()


def test_a_fatal_error_ends_the_loop():
    """A model that cannot be used ends the process instead of failing every series."""
    queue = ListQueue([document_work()])
    loop = StageLoop(
        "report",
        queue,
        Calling(raising(ModelUnusable())),
        owner="t",
        stop=threading.Event(),
        lease=timedelta(seconds=1),
    )
    with pytest.raises(ModelUnusable):
        loop.run()
    assert queue.settled == []


def test_readiness_is_told_to_whoever_started_us(tmp_path, monkeypatch):
    """The message reaches the socket that NOTIFY_SOCKET names, and nothing happens without one."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.notify(systemd.READY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(DEADLINE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert systemd.notify(systemd.READY)
        assert listener.recv(100) == b"READY=1"


def test_the_watchdog_is_fed_only_while_everything_is_alive(tmp_path, monkeypatch):
    """Reports come while alive; when the question says no they cease."""
    alive, stop = threading.Event(), threading.Event()
    alive.set()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(DEADLINE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "20000")
        thread = systemd.watch(alive.is_set, stop)
        assert listener.recv(100) == b"WATCHDOG=1"
        alive.clear()
        listener.settimeout(0.5)
        with pytest.raises(TimeoutError):
            for _ in range(50):  # what was sent before it was asked again
                listener.recv(100)
        stop.set()
        thread.join(DEADLINE_S)


STOPPING = """
import os, signal, sys
from ichnode.service.stopping import Stopping
stopping = Stopping().listen()
print("up", flush=True)
stopping.wait()
print("asked", flush=True)
import threading
threading.Event().wait()
"""


def test_the_first_signal_asks_and_the_second_one_ends_at_once():
    """SIGTERM sets the flag; a second one does not wait for anybody."""
    process = subprocess.Popen([sys.executable, "-c", STOPPING], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    process.terminate()
    assert process.stdout.readline() == "asked\n"
    process.terminate()
    assert process.wait(DEADLINE_S) == 143
    process.stdout.close()


HURRIED = """
import os, random, signal, threading
from ichnode.service.stopping import Stopping
for _ in range(50):
    stopping = Stopping().listen()
    term = lambda: os.kill(os.getpid(), signal.SIGTERM)
    threading.Timer(random.random() / 100, term).start()
    while not stopping.event.wait(0):
        pass
"""


def test_a_signal_may_come_while_the_main_thread_holds_the_lock_of_the_event():
    """The handler does not wait for a lock that the thread that it interrupted holds."""
    subprocess.run([sys.executable, "-c", HURRIED], check=True, timeout=DEADLINE_S)


WITHOUT_THREADS = """
import os, resource, signal, threading
from ichnode.service.stopping import Stopping
stopping = Stopping().listen()
waiting = threading.Thread(target=stopping.event.wait)
waiting.start()
threading.stack_size(1 << 40)  # more than there may be: no thread can be started from now on
resource.setrlimit(resource.RLIMIT_AS, (1 << 39, 1 << 39))
try:
    threading.Thread(target=print).start()
except RuntimeError:
    print("no threads", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
stopping.wait()
waiting.join()
"""


def test_a_signal_is_heard_where_no_thread_is_to_be_had():
    """The main thread passes it on when it looks, to those who wait for the event."""
    command = [sys.executable, "-c", WITHOUT_THREADS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("no threads\n", "", 0)


FORKED = """
from ichnode.service.siblings import Siblings
from ichnode.service.stopping import Stopping
for _ in range(200):
    stopping = Stopping().listen()
    siblings = Siblings(stopping)
    siblings.fork(stopping.wait)
    stopping.event.set()
    siblings.start()
    siblings.join()
"""


def test_a_signal_may_come_while_a_process_is_forked():
    """The new one does not forget it, as one in fifty did, to wait for ever."""
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=3 * DEADLINE_S)
