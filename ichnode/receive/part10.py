"""The head of a DICOM file, put before a data set exactly as the sender encoded it.

It depends on the data set alone, not on who sent it or when: the same data set always becomes the
same file with the same digest, so that a resend is seen for what it is.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from ichnode.domain.ids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sHI")


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b" " if vr == b"SH" else b"\0"
    return _SHORT.pack(0x0002, element, vr, len(value)) + value


_VERSION = _LONG.pack(0x0002, 0x0001, b"OB", 0, 2) + b"\0\1"
_OURS = _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode()) + _element(
    0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode()
)


@lru_cache(maxsize=256)
def _uid(element: int, uid: str) -> bytes:
    return _element(element, b"UI", uid.encode("latin-1"))


def file_head(sop_class_uid: str, sop_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return preamble, prefix and file meta information.

    Parameters
    ----------
    sop_class_uid, sop_uid, transfer_syntax_uid : str
        Without padding; what is no UID is refused later, once the whole object is here.

    References
    ----------
    DICOM PS3.10 7.1
    """
    meta = b"".join(
        (
            _VERSION,
            _uid(0x0002, sop_class_uid),
            _element(0x0003, b"UI", sop_uid.encode("latin-1")),
            _uid(0x0010, transfer_syntax_uid),
            _OURS,
        )
    )
    length = _element(0x0000, b"UL", struct.pack("<I", len(meta)))
    return bytes(128) + b"DICM" + length + meta
