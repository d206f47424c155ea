"""Answering messages: AA only once everything that follows is committed."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, Protocol

import structlog

from ichnode.domain.errors import Transient
from ichnode.domain.hearing import Heard
from ichnode.hl7v2.reading import Received, Unreadable, read
from ichnode.hl7v2.writing import CODECS, Charset, Field, message, segment
from ichnode.listen.understanding import NotUnderstood, understood

log = structlog.get_logger(__name__)

_KIND = re.compile(r"[A-Z0-9]{3}")
_VERSION = re.compile(r"2\.\d(\.\d){0,2}")
MOST_THINGS = 200  # in a message: it is one transaction, for which everybody else waits
_MOST_KINDS = 50  # that are counted by name

Code = Literal["AA", "AE", "AR"]
MISSING, UNSUPPORTED, INTERNAL = "101", "200", "207"  # table 0357


class Ear(Protocol):
    """Who acts on what was understood; returns when that is durable."""

    def hear(self, digest: str, kind: str, things: Sequence[Heard]) -> object:
        """Act on a message, once; `Transient` when that does not work now."""
        ...


class Answering:
    """Takes messages in and says what became of them.

    Parameters
    ----------
    ear : Ear
        The worklist.
    unknown : str
        What answers a message of a kind that means nothing here: AA or AR.
    """

    def __init__(self, ear: Ear, unknown: Literal["AA", "AR"]) -> None:
        self._ear, self._unknown = ear, unknown
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[str]] = {"heard": Counter(), "ignored": Counter()}

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many messages of each kind were acted on, and how many meant nothing here."""
        with self._lock:
            return {outcome: dict(counter) for outcome, counter in self._counts.items()}

    def answer(self, data: bytes, peer: str) -> bytes:
        """Return the acknowledgement of a message; nothing that happens here is raised."""
        try:
            received = read(data)
        except Unreadable as error:
            log.warning("message.refused", peer=peer, sentence=str(error))
            return _acknowledgement(None, "AE", str(error), INTERNAL)
        code, sentence, number = self._became(received, data, peer)
        return _acknowledgement(received, code, sentence, number)

    def _became(self, received: Received, data: bytes, peer: str) -> tuple[Code, str, str]:
        kind = _shown(received.kind)
        try:
            if not received.control_id:
                raise NotUnderstood("The message has no control identifier (MSH-10).")
            things = understood(received)
            if things is None:
                self._count("ignored", kind)
                log.info("message.ignored", peer=peer, kind=kind)
                return self._unknown, "Messages of this kind mean nothing here.", UNSUPPORTED
            if len(things) > MOST_THINGS:
                raise NotUnderstood(f"The message says more than {MOST_THINGS} things at once.")
            self._ear.hear(hashlib.sha256(data).hexdigest(), kind, things)
        except NotUnderstood as error:
            log.warning("message.refused", peer=peer, kind=kind, sentence=str(error))
            return "AE", str(error), MISSING
        except Transient:
            log.warning("message.postponed", peer=peer, kind=kind)
            return "AE", "The message cannot be kept now; send it again.", INTERNAL
        except Exception:  # the sender gets an answer, whatever is wrong here
            log.exception("message.broke", peer=peer, kind=kind)
            return "AE", "The message could not be handled.", INTERNAL
        self._count("heard", kind)
        log.info("message.heard", peer=peer, kind=kind, count=len(things))
        return "AA", "", ""

    def _count(self, outcome: str, kind: str) -> None:
        with self._lock:
            counter = self._counts[outcome]
            counter[kind if kind in counter or len(counter) < _MOST_KINDS else "other"] += 1


def _shown(kind: tuple[str, str]) -> str:
    """Return a message's kind; what a sender writes there is only shown where it can be one."""
    return "^".join(part if _KIND.fullmatch(part) else "?" for part in kind)


def _acknowledgement(received: Received | None, code: Code, sentence: str, number: str) -> bytes:
    """Return ACK, in enhanced mode where the sender asks for it and for nothing else."""
    said = code.replace("A", "C", 1) if received is not None and _is_enhanced(received) else code
    charset, version = _as_sent(received)
    own: dict[int, Field] = {
        7: f"{datetime.now(UTC):%Y%m%d%H%M%S}+0000",
        9: ("ACK",),
        10: _own_id(received),
        11: "P",
        12: version,
    }
    control_id = ""
    if received is not None:
        header, control_id = received.header, received.control_id
        own |= {
            3: tuple(header.components(5)),
            4: tuple(header.components(6)),
            5: tuple(header.components(3)),
            6: tuple(header.components(4)),
            9: ("ACK", received.kind[1]) if _KIND.fullmatch(received.kind[1]) else ("ACK",),
            11: header.value(11)[:1] or "P",
            18: "" if charset == "ASCII" else charset,
        }
    segments = [
        segment("MSH", own, charset),
        segment("MSA", {1: said, 2: control_id, 3: sentence}, charset),
    ]
    if code != "AA" and version >= "2.5":
        segments.append(segment("ERR", {3: (number, "", "HL70357"), 4: "E", 8: sentence}, charset))
    return message(segments).encode(CODECS[charset])


def _is_enhanced(received: Received) -> bool:
    asked = {"AL", "ER", "SU"}
    accept, application = (received.header.value(n).upper() for n in (15, 16))
    return accept in asked and application not in asked


def _as_sent(received: Received | None) -> tuple[Charset, str]:
    if received is None:
        return "ASCII", "2.5.1"
    named, version = received.header.value(18), received.header.value(12)
    charset: Charset = next((one for one in CODECS if one == named), "ASCII")
    return charset, version if _VERSION.fullmatch(version) else "2.5.1"


def _own_id(received: Received | None) -> str:
    """Return a control identifier of ours: the same for an answer that is given again."""
    of = received.control_id if received is not None else ""
    return hashlib.sha256(f"ack|{of}".encode()).hexdigest()[:20].upper()
