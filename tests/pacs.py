"""Scriptable peers on 127.0.0.1: a Storage SCP, a UPS SCP, and listeners that say nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, evt

SR_3D = "1.2.840.10008.5.1.4.1.1.88.34"
SR_COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.88.33"
SR_ENHANCED = "1.2.840.10008.5.1.4.1.1.88.22"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
PRESENTATION_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
DOCUMENT_CLASSES = (
    SR_3D,
    SR_COMPREHENSIVE,
    SR_ENHANCED,
    SECONDARY_CAPTURE,
    KEY_OBJECTS,
    PRESENTATION_STATE,
)
EXPLICIT_LE, IMPLICIT_LE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
UPS_PUSH, UPS_WATCH, UPS_PULL, UPS_QUERY = (
    f"1.2.840.10008.5.1.4.34.6.{number}" for number in (1, 2, 3, 5)
)
STOP_S = 10.0


class Act(Enum):
    """What a PACS may do instead of answering a C-STORE."""

    ABORT = "abort"  # A-ABORT, nothing kept
    STALL = "stall"  # no answer until the PACS is stopped, nothing kept
    KEEP_AND_CLOSE = "keep_and_close"  # kept, but the connection closes before the answer
    CLOSE = "close"  # the connection closes, nothing kept


@dataclass(frozen=True)
class Received:
    """One C-STORE that came in, whatever the answer was."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax_uid: str
    priority: int
    data_set: bytes
    kept: bool
    association: int  # the number of the association, from 1


class Peer:
    """A listening AE on a port that the system chooses; a context manager."""

    def __init__(self, ae_title: str = "PACS") -> None:
        self.ae_title = ae_title
        self.associations = 0  # that were asked for
        self.implementations: set[tuple[str, str]] = set()  # class UID and version name of each
        self._ae = AE(ae_title)
        self._ae.maximum_associations = 100
        self._ae.supported_contexts = []
        self._ae.add_supported_context(VERIFICATION)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._server: Any = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.socket.getsockname()[1])

    def _handlers(self) -> list[Any]:
        return [(evt.EVT_REQUESTED, self._on_requested)]

    def _on_requested(self, event: Any) -> None:
        requestor = event.assoc.requestor
        with self._lock:
            self.associations += 1
            self.implementations.add(
                (str(requestor.implementation_class_uid), requestor.implementation_version_name)
            )

    def __enter__(self) -> Any:
        self._server = self._ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=self._handlers()
        )
        return self

    def __exit__(self, *_: object) -> None:
        # The server looks every half second whether to end; a test need not wait for that.
        self._stopping.set()
        threading.Thread(target=self._server.shutdown, name="pacs-stop").start()

    def stop(self) -> None:
        """Stop, and return when nothing listens there any more."""
        self._stopping.set()
        self._server.shutdown()


