"""A scriptable archive that answers for what it has: storage commitment as its SCP."""

from __future__ import annotations

import threading
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode

from tests.pacs import STOP_S, Pacs, Received

PUSH_MODEL, INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
NOT_HERE = 0x0112


def report(transaction_uid: str, kept: list[Any], lost: list[Any]) -> Dataset:
    """Return the data set of a report about referenced items."""
    made = Dataset()
    made.TransactionUID = transaction_uid
    if kept:
        made.ReferencedSOPSequence = kept
    if lost:
        for item in lost:
            item.FailureReason = NOT_HERE
        made.FailedSOPSequence = lost
    return made


def tell(port: int, told: Dataset | None, event_type: int = 1, *, roles: bool = True) -> int | None:
    """Report on an association of its own, as an archive does; return the node's status."""
    ae = AE("ARCHIVE")
    ae.add_requested_context(PUSH_MODEL)
    items = [build_role(PUSH_MODEL, scp_role=True)] if roles else []
    association = ae.associate("127.0.0.1", port, ae_title="ICHNODE", ext_neg=items)
    if not association.is_established or not association.accepted_contexts:
        return None
    if not roles:  # an archive that negotiates nothing reports all the same
        association.accepted_contexts[0]._as_scp = True
    answer, _ = association.send_n_event_report(told, event_type, PUSH_MODEL, INSTANCE)
    association.release()
    return int(answer.Status) if "Status" in answer else None


class CommittingPacs(Pacs):
    """A `Pacs` that answers for what it has kept, unless told otherwise.

    Parameters
    ----------
    status : int
        What N-ACTION is answered with.
    report_to : int or None
        The port where it reports on an association of its own; None reports on the same one.
    first : bool
        Report before the answer, on the same association.
    silent : bool
        Never report.
    stalls : bool
        Never answer.
    other_uid : str
        Report about this transaction instead.
    """

    def __init__(
        self,
        *,
        status: int = 0x0000,
        report_to: int | None = None,
        first: bool = False,
        silent: bool = False,
        stalls: bool = False,
        other_uid: str = "",
        **changes: Any,
    ) -> None:
        super().__init__(**changes)
        self._ae.add_supported_context(PUSH_MODEL)
        self.status, self.report_to, self.first = status, report_to, first
        self.silent, self.stalls, self.other_uid = silent, stalls, other_uid
        self.asked: list[tuple[str, set[str]]] = []  # transaction, SOP instances
        self.answers: list[int | None] = []  # to what it reported

    def _handlers(self) -> list[Any]:
        return [
            *super()._handlers(),
            (evt.EVT_N_ACTION, self._on_action),
        ]

    def keep(self, sop_uid: str) -> None:
        """Have an object as if it had been stored."""
        with self._lock:
            self.received.append(Received("", sop_uid, "", 0, b"", True, 0))

    def _on_action(self, event: Any) -> tuple[int, None]:
        asked = event.action_information
        items = list(asked.ReferencedSOPSequence)
        self.asked.append((asked.TransactionUID, {i.ReferencedSOPInstanceUID for i in items}))
        if self.stalls:
            self._stopping.wait(STOP_S)
        if self.status == 0 and not self.silent:
            self._report(event, str(asked.TransactionUID), items)
        return self.status, None

    def _report(self, event: Any, transaction_uid: str, items: list[Any]) -> None:
        held = {one.sop_uid for one in self.kept}
        kept = [i for i in items if i.ReferencedSOPInstanceUID in held]
        lost = [i for i in items if i.ReferencedSOPInstanceUID not in held]
        told = report(self.other_uid or transaction_uid, kept, lost)
        event_type = 2 if lost else 1
        if self.report_to is not None:
            self.answers.append(tell(self.report_to, told, event_type))
        elif self.first:
            _send(event, told, event_type)
        else:
            threading.Timer(0.2, _send, (event, told, event_type)).start()


def _send(event: Any, told: Dataset, event_type: int) -> None:
    """Send a report on the association of the question, without waiting for the answer."""
    syntax = event.context.transfer_syntax
    message = N_EVENT_REPORT()
    message.MessageID, message.EventTypeID = 7, event_type
    message.AffectedSOPClassUID, message.AffectedSOPInstanceUID = PUSH_MODEL, INSTANCE
    implicit = syntax == "1.2.840.10008.1.2"
    message.EventInformation = BytesIO(encode(told, implicit, True) or b"")
    event.assoc.dimse.send_msg(message, event.context.context_id)
