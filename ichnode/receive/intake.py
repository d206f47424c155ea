"""What happens to one C-STORE request between its last byte and its status.

Everything that could make an instance unusable is checked before it is acknowledged, without
decoding pixels; then the journal makes it durable; then, and only then, the status is 0x0000.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from ichnode.domain.clock import Clock
from ichnode.domain.errors import BadInstance, ConfigurationError, OutOfSpace
from ichnode.domain.ids import is_uid
from ichnode.domain.series import Arrival, Header, Refusal
from ichnode.imaging.header import read_header
from ichnode.receive.complaints import IN_ONE_GO, Complaints
from ichnode.receive.journal import Journal
from ichnode.receive.layout import Facts
from ichnode.receive.recorder import Recorder
from ichnode.receive.segment import Place
from ichnode.settings import ReceiveSettings
from ichnode.spool import free_bytes, instance_path

log = structlog.get_logger(__name__)

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (OutOfSpace, OUT_OF_RESOURCES),  # PS3.4 B.2.3: the sender may try again
    (OSError, OUT_OF_RESOURCES),
    (Exception, PROCESSING_FAILURE),
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of an association."""

    association_id: str
    calling_ae: str
    called_ae: str
    address: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """One object as it came off the wire.

    Attributes
    ----------
    context_class_uid, transfer_syntax_uid : str
        What was negotiated for the presentation context it came in.
    sop_class_uid, sop_uid : str
        What the command says.
    content : bytes
        A Part 10 file: our head, then the data set as sent. Missing where `too_large` or
        `is_crowded`: there was no memory for it beside all else that was being received.
    """

    context_class_uid: str
    transfer_syntax_uid: str
    sop_class_uid: str
    sop_uid: str
    content: bytes = field(repr=False)
    too_large: bool = False
    is_crowded: bool = False


