"""Who may associate, how many at once, and for what."""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pydicom.uid import UID, UID_dictionary

from ichnode.domain.errors import OutOfSpace
from ichnode.domain.ids import is_uid
from ichnode.settings import ReceiveSettings

VERIFICATION = "1.2.840.10008.1.1"
_DICOM_ROOT = "1.2.840.10008."
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
NOT_FROM_HERE = "The peer's address is not in receive.networks."
OWN_ECHOES = 20
"""Checks of health from this machine that are let in beside the limits: every process's own at its
start, and a monitor's; a full house is no reason to restart it."""
_NOT_STORAGE = ("Storage Commitment", "Media Storage Directory")
# The sender is asked for these first where it offers a choice: with explicit value representations
# private elements stay readable, and nothing has to be decompressed before a bleed is found.
PLAIN = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian
)
_WITHOUT_PIXELS = (
    "1.2.840.10008.1.2.4.94",  # JPIP Referenced: the pixels stay at the sender
    "1.2.840.10008.1.2.4.95",
    "1.2.840.10008.1.2.4.204",
    "1.2.840.10008.1.2.4.205",
    "1.2.840.10008.1.2.6.1",  # RFC 2557 MIME and XML encapsulation: no data sets
    "1.2.840.10008.1.2.6.2",
    "1.2.840.10008.1.2.7.1",  # SMPTE ST 2110: live streams
    "1.2.840.10008.1.2.7.2",
    "1.2.840.10008.1.2.7.3",
)


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ (PS3.8 9.3.4): result, source, reason, and the same in a sentence."""

    result: int
    source: int
    reason: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Application:
    """What a peer asks for in its A-ASSOCIATE-RQ."""

    calling_ae: str
    called_ae: str
    address: str
    local_address: str
    abstract_syntaxes: frozenset[str]
    questions: frozenset[str] = frozenset()  # those of them that store nothing, but ask

    @property
    def only_asks(self) -> bool:
        """Whether it brings nothing that needs room."""
        return bool(self.abstract_syntaxes) and (
            self.abstract_syntaxes <= self.questions | {VERIFICATION}
        )

    @property
    def is_own_echo(self) -> bool:
        """Whether it comes from this machine and wants to verify only: our own check of health."""
        return self.address == self.local_address and self.abstract_syntaxes == {VERIFICATION}


class Admission:
    """Judges applications and counts who is in.

    Parameters
    ----------
    settings : ReceiveSettings
        Allow-lists and limits.
    check_room : callable
        Raises OutOfSpace when nothing more can be kept.
    max_asking : int
        Associations of those who ask, at a time; they leave room for those who store.
    """

    def __init__(
        self,
        settings: ReceiveSettings,
        check_room: Callable[[], None],
        max_asking: int = 0,
    ) -> None:
        self._settings, self._check_room = settings, check_room
        self._max_asking, self._asking = max_asking, 0
        self._networks = [ipaddress.ip_network(n, strict=False) for n in settings.networks]
        self._callers = {title.strip() for title in settings.calling_ae_titles}
        self._lock = threading.Lock()
        self._inside: Counter[str] = Counter()
        self._own_echoes = 0
        self._closed = False

    def close(self) -> None:
        """Turn everybody away from now on, for the time being."""
        self._closed = True

    @property
    def inside(self) -> int:
        """Associations that were admitted and have not left, our own checks of health aside."""
        return self._inside.total()

    def enter(self, application: Application) -> Rejection | None:
        """Admit a peer, who must `leave` later, or say why not."""
        if application.is_own_echo:
            return self._enter_to_echo()
        stranger = self._is_stranger(application)
        if stranger is not None:
            return stranger
        if self._closed:
            return Rejection(2, 3, 1, "The receiver is about to stop.")
        if not application.only_asks:
            try:
                self._check_room()
            except OutOfSpace as error:
                return Rejection(2, 3, 1, str(error))
        with self._lock:
            if self._inside.total() >= self._settings.max_associations:
                return Rejection(2, 3, 2, "Too many associations are open.")
            if self._inside[application.address] >= self._settings.max_associations_per_peer:
                return Rejection(2, 3, 2, "Too many associations of this peer are open.")
            if application.questions and self._asking >= self._max_asking:
                return Rejection(2, 3, 2, "Too many associations of those who ask are open.")
            self._asking += bool(application.questions)
            self._inside[application.address] += 1
        return None

    def _enter_to_echo(self) -> Rejection | None:
        with self._lock:
            if self._closed:
                return Rejection(2, 3, 1, "The receiver is about to stop.")
            if self._own_echoes >= OWN_ECHOES:
                return Rejection(2, 3, 2, "Too many verifications from this machine are open.")
            self._own_echoes += 1
            return None

    def leave(self, application: Application) -> None:
        """Count a peer out."""
        address = application.address
        with self._lock:
            if application.is_own_echo:
                self._own_echoes -= 1
                return
            self._asking -= bool(application.questions)
            self._inside[address] -= 1
            if self._inside[address] <= 0:
                del self._inside[address]

    def is_welcome(self, address: str, local_address: str) -> bool:
        """Say whether a connection may ask: this machine's may always, see `is_own_echo`."""
        return not self._networks or address == local_address or self._is_from_here(address)

    def _is_stranger(self, application: Application) -> Rejection | None:
        if self._networks and not self._is_from_here(application.address):
            return Rejection(1, 1, 1, NOT_FROM_HERE)
        if self._callers and application.calling_ae.strip() not in self._callers:
            sentence = "The calling AE title is not in receive.calling_ae_titles."
            return Rejection(1, 1, 3, sentence)
        ours = self._settings.ae_title.strip()
        if self._settings.check_called_ae_title and application.called_ae.strip() != ours:
            return Rejection(1, 1, 7, "The called AE title is not ours.")
        return None

    def _is_from_here(self, address: str) -> bool:
        peer = ipaddress.ip_address(address)
        return any(peer in network for network in self._networks)