class Pacs(Peer):
    """A Storage SCP that does what its script says.

    Parameters
    ----------
    accepts : sequence of str
        The storage classes that it takes.
    syntaxes : sequence of str
        The transfer syntaxes that it takes.
    script : sequence of int or Act
        What becomes of each C-STORE in turn: a status (kept when Success or Warning), or an `Act`.
        When the script has ended: Success.
    reject : int
        So many associations are rejected first.
    latency_s : float
        Each answer takes so long.
    """

    def __init__(
        self,
        accepts: Sequence[str] = (*DOCUMENT_CLASSES, CT_IMAGE),
        *,
        syntaxes: Sequence[str] = (EXPLICIT_LE, IMPLICIT_LE),
        script: Sequence[int | Act] = (),
        reject: int = 0,
        latency_s: float = 0.0,
        ae_title: str = "PACS",
    ) -> None:
        super().__init__(ae_title)
        for sop_class in accepts:
            self._ae.add_supported_context(sop_class, list(syntaxes))
        self.script: list[int | Act] = list(script)
        self.received: list[Received] = []
        self._reject, self._latency_s = reject, latency_s

    @property
    def kept(self) -> list[Received]:
        """What it has."""
        with self._lock:
            return [one for one in self.received if one.kept]

    def takes_no_more(self, sop_class_uid: str) -> None:
        """Refuse a class from the next association on, as after a change of its configuration."""
        contexts = self._server.contexts
        self._server.contexts = [one for one in contexts if one.abstract_syntax != sop_class_uid]

    def _handlers(self) -> list[Any]:
        return [
            *super()._handlers(),
            (evt.EVT_C_STORE, self._on_store),
        ]

    def _on_requested(self, event: Any) -> None:
        super()._on_requested(event)  # the negotiation comes after this
        self._ae.require_calling_aet = ["NOBODY"] if self.associations <= self._reject else []

    def _on_store(self, event: Any) -> int:
        with self._lock:
            act: int | Act = self.script.pop(0) if self.script else 0x0000
            good = act == 0 or (isinstance(act, int) and 0xB000 <= act <= 0xBFFF)
            self.received.append(
                Received(
                    str(event.request.AffectedSOPClassUID),
                    str(event.request.AffectedSOPInstanceUID),
                    str(event.context.transfer_syntax),
                    int(event.request.Priority),
                    event.encoded_dataset(include_meta=False),
                    good or act is Act.KEEP_AND_CLOSE,
                    self.associations,
                )
            )
        if self._latency_s:
            self._stopping.wait(self._latency_s)
        if isinstance(act, int):
            return act
        if act is Act.ABORT:
            event.assoc.abort()
        elif act is Act.STALL:
            self._stopping.wait(STOP_S)
        else:
            with contextlib.suppress(OSError):
                event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        return 0x0000


class UpsScp(Peer):
    """A UPS SCP with tasks in memory: C-FIND, N-SET, N-CREATE, N-GET.

    Parameters
    ----------
    classes : sequence of str
        The UPS classes that it takes.
    ignores_keys : bool
        Return every task to every query, as some archives do with keys that they do not know.
    appears : Dataset or None
        A task that comes into being right after the first query.
    answers : dict of str to int
        Statuses that ``find``, ``set`` or ``create`` answer with instead of doing it.
    stalls : bool
        Leave every query without an answer until it is stopped.
    """

    def __init__(
        self,
        *tasks: Dataset,
        classes: Sequence[str] = (UPS_PUSH, UPS_PULL, UPS_WATCH, UPS_QUERY),
        ignores_keys: bool = False,
        appears: Dataset | None = None,
        answers: dict[str, int] | None = None,
        stalls: bool = False,
    ) -> None:
        super().__init__("UPSSCP")
        for sop_class in classes:
            self._ae.add_supported_context(sop_class)
        self.tasks = {str(task.SOPInstanceUID): task for task in tasks}
        self.calls: list[str] = []
        self._ignores_keys, self._appears = ignores_keys, appears
        self._answers, self._stalls = answers or {}, stalls

    def priorities(self) -> dict[str, str]:
        """Return the priority of each task by its UID."""
        return {uid: str(task.ScheduledProcedureStepPriority) for uid, task in self.tasks.items()}

    def _handlers(self) -> list[Any]:
        return [
            *super()._handlers(),
            (evt.EVT_C_FIND, self._on_find),
            (evt.EVT_N_SET, self._on_set),
            (evt.EVT_N_CREATE, self._on_create),
            (evt.EVT_N_GET, self._on_get),
        ]

    def _on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        self.calls.append("find")
        if self._stalls:
            self._stopping.wait(STOP_S)
        if "find" in self._answers:
            yield self._answers["find"], None
            return
        for task in list(self.tasks.values()):
            if self._ignores_keys or _matches(task, event.identifier):
                yield 0xFF00, task
        if self._appears is not None:
            self.tasks[str(self._appears.SOPInstanceUID)] = self._appears
            self._appears = None

    def _on_set(self, event: Any) -> tuple[int, Dataset | None]:
        self.calls.append("set")
        if "set" in self._answers:
            return self._answers["set"], None
        task = self.tasks.get(str(event.request.RequestedSOPInstanceUID))
        if task is None:
            return 0xC307, None
        if task.ProcedureStepState != "SCHEDULED":
            return 0xC301, None
        task.update(event.modification_list)
        return 0x0000, None

    def _on_create(self, event: Any) -> tuple[int, Dataset | None]:
        self.calls.append("create")
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid in self.tasks:
            return 0x0111, None
        task = event.attribute_list
        task.SOPInstanceUID = uid
        self.tasks[uid] = task
        return self._answers.get("create", 0x0000), None

    def _on_get(self, event: Any) -> tuple[int, Dataset | None]:
        self.calls.append("get")
        task = self.tasks.get(str(event.request.RequestedSOPInstanceUID))
        return (0x0000, task) if task is not None else (0xC307, None)


