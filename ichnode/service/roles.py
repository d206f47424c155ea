"""What each role of a node is made of, how it starts, and in which order it stops.

Torch is imported by the infer role alone.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from ichnode import __version__
from ichnode.domain.errors import ConfigurationError, IchnodeError, Transient
from ichnode.logs import configure_logging
from ichnode.service import orphans, systemd
from ichnode.service.assembly import Door, open_worklist, policy_of
from ichnode.service.loop import StageLoop
from ichnode.service.siblings import Siblings
from ichnode.service.stopping import Stopping
from ichnode.service.supervisor import LISTEN, OPTIONAL_ROLES, ROLES, STOP_S, Supervisor
from ichnode.settings import Settings
from ichnode.spool import make_folder
from ichnode.worklist.worklist import Worklist

log = structlog.get_logger(__name__)

HEARTBEAT_S = 10.0
HANG_S = 600.0  # a loop that is silent for so long hangs: the watchdog is no longer fed
RETRAIN_LOOK_S = 60.0  # how often housekeeping looks whether a retraining is due
WATCH_EVERY_S = 3600.0  # how often it compares a new model with the one before
LOOK_S = 1.0  # how often the receiver is asked whether all of it runs


class ReceiverBroken(IchnodeError):
    """A thread of the receiver has ended by itself."""


def run_node(settings: Settings, arguments: Sequence[str]) -> int:
    """Run every role under the supervisor; return the exit code.

    Parameters
    ----------
    settings : Settings
        The node's.
    arguments : sequence of str
        The global options by which the roles find the same settings.
    """
    _configure(settings, "node")
    open_worklist(settings).close()  # refuse a wrong schema here, once, in one sentence
    return Supervisor(arguments, stopping=Stopping().listen(), roles=roles_of(settings)).run()


def roles_of(settings: Settings) -> tuple[str, ...]:
    """Return the roles of a node, the optional ones where they are switched on."""
    return (*((LISTEN,) if settings.hl7_listen.enabled else ()), *ROLES)


def run_role(role: str, settings: Settings, arguments: Sequence[str] = ()) -> int:
    """Run one role until it is asked to stop, or its supervisor is gone; return the exit code.

    Parameters
    ----------
    arguments : sequence of str
        The global options by which a process that this role starts finds the same settings.

    Raises
    ------
    ConfigurationError
        When there is no such role.
    """
    runners = _RUN | {"housekeep": partial(_run_housekeep, arguments=arguments)}
    if role not in runners:
        known = ", ".join((*ROLES, *OPTIONAL_ROLES))
        raise ConfigurationError(f"There is no role {role!r}. The roles are {known}.")
    _configure(settings, role)
    stopping = Stopping().listen()
    orphans.die_with_supervisor()
    make_folder(settings.node.spool)
    runners[role](settings, stopping)
    log.info("role.stopped", role=role)
    return 0


def _configure(settings: Settings, role: str) -> None:
    configure_logging(
        level=settings.logs.level,
        style=settings.logs.style,
        context={"role": role, "host": settings.node.host_id},
    )


def _owner(role: str, settings: Settings) -> str:
    return f"{role}@{settings.node.host_id}:{os.getpid()}"


class Presence:
    """Tells the worklist, and whoever started us, that this role is alive."""

    def __init__(
        self,
        role: str,
        settings: Settings,
        worklist: Worklist,
        stopping: Stopping,
        *,
        detail: dict[str, Any] | None = None,
        alive: Callable[[], bool] = lambda: True,
        failing: Callable[[], Sequence[str]] = tuple,
        warnings: Callable[[], Sequence[str]] = tuple,
        news: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._role, self._host, self._worklist = role, settings.node.host_id, worklist
        self._stop, self._detail, self._alive = stopping.event, detail or {}, alive
        self._failing, self._warnings, self._news = failing, warnings, news

    def begin(self) -> None:
        """Announce readiness and keep beating until the stop."""
        self._beat()
        orphans.end_at_last(self._stop, STOP_S)
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()
        systemd.watch(self._alive, self._stop)
        systemd.notify(systemd.READY)
        log.info("role.ready", role=self._role, version=__version__)

    def _run(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            self._beat()

    def _beat(self) -> None:
        news = {"failing": list(self._failing()), "warnings": list(self._warnings())}
        news |= self._news()
        detail = self._detail | {name: found for name, found in news.items() if found}
        try:
            self._worklist.beat(self._role, self._host, os.getpid(), detail)
        except Transient:
            log.warning("heartbeat.missed")


def _run_loops(
    role: str,
    loops: Sequence[StageLoop[Any, Any]],
    settings: Settings,
    worklist: Worklist,
    stopping: Stopping,
    beside: Sequence[StageLoop[Any, Any]] = (),
    *,
    warnings: Callable[[], Sequence[str]] = tuple,
    news: Callable[[], dict[str, Any]] = dict,
) -> None:
    """Run loops side by side; a loop that dies takes the process with it.

    Those `beside` them may die or hang without disturbing the others; of one that died the
    heartbeat tells, and of what `warnings` and `news` say at that moment.
    """
    broken: list[BaseException] = []
    died: list[str] = []

    def work(loop: StageLoop[Any, Any]) -> None:
        try:
            loop.run()
        except BaseException as error:  # logged here, or handed to the main thread below
            if loop in beside:
                log.error("loop.died", stage=loop.name, exc_info=error)
                died.append(loop.name)
                return
            broken.append(error)
            stopping.event.set()

    threads = [
        threading.Thread(target=work, args=(loop,), name=loop.name) for loop in (*loops, *beside)
    ]
    for thread in threads:
        thread.start()
    alive = lambda: all(loop.silent_s < HANG_S for loop in loops)  # noqa: E731
    Presence(
        role,
        settings,
        worklist,
        stopping,
        alive=alive,
        failing=lambda: tuple(died),
        warnings=warnings,
        news=news,
    ).begin()
    stopping.wait()
    systemd.notify(systemd.STOPPING)
    for thread in threads:
        thread.join()
    if broken:
        raise broken[0]


def _loop(
    name: str,
    queue: Any,
    stage: Any,
    settings: Settings,
    stopping: Stopping,
    worklist: Worklist,
) -> StageLoop[Any, Any]:
    return StageLoop(
        name,
        queue,
        stage,
        owner=_owner(name, settings),
        stop=stopping.event,
        lease=timedelta(seconds=settings.queue.lease_s),
        poll_s=settings.queue.poll_s,
        wakeup=worklist.wakeup(),
    )


def _run_receive(settings: Settings, stopping: Stopping) -> None:
    """Run the receiving processes of this host; they share one listening socket."""
    from ichnode.receive.scp import open_listener

    open_worklist(settings).close()
    listener = open_listener(settings.receive)
    siblings = Siblings(stopping)
    for number in range(1, settings.receive.processes):
        # Forked before there are connections or journals: nothing is shared but the door.
        siblings.fork(partial(_receive, settings, stopping, listener, number))
    siblings.start()
    try:
        _receive(settings, stopping, listener, 0)
    finally:
        siblings.join()


def _receive(settings: Settings, stopping: Stopping, listener: socket.socket, number: int) -> None:
    """Run one receiving process."""
    from ichnode.receive.scp import Receiver
    from ichnode.service.querying import query_services

    with closing(open_worklist(settings)) as worklist:
        door = Door(worklist)
        receiver = Receiver(
            settings.node,
            settings.receive,
            door,
            listener=listener,
            number=number,
            committed=door.committed if policy_of(settings).committing else None,
            services=query_services(settings, worklist),
        )
        receiver.start()
        role = f"receive-{number}" if number else "receive"
        Presence(
            role,
            settings,
            worklist,
            stopping,
            detail={"port": receiver.port, "ae_title": settings.receive.ae_title},
            alive=lambda: receiver.is_alive,
            news=receiver.counts,
        ).begin()
        broken = _breaks(stopping, lambda: receiver.is_alive)
        systemd.notify(systemd.STOPPING)
        receiver.stop()
        if broken:
            raise ReceiverBroken("A part of the receiver ended by itself.")


def _breaks(stopping: Stopping, alive: Callable[[], bool]) -> bool:
    """Wait for the stop, and say whether a part ended by itself before it."""
    while not stopping.is_wished(LOOK_S):
        if not alive():
            return True
    return False


def _run_infer(settings: Settings, stopping: Stopping) -> None:
    from ichnode.infer.stage import InferStage
    from ichnode.service.shadowing import shadow_loop

    stage = InferStage(
        settings.infer.models,
        settings.node.spool,
        device=settings.infer.device,
        threads=settings.infer.threads,
    )
    with closing(open_worklist(settings)) as worklist:
        loop = _loop("infer", worklist.analyses, stage, settings, stopping, worklist)
        shadow = shadow_loop(settings, worklist, _owner("shadow", settings), stopping.event)
        _run_loops(
            "infer",
            [loop],
            settings,
            worklist,
            stopping,
            [shadow],
            warnings=stage.warnings,
            news=stage.news,
        )


def _run_deliver(settings: Settings, stopping: Stopping) -> None:
    from ichnode.report.rehearsal import rehearse
    from ichnode.report.stage import ReportStage
    from ichnode.send.stage import SendStage
    from ichnode.service.querying import notifying

    rehearse(settings.report)
    report = ReportStage(settings.node.spool, settings.report)
    send = SendStage(
        settings.node.spool,
        settings.outputs,
        settings.send,
        calling_ae=settings.receive.ae_title,
    )
    with closing(open_worklist(settings)) as worklist:
        loops = [_loop("report", worklist.documents, report, settings, stopping, worklist)]
        for destination in settings.outputs:
            if not destination.takes:
                continue  # a subscriber, see below
            # One loop each: a peer that answers slowly holds up nobody but itself.
            outbox = worklist.outbox(_all_but(destination.name, settings, send.shut))
            loops.append(_loop("send", outbox, send, settings, stopping, worklist))
        notifiers = [
            _loop("notify", queue, stage, settings, stopping, worklist)
            for queue, stage in notifying(settings, worklist)
        ]
        _run_loops("deliver", loops, settings, worklist, stopping, beside=notifiers)


def _all_but(
    name: str, settings: Settings, shut: Callable[[], frozenset[str]]
) -> Callable[[], frozenset[str]]:
    """Return what names every destination but one, and that one too while it is shut."""
    others = frozenset(d.name for d in settings.outputs) - {name}
    return lambda: others | shut()


def _run_listen(settings: Settings, stopping: Stopping) -> None:
    from ichnode.listen.answering import Answering
    from ichnode.listen.server import Listener

    if not settings.hl7_listen.enabled:
        raise ConfigurationError("hl7_listen.enabled is false: there is nothing to listen for.")
    with closing(open_worklist(settings)) as worklist:
        answering = Answering(worklist.orders, settings.hl7_listen.unknown)
        listener = Listener(settings.hl7_listen, answering.answer)
        listener.start()
        Presence(
            LISTEN,
            settings,
            worklist,
            stopping,
            detail={"port": listener.port},
            alive=lambda: listener.is_alive,
            news=lambda: answering.counts() | listener.counts(),
        ).begin()
        broken = _breaks(stopping, lambda: listener.is_alive)
        systemd.notify(systemd.STOPPING)
        listener.stop()
        if broken:
            raise ReceiverBroken("The listener for HL7 messages ended by itself.")


def _run_web(settings: Settings, stopping: Stopping) -> None:
    from ichnode.service.webpage import make_server

    with closing(open_worklist(settings)) as worklist:
        server = make_server(settings, worklist)
        detail = {"port": server.start()}
        Presence(
            "web", settings, worklist, stopping, detail=detail, alive=lambda: server.alive
        ).begin()
        stopping.wait()
        systemd.notify(systemd.STOPPING)
        server.stop()


def _run_housekeep(settings: Settings, stopping: Stopping, arguments: Sequence[str]) -> None:
    from ichnode.service.committing import LOOK_S as COMMIT_LOOK_S
    from ichnode.service.committing import Committing
    from ichnode.service.housekeeping import Housekeeping
    from ichnode.service.reconciling import Reconciliation
    from ichnode.service.retrain_schedule import RetrainSchedule
    from ichnode.service.watching import Watch

    with closing(open_worklist(settings)) as worklist:
        schedule, watch = RetrainSchedule(settings, worklist, arguments), Watch(settings, worklist)
        others: list[tuple[timedelta, Callable[[], object]]] = [
            (timedelta(seconds=RETRAIN_LOOK_S), schedule.retrain),
            (timedelta(seconds=WATCH_EVERY_S), watch.watch),
        ]
        if every := settings.reconcile.every_minutes:
            reconciliation = Reconciliation(settings, worklist, stopped=stopping.event.is_set)
            others.append((timedelta(minutes=every), reconciliation.reconcile))
        if policy_of(settings).committing:
            committing = Committing(settings, worklist, stopped=stopping.event.is_set)
            others.append((timedelta(seconds=COMMIT_LOOK_S), committing.commit))
        keeper = Housekeeping(
            worklist,
            settings.node.spool,
            settings.housekeep,
            settings.receive.reserve_bytes,
            others=others,
        )
        keeper.start()
        Presence(
            "housekeep",
            settings,
            worklist,
            stopping,
            failing=keeper.failing,
            warnings=watch.warnings,
        ).begin()
        stopping.wait()
        systemd.notify(systemd.STOPPING)
        keeper.stop()


_RUN: dict[str, Callable[[Settings, Stopping], None]] = {
    LISTEN: _run_listen,
    "receive": _run_receive,
    "infer": _run_infer,
    "deliver": _run_deliver,
    "web": _run_web,
}