def plain_address(address: str) -> str:
    """Return an address without zone, and as IPv4 where it is IPv4 within IPv6."""
    peer = ipaddress.ip_address(address.partition("%")[0])
    mapped = peer.ipv4_mapped if isinstance(peer, ipaddress.IPv6Address) else None
    return str(mapped or peer)


def is_storage(abstract_syntax: str) -> bool:
    """Say whether objects of this SOP class are taken: every standard, unknown or private one.

    Refusing one class would fail the whole send of many scanners; what becomes of an object is
    said of its series later.
    """
    if not is_uid(abstract_syntax):
        return False
    if not abstract_syntax.startswith(_DICOM_ROOT):
        return True
    if abstract_syntax not in UID_dictionary:
        return abstract_syntax.startswith(_STORAGE_ROOT)
    name = UID(abstract_syntax).name
    return "Storage" in name and not any(other in name for other in _NOT_STORAGE)


def transfer_syntaxes(offered: Iterable[str]) -> list[str]:
    """Return which of the offered transfer syntaxes can be kept, the best first.

    Every standard one whose objects are whole, the sender's own order among equals, and private
    ones last: whether such a data set can be read shows when it comes.
    """
    usable: Sequence[str] = [s for s in dict.fromkeys(offered) if _can_be_kept(s)]
    return sorted(usable, key=_rank)


def _rank(syntax: str) -> int:
    if syntax in PLAIN:
        return PLAIN.index(syntax)
    return len(PLAIN) + (not syntax.startswith(_DICOM_ROOT))


def _can_be_kept(syntax: str) -> bool:
    if not is_uid(syntax) or syntax in _WITHOUT_PIXELS:
        return False
    if not syntax.startswith(_DICOM_ROOT):
        return True
    return syntax in UID_dictionary and UID_dictionary[syntax][1] == "Transfer Syntax"