def task(
    uid: str,
    *,
    study_uid: str = "",
    state: str = "SCHEDULED",
    priority: str = "MEDIUM",
    accession_number: str = "",
    patient_id: str = "",
    workitem: str = "110005",
    changed: str = "",
) -> Dataset:
    """Return a task for a `UpsScp`; `workitem` is a DCM code, 110005 for interpretation.

    `changed` is a DT.
    """
    request, code, made = Dataset(), Dataset(), Dataset()
    request.AccessionNumber = accession_number
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = workitem, "DCM", "Task"
    made.SOPClassUID, made.SOPInstanceUID = UPS_PUSH, uid
    made.StudyInstanceUID, made.PatientID = study_uid, patient_id
    made.ProcedureStepState, made.ScheduledProcedureStepPriority = state, priority
    made.ScheduledProcedureStepModificationDateTime = changed
    made.ScheduledWorkitemCodeSequence = [code] if workitem else []
    made.ReferencedRequestSequence = [request]
    return made


def _matches(task: Dataset, asked: Dataset) -> bool:
    """Match on the keys that ichnode uses; an empty key matches everything."""
    order = asked.ReferencedRequestSequence[0].AccessionNumber
    pairs = (
        (asked.StudyInstanceUID, task.StudyInstanceUID),
        (asked.ProcedureStepState, task.ProcedureStepState),
        (asked.PatientID, task.PatientID),
        (order, task.ReferencedRequestSequence[0].AccessionNumber),
    )
    return all(not wanted or wanted == held for wanted, held in pairs)


@contextlib.contextmanager
def silent_listener(*, receive_buffer: int | None = None) -> Iterator[int]:
    """Accept TCP connections and never say or read a thing; yields the port."""
    with socket.socket() as listener:
        if receive_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        yield listener.getsockname()[1]


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """Let connection attempts go unanswered, like a host behind a firewall; yields the port."""
    with socket.socket() as listener, contextlib.ExitStack() as filling:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):  # fill the queue of connections that wait to be accepted
            waiting = filling.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(("127.0.0.1", port))
        yield port


def closed_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def deaf_after_accepting(sop_class_uid: str, transfer_syntax_uid: str) -> Iterator[int]:
    """Accept one association with one presentation context, then read nothing; yields the port."""

    def item(kind: int, body: bytes) -> bytes:
        return bytes((kind, 0)) + len(body).to_bytes(2, "big") + body

    def answer(request: bytes) -> bytes:
        context = bytes((1, 0, 0, 0)) + item(0x40, transfer_syntax_uid.encode())
        user = item(0x51, (16384).to_bytes(4, "big")) + item(0x52, b"1.2.3")
        body = request[6:74]  # version, titles and reserved bytes, as they came
        body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x21, context) + item(0x50, user)
        return b"\x02\x00" + len(body).to_bytes(4, "big") + body

    done = threading.Event()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(answer(connection.recv(65536)))
                done.wait(STOP_S)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        done.set()
        thread.join(STOP_S)