class Intake:
    """Takes parcels in.

    Parameters
    ----------
    spool : Path
        Its file system must have room.
    """

    def __init__(
        self,
        spool: Path,
        settings: ReceiveSettings,
        journal: Journal,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._spool, self._settings, self._clock = spool, settings, clock
        self._journal, self._recorder = journal, recorder
        self._complaints = Complaints(recorder.refuse)

    def store(self, caller: Caller, parcel: Parcel) -> int:
        """Keep an object, or say why not.

        Returns
        -------
        int
            The C-STORE status: 0x0000 when the object is on stable storage with all that is needed
            to record it, and never otherwise.
        """
        try:
            self.check_room(len(parcel.content))
            header = self._check(parcel)
            self._keep(caller, parcel, header)
        except BadInstance as error:
            return self.refuse(caller, error.status, str(error), parcel.sop_class_uid)
        except OutOfSpace as error:
            return self.refuse(caller, _status(error), str(error), parcel.sop_class_uid)
        except Exception as error:  # whatever it is, the sender gets a status
            log.exception("instance.failed", association=caller.association_id)
            sentence = f"Storing failed ({type(error).__name__})."
            return self.refuse(caller, _status(error), sentence, parcel.sop_class_uid)
        return SUCCESS

    def room_bytes(self) -> int:
        """Return what may be used: free, not reserved, and not owed to the backlog's files."""
        free = free_bytes(self._spool) - self._recorder.backlog_bytes
        return free - self._settings.reserve_bytes

    def check_room(self, size_bytes: int = 0) -> None:
        """Pass when one more instance can be kept and its file written.

        Raises
        ------
        OutOfSpace
            When the backlog or the disk is full.
        """
        if self._recorder.backlog >= self._settings.max_backlog:
            raise OutOfSpace("Too many instances wait to be recorded.")
        if self.room_bytes() < size_bytes:
            raise OutOfSpace("The disk has no more room than the reserve.")

    def refuse(
        self,
        caller: Caller,
        status: int,
        sentence: str,
        sop_class_uid: str = "",
        *,
        what: str = "instance",
    ) -> int:
        """Log a refusal and have it passed on for people to see; return the status.

        Of refused associations only the first of a kind is logged, see `Complaints`.
        """
        now = self._clock.now()
        shown = sop_class_uid if is_uid(sop_class_uid) else ""
        is_first = self._complaints.add(
            Refusal(now, caller.calling_ae, caller.address, status, sentence, shown)
        )
        say = log.warning if status or is_first else log.debug
        say(
            f"{what}.refused" if status else "association.refused",
            association=caller.association_id,
            peer=caller.address,
            status=f"0x{status:04X}",
            sentence=sentence,
            sop_class=shown,
        )
        if not self._recorder.backlog:
            self.tend()
        return status

    def tend(self) -> None:
        """Pass on what refusals are due: a few at a time, since images go first."""
        self._complaints.hand_over(IN_ONE_GO)

    def close(self) -> None:
        """Pass on all refusals that are left."""
        self._complaints.hand_over()

    def recover(self) -> int:
        """Take over what an earlier process made durable and did not record; return how many."""
        return sum(self._take_over(place, facts) for place, facts in self._journal.replay())

    def adopt(self, folder: Path) -> int:
        """Move what another journal still holds into ours, durably; return how many.

        A journal that is in use is left alone; where there is no room, the rest stays where it is
        until the next start.
        """
        count = 0
        try:
            with closing(Journal(folder, spares=0)) as orphan:
                for place, facts in orphan.replay():
                    count += self._take_over(self._journal.append(facts, place.read()), facts)
                    orphan.settle([place])
        except ConfigurationError:
            return 0
        except (OutOfSpace, OSError) as error:
            log.error("adoption.interrupted", error=type(error).__name__, adopted=count)
        return count

    def _take_over(self, place: Place, facts: Facts) -> bool:
        try:
            header = read_header(place.read())
        except BadInstance as error:
            # It was readable when it was acknowledged. It stays in the journal, and is complained
            # about at each start, until a version of ichnode can read it again.
            log.error("replay.unreadable", path=instance_path(place.sha256))
            return self._set_aside(facts, error.status, str(error))
        except Exception as error:  # one object must not keep the receiver from starting
            log.exception("replay.failed", path=instance_path(place.sha256))
            sentence = f"An acknowledged object cannot be recorded ({type(error).__name__})."
            return self._set_aside(facts, PROCESSING_FAILURE, sentence)
        arrival = _arrival(header, facts, place.sha256, place.body_bytes)
        self._recorder.stored(arrival, place, again=True)
        return True

    def _set_aside(self, facts: Facts, status: int, sentence: str) -> bool:
        names = facts.association_id, facts.calling_ae, facts.called_ae, facts.peer_address
        self.refuse(Caller(*names), status, sentence)
        return False

    def _check(self, parcel: Parcel) -> Header:
        if parcel.too_large:
            limit = self._settings.max_instance_bytes
            raise OutOfSpace(f"The object is larger than {limit} bytes.")
        if parcel.is_crowded:
            raise OutOfSpace("Too many large objects are being received at once.")
        if parcel.sop_class_uid != parcel.context_class_uid:
            sentence = "The command names another SOP class than its presentation context."
            raise BadInstance(CLASS_NOT_SUPPORTED, sentence)
        if not is_uid(parcel.sop_uid):
            raise BadInstance(CANNOT_UNDERSTAND, "The SOP Instance UID of the command is no UID.")
        try:
            header = read_header(parcel.content)
        except BadInstance:
            raise
        except Exception as error:
            log.exception("header.failed")
            raise BadInstance(CANNOT_UNDERSTAND, "The data set cannot be read.") from error
        if header.sop_class_uid != parcel.sop_class_uid:
            sentence = "The data set is of another SOP class than its command says."
            raise BadInstance(DOES_NOT_MATCH_CLASS, sentence)
        if header.sop_uid != parcel.sop_uid:
            sentence = "The data set has another SOP Instance UID than its command."
            raise BadInstance(DOES_NOT_MATCH_CLASS, sentence)
        return header

    def _keep(self, caller: Caller, parcel: Parcel, header: Header) -> None:
        facts = Facts(
            transfer_syntax_uid=parcel.transfer_syntax_uid,
            association_id=caller.association_id,
            calling_ae=caller.calling_ae,
            called_ae=caller.called_ae,
            peer_address=caller.address,
            received_at=self._clock.now(),
        )
        place = self._journal.append(facts, parcel.content)
        self._recorder.stored(_arrival(header, facts, place.sha256, place.body_bytes), place)


def _status(error: Exception) -> int:
    return next(status for kind, status in _STATUS if isinstance(error, kind))


def _arrival(header: Header, facts: Facts, sha256: str, size_bytes: int) -> Arrival:
    return Arrival(
        header=header,
        transfer_syntax_uid=facts.transfer_syntax_uid,
        sha256=sha256,
        path=instance_path(sha256),
        size_bytes=size_bytes,
        received_at=facts.received_at,
        association_id=facts.association_id,
        calling_ae=facts.calling_ae,
        called_ae=facts.called_ae,
        peer_address=facts.peer_address,
    )
