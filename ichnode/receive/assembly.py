"""Messages put together from their fragments, the objects among them as whole files.

Part of what the receiver changes in pynetdicom; `ichnode.receive.transport` says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import structlog
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dimse_primitives import C_CANCEL, C_STORE
from pynetdicom.pdu_primitives import P_DATA

from ichnode.receive.budget import GRAIN_BYTES, Budget
from ichnode.receive.commands import StoreRequest, read_store_request
from ichnode.receive.part10 import file_head
from ichnode.receive.provider import UNKNOWN

log = structlog.get_logger(__name__)

_COMMAND_LIMIT_BYTES = 1 << 16
_IDENTIFIER_LIMIT_BYTES = 1 << 16
_CANCELED_KEPT = 64
_IS_COMMAND, _IS_LAST = 0x01, 0x02  # of a message control header (PS3.8 E.2)


@dataclass(frozen=True, slots=True)
class TooLong:
    """A request whose data set was longer than any that makes sense, and was not kept."""

    request: Any


class Assembly(DIMSEServiceProvider):  # type: ignore[misc]
    """Puts messages together; an object that is too large is read to its end but not kept.

    The data set of a C-STORE request is written behind the head of its future file, so that the
    file is complete, in one piece of memory, with the last fragment. All other messages are left
    to pynetdicom.

    Parameters
    ----------
    association : Association
        Whose messages these are.
    max_instance_bytes : int
        A larger object is not kept.
    budget : Budget
        Shared by all associations; an object that finds it used up is not kept.
    """

    def __init__(self, association: Association, max_instance_bytes: int, budget: Budget) -> None:
        super().__init__(association)
        self._budget = budget
        self._max_instance_bytes = max_instance_bytes
        self.canceled: set[int] = set()  # messages whose sender has had enough
        self._is_too_long = False
        self._command = bytearray()
        self._store: StoreRequest | None = None
        self._other: DIMSEMessage | None = None

    def receive_primitive(self, primitive: Any) -> None:
        """Take the fragments of one PDU; what cannot be understood aborts the association."""
        try:
            for context_id, value in primitive:
                if value[0] & _IS_COMMAND:
                    self._take_command(context_id, value)
                elif self._store is not None:
                    self._take_object(context_id, value, self._store)
                else:
                    self._take_other(context_id, value)
        except Exception as error:  # noqa: BLE001 - hostile bytes fail in pydicom in many ways
            log.warning("message.unreadable", error=type(error).__name__)
            if self._store is not None:
                self.let_go(self._store)
            self._store = self._other = None
            self.dul.event_queue.put(UNKNOWN)

    def _take_command(self, context_id: int, value: memoryview) -> None:
        if self._store is not None or self._other is not None:
            raise ValueError("a command within a message")
        self._command += value[1:]
        if len(self._command) > _COMMAND_LIMIT_BYTES:
            raise ValueError("a command set is too long")
        if not value[0] & _IS_LAST:
            return
        command, self._command = bytes(self._command), bytearray()
        request = read_store_request(command)
        if request is None:
            self._other = DIMSEMessage()
            self._take_other(context_id, memoryview(b"\3" + command))
        elif request.has_data_set:
            context = self.assoc._accepted_cx.get(context_id)
            syntax = str(context.transfer_syntax[0]) if context is not None else ""
            request.content.write(file_head(request.sop_class_uid, request.sop_uid, syntax))
            self._store = request
        else:
            self.msg_queue.put((context_id, request))

    def _take_object(self, context_id: int, value: memoryview, request: StoreRequest) -> None:
        size = request.content.tell() + len(value) - 1
        if request.too_large or request.is_crowded:
            pass
        elif size > self._max_instance_bytes:
            request.too_large = True
            self.let_go(request)
        elif not self._hold(request, size):
            request.is_crowded = True
            self.let_go(request)
        else:
            request.content.write(value[1:])
        if value[0] & _IS_LAST:
            self._store = None
            self.msg_queue.put((context_id, request))

    def _hold(self, request: StoreRequest, size_bytes: int) -> bool:
        if size_bytes <= request.held_bytes:
            return True
        more = max(size_bytes - request.held_bytes, GRAIN_BYTES)
        if not self._budget.take(more):
            return False
        request.held_bytes += more
        return True

    def let_go(self, request: StoreRequest) -> None:
        """Free the memory of an object."""
        request.content.close()
        request.content = BytesIO()
        self._budget.give_back(request.held_bytes)
        request.held_bytes = 0

    def drop(self) -> None:
        """Free the memory of everything that is not answered: the association is over."""
        waiting = [] if self._store is None else [self._store]
        self._store = None
        while not self.msg_queue.empty():
            _, message = self.msg_queue.get_nowait()
            if isinstance(message, StoreRequest):
                waiting.append(message)
        for request in waiting:
            self.let_go(request)

    def _take_other(self, context_id: int, value: memoryview) -> None:
        if self._other is None:
            raise ValueError("a data set without a command")
        single = P_DATA()
        single.presentation_data_value_list.append((context_id, value))
        if not self._other.decode_msg(single, self.assoc):
            self._drop_if_too_long(self._other)
            return
        self._drop_if_too_long(self._other)
        message, self._other = self._other, None
        primitive = message.message_to_primitive()
        too_long, self._is_too_long = self._is_too_long, False
        if isinstance(primitive, C_STORE):
            raise ValueError("a C-STORE request that is not encoded as one")
        if isinstance(primitive, C_CANCEL):
            if len(self.canceled) < _CANCELED_KEPT:
                self.canceled.add(int(primitive.MessageIDBeingRespondedTo))
        else:
            self.msg_queue.put((message.context_id, TooLong(primitive) if too_long else primitive))

    def _drop_if_too_long(self, message: DIMSEMessage) -> None:
        """Read a data set that nobody needs so long to its end, but do not keep it."""
        if message.data_set.tell() > _IDENTIFIER_LIMIT_BYTES:
            message.data_set.seek(0)
            message.data_set.truncate()
            self._is_too_long = True
