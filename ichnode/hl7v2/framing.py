"""The frames of MLLP: 0x0B, the message, 0x1C, 0x0D.

References
----------
HL7 Transport Specification: MLLP, Release 1.
"""

from __future__ import annotations

START, END, RETURN = 0x0B, 0x1C, 0x0D
_BETWEEN = frozenset(b"\r\n \t\x00")  # what peers are seen to send between two messages


class BadFrame(ValueError):
    """The bytes are not MLLP; the sentence quotes none of them."""


def framed(message: bytes) -> bytes:
    """Return a message in its frame."""
    return bytes((START,)) + message + bytes((END, RETURN))


class Deframer:
    """Takes bytes as they come and gives the messages that are whole.

    The 0x0D at the end of a frame is not waited for: some peers leave it out.

    Parameters
    ----------
    longest : int
        Of a message, in bytes; no more is ever kept.
    """

    def __init__(self, longest: int) -> None:
        self._longest, self._held, self._inside = longest, bytearray(), False

    @property
    def is_inside(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._inside

    def feed(self, data: bytes) -> list[bytes]:
        """Take further bytes and return the messages that they complete.

        Raises
        ------
        BadFrame
            When they are not MLLP, or a message is too long; the connection is of no use any more.
        """
        messages = []
        place = 0
        while place < len(data):
            if not self._inside:
                place = self._begin(data, place)
                continue
            end = data.find(END, place)
            part = data[place : end if end >= 0 else None]
            if START in part:
                raise BadFrame("A message begins inside another.")
            if len(self._held) + len(part) > self._longest:
                raise BadFrame(f"The message is longer than {self._longest} bytes.")
            self._held += part
            if end < 0:
                break
            messages.append(bytes(self._held))
            self._held.clear()
            self._inside, place = False, end + 1
        return messages

    def _begin(self, data: bytes, place: int) -> int:
        """Skip what may stand between two messages; return where to go on."""
        while place < len(data) and data[place] in _BETWEEN:
            place += 1
        if place < len(data):
            if data[place] != START:
                raise BadFrame("The bytes are not framed as MLLP.")
            self._inside, place = True, place + 1
        return place
