"""Every role of a node, each in its own process: a CUDA crash must not stop reception.

The supervisor speaks the systemd protocol to its children as systemd would (each gets a
NOTIFY_SOCKET of its own), so that a role behaves the same under `ichnode run` and as a unit. A role
that dies is started again with back-off; its leases run out by themselves. The order of stopping is
the order of the corridor, so that what was accepted still gets as far as it can.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import structlog

from ichnode.domain.retry import RetryPolicy
from ichnode.service import orphans, systemd
from ichnode.service.stopping import Stopping

log = structlog.get_logger(__name__)

ROLES = ("receive", "infer", "deliver", "web", "housekeep")
"""In the order of the corridor; they are stopped in this order."""

LISTEN = "listen"
OPTIONAL_ROLES = (LISTEN,)
"""Those that a node has where they are switched on."""

RESTART = RetryPolicy(first=timedelta(seconds=1), longest=timedelta(seconds=60), attempts=None)
START_S = 300.0  # a child that is not ready by then is killed and started again
WATCHDOG_S = 60.0  # a child that has not reported life for so long is killed and started again
STOP_S = 60.0  # how long one role may take to stop before it is killed


@dataclass
class Child:
    """One role's process, as the supervisor sees it."""

    role: str
    socket: socket.socket
    address: str
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    deaths: int = 0
    start_at: float = 0.0  # monotonic: not before
    started_at: float = 0.0  # monotonic
    heard_at: float = field(default_factory=time.monotonic)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal, if it is there."""
        if self.process is not None:
            self.process.send_signal(number)


class Supervisor:
    """Starts, watches and stops the roles.

    Parameters
    ----------
    arguments : sequence of str
        What follows the program for every child, before ``run ROLE``: the global options.
    roles : sequence of str
        Which roles, in the order in which they are stopped.
    environment : mapping of str to str
        What the children find in theirs.
    program : sequence of str
        How a child is started.
    start_s : float
        A child that is not ready so long after its start is killed and started again.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        stopping: Stopping,
        roles: Sequence[str] = ROLES,
        environment: Mapping[str, str] = os.environ,
        program: Sequence[str] = (sys.executable, "-m", "ichnode"),
        start_s: float = START_S,
    ) -> None:
        self._arguments, self._stopping, self._environment = arguments, stopping, environment
        self._program, self._start_s = program, start_s
        self._folder = tempfile.TemporaryDirectory(prefix="ichnode-")
        self._selector = selectors.DefaultSelector()
        self._children = [self._listen(role) for role in roles]
        self._announced = False

    def run(self) -> int:
        """Supervise until asked to stop; return the exit code."""
        try:
            while not self._stopping.is_wished():
                for child in self._children:
                    self._tend(child)
                self._hear(timeout_s=0.2)
                self._announce()
            return self._stop()
        finally:
            self._selector.close()
            for child in self._children:
                child.socket.close()
            self._folder.cleanup()

    def _listen(self, role: str) -> Child:
        address = str(Path(self._folder.name) / role)
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        channel.setblocking(False)
        channel.bind(address)
        child = Child(role, channel, address)
        self._selector.register(channel, selectors.EVENT_READ, child)
        return child

    def _tend(self, child: Child) -> None:
        now = time.monotonic()
        if child.running:
            silent_s = now - (child.heard_at if child.ready else child.started_at)
            if silent_s > (WATCHDOG_S if child.ready else self._start_s):
                log.error("role.silent", role=child.role, seconds=round(silent_s))
                child.signal(signal.SIGKILL)
            return
        if child.process is not None:
            self._mourn(child, child.process.returncode)
        if child.process is None and now >= child.start_at:
            self._start(child)

    def _start(self, child: Child) -> None:
        environment = dict(self._environment) | {
            "NOTIFY_SOCKET": child.address,
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6 / 2)),
            orphans.SUPERVISOR_VARIABLE: str(os.getpid()),
        }
        command = [*self._program, *self._arguments, "run", child.role]
        # A group of its own: Ctrl-C reaches the supervisor alone, which stops them in order.
        child.process = subprocess.Popen(command, env=environment, start_new_session=True)
        child.ready, child.started_at = False, time.monotonic()
        log.info("role.started", role=child.role, pid=child.process.pid)

    def _mourn(self, child: Child, code: int) -> None:
        child.deaths += 1
        wait_s = RESTART.wait(child.deaths).total_seconds()
        child.process, child.start_at = None, time.monotonic() + wait_s
        log.error("role.died", role=child.role, exit_code=code, wait_s=round(wait_s, 1))

    def _hear(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            child: Child = key.data
            with contextlib.suppress(BlockingIOError):
                message = child.socket.recv(4096).decode(errors="replace")
                child.heard_at = time.monotonic()
                if systemd.READY in message:
                    child.ready, child.deaths = True, 0
                    log.info("role.ready", role=child.role)

    def _announce(self) -> None:
        if not self._announced and all(child.ready for child in self._children):
            self._announced = True
            systemd.notify(systemd.READY)
            log.info("node.ready", count=len(self._children))
        if self._announced:
            systemd.notify(systemd.WATCHDOG)

    def _stop(self) -> int:
        systemd.notify(systemd.STOPPING)
        log.info("node.stopping")
        code = max((self._end(child) for child in self._children), default=0)
        log.info("node.stopped", exit_code=code)
        return code

    def _end(self, child: Child) -> int:
        """Stop one role and return its exit code."""
        if child.process is None:
            return 0
        child.signal(signal.SIGTERM)
        try:
            code = child.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            log.error("role.killed", role=child.role, seconds=STOP_S)
            child.process.kill()
            child.process.wait()
            return 1
        log.info("role.ended", role=child.role, exit_code=code)
        # One that was still starting had not yet learnt to stop in order.
        return 0 if code == -signal.SIGTERM and not child.ready else abs(code)
