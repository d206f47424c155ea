"""Documents by C-STORE: one association, many objects, each with its own answer.

The stored bytes go as they are. Where a peer takes an SR class but only in Implicit VR, which every
DICOM archive understands, the same elements are sent in that encoding.

References
----------
DICOM PS3.4 B.2.3 (statuses), PS3.7 9.3.1 (C-STORE), C.4 (general statuses).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydicom import DataElement, Dataset, dcmread

from ichnode.domain.work import (
    Acknowledged,
    DeliveryItem,
    DeliveryResult,
    Reclass,
    StoredDocument,
    Undelivered,
)
from ichnode.send.association import (
    EXPLICIT_LE,
    IMPLICIT_LE,
    LONGEST_ROUND_S,
    FellSilent,
    NothingAccepted,
    Peer,
    abandon,
    accepted,
    associate,
    is_warning,
    status_of,
)
from ichnode.send.implicit import as_implicit
from ichnode.spool import resolve

MEDIUM, HIGH = 0x0000, 0x0001  # PS3.7 9.3.1.1; pynetdicom's own default is LOW
SUCCESS, DUPLICATE = 0x0000, 0x0111
LONGEST_SHOWN = 1 << 16  # characters, or values, of an element in a preview

SR_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D, what IHE AIR names
    "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive
    "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced
)

Context = tuple[str, str]

_LOST = Undelivered("The connection was lost before the answer, or no answer came in time.")
_ENDED = Undelivered("The peer closed the connection before it was sent.")


class StoreMechanism:
    """Delivers documents to one destination.

    Parameters
    ----------
    peer : Peer
        The destination.
    spool : Path
        Where the documents are.
    """

    def __init__(self, peer: Peer, spool: Path) -> None:
        self._peer, self._spool = peer, spool
        self._may_be_there: set[int] = set()  # deliveries whose answer was lost

    def deliver(self, items: Sequence[DeliveryItem]) -> Iterator[tuple[int, DeliveryResult]]:
        """Send documents over one association and yield each row's result as it comes.

        After a connection that was lost, and after `LONGEST_ROUND_S`, the rest is not tried: those
        rows get no result.

        Raises
        ------
        PeerFailure
            When there is no association; `FellSilent` after the result of the row whose answer did
            not come.
        """
        documents = [(item, item.document) for item in items if item.document is not None]
        until_s = time.monotonic() + LONGEST_ROUND_S
        try:
            with associate(self._peer, _offer([document for _, document in documents])) as peer:
                taken = accepted(peer)
                for number, (item, document) in enumerate(documents, start=1):
                    result = self._one(peer, taken, item, document, number)
                    silent = result is _LOST or result is _ENDED
                    if silent:
                        abandon(peer)
                    yield item.delivery_id, self._remembered(item, result)
                    if silent:
                        raise FellSilent("The peer does not answer any more.")
                    if not peer.is_established or time.monotonic() > until_s:
                        return
        except NothingAccepted:
            for item, _ in documents:
                yield item.delivery_id, _not_taken()

    def preview(self, item: DeliveryItem) -> str:
        """Return the elements of the document that would be stored."""
        if item.document is None:
            return ""
        priority = "HIGH" if item.urgent else "MEDIUM"
        held = dcmread(resolve(self._spool, item.document.path), stop_before_pixels=True)
        held.walk(_in_full)
        return f"C-STORE, priority {priority}\n{held}"

    def _remembered(self, item: DeliveryItem, result: DeliveryResult) -> DeliveryResult:
        """Keep the class of a report that may have arrived: in another it would be a second one.

        Where nothing can have arrived, such as at a peer that was down, the class may still change.
        """
        if result is _LOST:
            self._may_be_there.add(item.delivery_id)
        elif isinstance(result, Acknowledged):
            self._may_be_there.discard(item.delivery_id)
        elif isinstance(result, Reclass) and item.delivery_id in self._may_be_there:
            return Undelivered("The peer may have it, and takes its SOP class no more.")
        return result

    def _one(
        self,
        association: Any,
        taken: frozenset[Context],
        item: DeliveryItem,
        document: StoredDocument,
        number: int,
    ) -> DeliveryResult:
        """Send one document, unless the peer takes it only as another class, or not at all."""
        path = resolve(self._spool, document.path)
        priority = HIGH if item.urgent else MEDIUM
        number %= 0x10000
        try:
            if (document.sop_class_uid, document.transfer_syntax_uid) in taken:
                return _send(association, path, number, priority)  # the bytes as they are
            if (document.sop_class_uid, IMPLICIT_LE) in taken:
                with as_implicit(path) as other:
                    return _send(association, other, number, priority)
        except RuntimeError:  # the association ended since the last answer
            return _ENDED
        except (OSError, ValueError) as error:  # such as a file that is gone
            return Undelivered(f"It could not be sent: {type(error).__name__}.")
        return _other_class(document, taken)


def _in_full(_: Dataset, element: DataElement) -> None:
    """Have an element print its value, where pydicom would say how long it is."""
    element.maxBytesToDisplay = LONGEST_SHOWN


def _send(association: Any, path: Path, number: int, priority: int) -> DeliveryResult:
    return judge(status_of(association.send_c_store(path, msg_id=number, priority=priority)))


def _offer(documents: Sequence[StoredDocument]) -> list[Context]:
    """Return the contexts to offer: with one SR class all three, to learn what the peer takes."""
    classes = {document.sop_class_uid for document in documents}
    if classes & set(SR_CLASSES):
        classes |= set(SR_CLASSES)
    syntaxes = {document.transfer_syntax_uid for document in documents}
    return [
        (sop_class, syntax)
        for sop_class in sorted(classes, reverse=True)
        for syntax in sorted(syntaxes | {EXPLICIT_LE, IMPLICIT_LE}, reverse=True)
    ]


def _other_class(document: StoredDocument, taken: frozenset[Context]) -> DeliveryResult:
    """Ask for the document in the first SR class that the peer takes."""
    if document.sop_class_uid in SR_CLASSES:
        classes = {sop_class for sop_class, _ in taken}
        for sop_class in SR_CLASSES:
            if sop_class in classes:
                return Reclass(sop_class)
    return _not_taken()


def _not_taken() -> Undelivered:
    return Undelivered("The peer does not take this SOP class.", permanent=True)


def judge(status: int | None) -> DeliveryResult:
    """Say what a C-STORE status means for the delivery.

    A Warning is an acknowledgement. So is "duplicate SOP instance": under our deterministic UID the
    peer can only hold these same bytes. Without an answer nobody knows whether it arrived: the same
    bytes are sent again later.
    """
    if status is None:
        return _LOST
    if status == SUCCESS:
        return Acknowledged()
    if is_warning(status):
        return Acknowledged(status, "stored with a warning")
    if status == DUPLICATE:
        return Acknowledged(status, "it was there already")
    return Undelivered(f"The peer refused it with status 0x{status:04X}.", status)
