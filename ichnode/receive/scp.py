"""The Storage SCP: the lobby, the associations, the journal and the recorder as one thing.

``start`` returns when the receiver *answers*: it has sent itself a C-ECHO. ``stop`` closes the
door first and lets those who are inside finish, because pynetdicom's own shutdown aborts transfers
that are under way.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity

from ichnode.domain.clock import Clock, SystemClock
from ichnode.domain.commitment import CommitmentReport
from ichnode.domain.errors import ConfigurationError, OutOfSpace, PeerFailure
from ichnode.domain.ids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from ichnode.domain.tasks import Answer
from ichnode.imaging.commitment import read_report
from ichnode.receive.admission import (
    NOT_FROM_HERE,
    VERIFICATION,
    Admission,
    Application,
    plain_address,
)
from ichnode.receive.budget import Budget, sensible_budget_bytes
from ichnode.receive.commands import StoreRequest
from ichnode.receive.intake import CANNOT_UNDERSTAND, Caller, Intake, Parcel
from ichnode.receive.journal import SEGMENT_BYTES, Journal
from ichnode.receive.lobby import Lobby
from ichnode.receive.provider import MAX_PDU_BYTES
from ichnode.receive.questions import Questions, Services, acceptable
from ichnode.receive.recorder import Recorder, Recording
from ichnode.receive.transport import LINGER_S, ScannerAssociation
from ichnode.settings import NodeSettings, ReceiveSettings

log = structlog.get_logger(__name__)

INVALID_ARGUMENT = 0x0115
ECHO_S = 10.0
FLUSH_S = 10.0
_BACKLOG = 128
_LINGERING = 64


Committed = Callable[[CommitmentReport], bool]
"""Takes in what a peer reports about storage commitment; False when it was not asked."""


@dataclass(slots=True)
class _Visit:
    """One admitted association."""

    association: ScannerAssociation
    application: Application
    caller: Caller
    started: float
    stored: int = 0
    refused: int = 0
    asked: int = 0
    bytes_stored: int = 0


def open_listener(settings: ReceiveSettings) -> socket.socket:
    """Return a socket that listens where the settings say; several processes may share it.

    Raises
    ------
    ConfigurationError
        When the address or port cannot be used.
    """
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.bind, settings.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"Port {settings.port} on {settings.bind} cannot be listened on: {error.strerror}. "
            "Set receive.bind and receive.port."
        ) from None
    return listener


class Receiver:
    """One receiving process.

    Parameters
    ----------
    node : NodeSettings
        The spool and this host's name.
    settings : ReceiveSettings
        The door.
    recording : Recording
        The worklist.
    listener : socket.socket, optional
        A listening socket shared with other processes, see `open_listener`; by default its own.
    number : int
        Which of several receiving processes of this host this is; each has its own journal.
    clock : Clock
        For arrival times.
    services : Services, optional
        What else is answered here.
    segment_bytes : int
        The size of a journal segment.
    budget_bytes : int, optional
        The memory for objects that are being received, over all associations; by default 2 GiB or
        a quarter of the machine's, shared with the other processes.
    committed : callable, optional
        Takes in what a peer reports about storage commitment; where it is left out no peer may.

    Examples
    --------
    >>> receiver = Receiver(settings.node, settings.receive, worklist)  # doctest: +SKIP
    >>> receiver.start()  # doctest: +SKIP
    >>> receiver.stop()  # doctest: +SKIP

    Raises
    ------
    ConfigurationError
        When another process uses the journal, or the port cannot be listened on.
    OutOfSpace
        When there is no room for the journal.
    """

    def __init__(
        self,
        node: NodeSettings,
        settings: ReceiveSettings,
        recording: Recording,
        *,
        listener: socket.socket | None = None,
        number: int = 0,
        clock: Clock | None = None,
        services: Services | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        budget_bytes: int | None = None,
        committed: Committed | None = None,
    ) -> None:
        self._committed = committed
        self._settings = settings
        self._shared = listener is not None
        # A dot cannot be in a host_id: no host can be mistaken for a process of another.
        name = f"{node.host_id}.{number}" if number else node.host_id
        self._incoming, self._host_id, self._number = node.spool / "incoming", node.host_id, number
        self._journal = Journal(
            self._incoming / name,
            segment_bytes=segment_bytes,
            room=lambda: self._intake.room_bytes(),
        )
        try:
            self._listener = listener or open_listener(settings)
        except ConfigurationError:
            self._journal.close()
            raise
        self._port = int(self._listener.getsockname()[1])
        self._recorder = Recorder(node.spool, self._journal, recording)
        self._clock = clock or SystemClock()
        self._intake = Intake(node.spool, settings, self._journal, self._recorder, self._clock)
        self._questions = Questions(
            services, self._intake.refuse, lambda: self._recorder.backlog > 0
        )
        self._admission = Admission(
            settings, self._intake.check_room, self._questions.max_associations
        )
        self.max_instance_bytes = settings.max_instance_bytes
        self.budget = Budget(budget_bytes or sensible_budget_bytes(settings.processes))
        self.lingering: threading.Semaphore = threading.BoundedSemaphore(_LINGERING)
        self._entity = ApplicationEntity(settings.ae_title)
        self._entity.maximum_pdu_size = MAX_PDU_BYTES
        self._entity.maximum_associations = 1 << 20  # Admission counts, see there
        self._entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._lobby = Lobby(
            self._listener,
            self._begin,
            handshake_s=settings.handshake_s,
            busy=(lambda: self._admission.inside) if self._shared else None,
            welcome=self._welcome,
            tend=self._intake.tend,
        )
        self._visits: dict[ScannerAssociation, _Visit] = {}
        self._left = threading.Condition()
        self._stopped = False

    # ------------------------------------------------------------------ start and stop

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port

    @property
    def is_alive(self) -> bool:
        """Whether everything that has to run runs."""
        return self._lobby.is_alive and self._recorder.is_alive

    @property
    def backlog(self) -> int:
        """Instances that are acknowledged and not yet recorded."""
        return self._recorder.backlog

    def counts(self) -> dict[str, float]:
        """Return the backlog, and for how many seconds the oldest instance has been in it."""
        since = self._recorder.backlog_since
        age_s = 0.0 if since is None else (self._clock.now() - since).total_seconds()
        return {"backlog": self.backlog, "backlog_oldest_s": max(round(age_s, 1), 0.0)}

    def start(self) -> None:
        """Replay what an earlier process left, open the door, and return when it answers.

        Raises
        ------
        PeerFailure
            When no C-ECHO was answered.
        """
        replayed = self._intake.recover() + self._adopt()
        try:
            self._journal.tend()
        except OutOfSpace:  # then senders are told so, and what is acknowledged gets recorded
            log.error("journal.without_spares")
        self._recorder.start()
        self._lobby.start()
        try:
            self._echo()
        except PeerFailure:
            self.stop(0)
            raise
        log.info("receiver.started", port=self._port, replayed=replayed)

    def stop(self, deadline_s: float | None = None) -> bool:
        """Close the door, let live associations finish, abort the rest, record everything.

        Parameters
        ----------
        deadline_s : float, optional
            How long to wait for live associations; `ReceiveSettings.drain_s` by default.

        Returns
        -------
        bool
            True when nothing was aborted and nothing is left to be replayed.
        """
        if self._stopped:
            return True
        self._stopped = True
        self._admission.close()
        self._lobby.close()
        everybody_left = self._await_empty(
            self._settings.drain_s if deadline_s is None else deadline_s
        )
        if not everybody_left:
            with self._left:
                stragglers = list(self._visits)
            log.warning("associations.aborted", count=len(stragglers))
            for association in stragglers:
                association.hurry()
            self._await_empty(LINGER_S)
        self._intake.close()
        flushed = self._recorder.stop(FLUSH_S)
        self._journal.close()
        log.info("receiver.stopped", backlog=self._recorder.backlog)
        return everybody_left and flushed

    def _adopt(self) -> int:
        """Take over the journals of processes that are no more, after receive.processes shrank."""
        adopted = 0
        if self._number == 0:
            for folder in sorted(self._incoming.glob(f"{self._host_id}.*")):
                number = folder.name.removeprefix(f"{self._host_id}.")
                if number.isdigit() and int(number) >= self._settings.processes:
                    adopted += self._intake.adopt(folder)
        return adopted

    def _await_empty(self, deadline_s: float) -> bool:
        with self._left:
            return self._left.wait_for(lambda: not self._visits, timeout=deadline_s)

    def _echo(self) -> None:
        """Send ourselves a C-ECHO."""
        host = self._settings.bind
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        entity = ApplicationEntity(self._settings.ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.connection_timeout = ECHO_S
        entity.add_requested_context(VERIFICATION)
        association = entity.associate(host, self._port, ae_title=self._settings.ae_title)
        answer = association.send_c_echo() if association.is_established else None
        if answer is None or "Status" not in answer or answer.Status != 0:
            raise PeerFailure("The receiver does not answer its own C-ECHO.")
        association.release()

    # ------------------------------------------------------------------ associations

    def _welcome(self, address: str, local_address: str) -> bool:
        """Judge a connection before it asks; one from elsewhere costs no thread and no decoding."""
        peer = plain_address(address)
        if self._admission.is_welcome(peer, plain_address(local_address)):
            return True
        self._intake.refuse(Caller(secrets.token_hex(8), "", "", peer), 0, NOT_FROM_HERE)
        return False

    def _begin(self, connection: socket.socket, request: bytes, judged: Callable[[], None]) -> None:
        try:
            association = ScannerAssociation(
                self._entity, self, connection, request, judged, idle_s=self._settings.idle_s
            )
            association.start()
        except Exception as error:  # noqa: BLE001 - the peer is gone, or there are no more threads
            log.warning("association.not_begun", error=type(error).__name__)
            judged()
            with contextlib.suppress(OSError):
                connection.close()

    def admit(self, association: ScannerAssociation) -> bool:
        """Judge an application; where the answer is False it has been rejected."""
        asked = association.requestor.primitive
        contexts = asked.presentation_context_definition_list or []
        address = plain_address(association.requestor.address_info.address)
        application = Application(
            calling_ae=str(asked.calling_ae_title),
            called_ae=str(asked.called_ae_title),
            address=address,
            local_address=plain_address(association.acceptor.address_info.address),
            abstract_syntaxes=frozenset(str(context.abstract_syntax) for context in contexts),
        )
        caller = Caller(
            secrets.token_hex(8),
            application.calling_ae.strip(),
            application.called_ae.strip(),
            address,
        )
        application = self._questions.noted(application, caller)
        rejection = self._admission.enter(application)
        if rejection is not None:
            self._intake.refuse(caller, 0, rejection.sentence)
            association.acse.send_reject(rejection.result, rejection.source, rejection.reason)
            return False
        with self._left:
            self._visits[association] = _Visit(association, application, caller, time.monotonic())
        reports = self._committed is not None
        if reports:
            association.bind(evt.EVT_N_EVENT_REPORT, self._on_report)
        association.offer(acceptable(contexts, application.questions, reports=reports))
        return True

    def answer(
        self,
        association: ScannerAssociation,
        request: Any,
        context: Any,
        is_canceled: Callable[[], bool],
    ) -> Iterator[Answer] | None:
        """Answer a request of a service that is not ours; None for one that is."""
        visit = self._visits[association]
        visit.asked += 1
        return self._questions.answer(
            visit.application, visit.caller, request, context, is_canceled
        )

    def store(self, association: ScannerAssociation, request: StoreRequest, context: Any) -> int:
        """Keep an object; return the status for its sender."""
        visit = self._visits[association]
        if not request.is_complete:
            sentence = "The C-STORE request lacks a UID or its data set."
            visit.refused += 1
            return self._intake.refuse(visit.caller, CANNOT_UNDERSTAND, sentence)
        content = request.content.getvalue()  # no copy: the buffer itself
        parcel = Parcel(
            context_class_uid=str(context.abstract_syntax),
            transfer_syntax_uid=str(context.transfer_syntax[0]),
            sop_class_uid=request.sop_class_uid,
            sop_uid=request.sop_uid,
            content=content,
            too_large=request.too_large,
            is_crowded=request.is_crowded,
        )
        status = self._intake.store(visit.caller, parcel)
        if status == 0:
            visit.stored += 1
            visit.bytes_stored += len(content)
        else:
            visit.refused += 1
        return status

    def _on_report(self, event: Any) -> tuple[int, None]:
        """Take in a report about storage commitment: the peer opens an association for it."""
        try:
            report = read_report(event.event_type, event.event_information)
        except Exception as error:  # noqa: BLE001 - garbage fails in pydicom in many ways
            log.warning("commitment.unreadable", error=type(error).__name__)
            return INVALID_ARGUMENT, None
        if report is None or self._committed is None or not self._committed(report):
            log.warning("commitment.unknown")
            return INVALID_ARGUMENT, None
        log.info("commitment.reported", kept=len(report.kept), lost=len(report.lost))
        return 0x0000, None

    def released(self, association: ScannerAssociation) -> None:
        """Pass the hint on that the series of this association may be complete."""
        self._recorder.released(self._visits[association].caller.association_id)

    def ended(self, association: ScannerAssociation, manner: str) -> None:
        """Count an association out and log its one line."""
        with self._left:
            visit = self._visits.pop(association)
            self._left.notify_all()
        self._admission.leave(visit.application)
        log.info(
            "association.ended",
            association=visit.caller.association_id,
            peer=visit.caller.address,
            calling_ae=visit.caller.calling_ae,
            outcome=manner,
            instances=visit.stored,
            items=visit.asked,
            failed=visit.refused,
            bytes=visit.bytes_stored,
            duration_s=round(time.monotonic() - visit.started, 3),
        )
