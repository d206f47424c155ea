"""C-STORE on the wire: the one request that comes by the thousand, and its response.

pynetdicom's codec makes a pydicom data set of every command, half a millisecond for each direction
while nothing else can run; these two command sets are a handful of fixed fields. Everything else,
and every C-STORE request that looks odd, stays with pynetdicom.

References
----------
DICOM PS3.7 6.3.1 (command sets are Implicit VR Little Endian), 9.3.1 (C-STORE), E.1; PS3.8 9.3.5
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO

_ELEMENT = struct.Struct("<HHI")
_US = struct.Struct("<H")
_PDU_AND_PDV = struct.Struct(">BBLLBB")
_P_DATA_TF, _LAST_OF_COMMAND = 0x04, 0x03

_CLASS_UID, _COMMAND, _MESSAGE_ID, _RESPONDED_TO = 0x0002, 0x0100, 0x0110, 0x0120
_DATA_SET_TYPE, _STATUS, _SOP_UID = 0x0800, 0x0900, 0x1000
_C_STORE_RQ, _C_STORE_RSP, _NO_DATA_SET = 0x0001, 0x8001, 0x0101


@dataclass(slots=True)
class StoreRequest:
    """A C-STORE request.

    Attributes
    ----------
    sop_class_uid, sop_uid : str
        As the command says, padding removed; empty where it says nothing.
    content : BytesIO
        What came with it, see `assembly.Assembly`.
    too_large, is_crowded : bool
        Why the content was not kept: by itself, or because of all that came at the same time.
    held_bytes : int
        What the content takes of the budget.
    """

    message_id: int
    sop_class_uid: str
    sop_uid: str
    has_data_set: bool
    content: BytesIO
    too_large: bool = False
    is_crowded: bool = False
    held_bytes: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether it names its object and brings it along."""
        return bool(self.sop_class_uid and self.sop_uid and self.has_data_set)


def read_store_request(command: bytes) -> StoreRequest | None:
    """Read a command set; None when it is no C-STORE request, or no plain one.

    Parameters
    ----------
    command : bytes
        The whole command set as received.
    """
    fields: dict[int, bytes] = {}
    at = 0
    while at + _ELEMENT.size <= len(command):
        group, element, length = _ELEMENT.unpack_from(command, at)
        at += _ELEMENT.size
        if group != 0 or at + length > len(command):
            return None
        fields[element] = command[at : at + length]
        at += length
    numbers = [fields.get(name, b"") for name in (_COMMAND, _MESSAGE_ID, _DATA_SET_TYPE)]
    if at != len(command) or any(len(number) != _US.size for number in numbers):
        return None
    kind, message_id, data_set_type = (int(_US.unpack(number)[0]) for number in numbers)
    if kind != _C_STORE_RQ:
        return None
    return StoreRequest(
        message_id=message_id,
        sop_class_uid=_text(fields.get(_CLASS_UID, b"")),
        sop_uid=_text(fields.get(_SOP_UID, b"")),
        has_data_set=data_set_type != _NO_DATA_SET,
        content=BytesIO(),
    )


def store_response(request: StoreRequest, context_id: int, status: int) -> bytes:
    """Return the whole P-DATA-TF PDU that answers a C-STORE request."""
    fields = b"".join(
        (
            _uid(_CLASS_UID, request.sop_class_uid),
            _number(_COMMAND, _C_STORE_RSP),
            _number(_RESPONDED_TO, request.message_id),
            _number(_DATA_SET_TYPE, _NO_DATA_SET),
            _number(_STATUS, status),
            _uid(_SOP_UID, request.sop_uid),
        )
    )
    command = _ELEMENT.pack(0, 0, 4) + struct.pack("<I", len(fields)) + fields
    pdv = 2 + len(command)
    return _PDU_AND_PDV.pack(_P_DATA_TF, 0, 4 + pdv, pdv, context_id, _LAST_OF_COMMAND) + command


def _number(element: int, value: int) -> bytes:
    return _ELEMENT.pack(0, element, 2) + _US.pack(value)


def _uid(element: int, uid: str) -> bytes:
    """Encode a UID as it came, be it ever so odd; the sender knows it so."""
    value = uid.encode("latin-1")
    if not value:
        return b""
    value += b"\0" * (len(value) % 2)
    return _ELEMENT.pack(0, element, len(value)) + value


def _text(value: bytes) -> str:
    return value.decode("latin-1").rstrip("\0 ").strip()
