"""The query services as one thing: who may ask what, and the answer to each request.

References
----------
DICOM PS3.4 annex CC (Unified Procedure Step) and C.6.2 (Study Root); PS3.7 9.3.2, 10.3
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from pydicom import Dataset
from pynetdicom.dimse_primitives import C_FIND, N_ACTION, N_GET, N_SET

from ichnode.domain.errors import Transient
from ichnode.domain.tasks import Answer
from ichnode.query.book import Book
from ichnode.query.changing import CHANGE_STATE, Changer
from ichnode.query.finding import Finder, Found
from ichnode.query.identifiers import read, write
from ichnode.query.statuses import (
    CANCELED,
    CANNOT_UNDERSTAND,
    NO_SUCH_ACTION,
    OUT_OF_RESOURCES,
    PENDING,
    PROCESSING_FAILURE,
    SUCCESS,
    UNRECOGNISED_OPERATION,
    Refused,
)
from ichnode.settings import QuerySettings

log = structlog.get_logger(__name__)

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PUSH = "1.2.840.10008.5.1.4.34.6.1"
WATCH = "1.2.840.10008.5.1.4.34.6.2"
PULL = "1.2.840.10008.5.1.4.34.6.3"
QUERY = "1.2.840.10008.5.1.4.34.6.5"
CLASSES = frozenset((STUDY_ROOT_FIND, WATCH, PULL, QUERY))

AT_ONCE = 2
"""Requests that are worked on at the same time in one process; the others wait for their turn,
because the images that scanners send have the same interpreter."""
_LONGEST_COMMENT = 64  # Error Comment is an LO


class Answers:
    """Answers the requests that come through the receiver's door.

    Parameters
    ----------
    book : Book
        The worklist.
    settings : QuerySettings
        Who may ask, and how much.
    receivers : frozenset of str
        AE titles of subscribers whose address is known.
    is_open : callable
        Whether answers may leave this machine; asked for each association.
    """

    def __init__(
        self,
        book: Book,
        settings: QuerySettings,
        receivers: frozenset[str] = frozenset(),
        is_open: Callable[[], bool] = lambda: True,
    ) -> None:
        self.max_associations = settings.max_associations
        self._callers = {title.strip() for title in settings.calling_ae_titles}
        self._networks = [ipaddress.ip_network(n, strict=False) for n in settings.networks]
        self._is_open = is_open
        self._desks = threading.BoundedSemaphore(AT_ONCE)
        self._finder = Finder(
            book,
            most=settings.max_results,
            worklist_label=settings.worklist_label,
            retrieve_ae_title=settings.retrieve_ae_title,
        )
        self._changer = Changer(book, self._finder, receivers)

    @property
    def classes(self) -> frozenset[str]:
        """The SOP classes that are answered, to those who may ask."""
        return CLASSES

    def objection(self, calling_ae: str, address: str) -> str:
        """Say why a peer may not ask; empty where it may."""
        if calling_ae not in self._callers:
            return "The calling AE title is not in query.calling_ae_titles."
        peer = ipaddress.ip_address(address)
        if not any(peer in network for network in self._networks):
            return "The address of the query is not in query.networks."
        if not peer.is_loopback and not self._is_open():
            return "Nobody has commissioned the model that runs: the list is not published yet."
        return ""

    def answer(
        self,
        calling_ae: str,
        request: Any,
        abstract_syntax: str,
        transfer_syntax: str,
        is_canceled: Callable[[], bool],
    ) -> Iterator[Answer]:
        """Yield the responses to a request, the last one final.

        Parameters
        ----------
        request : DIMSE primitive
            What came.
        abstract_syntax, transfer_syntax : str
            Of the presentation context that it came in.
        is_canceled : callable
            Whether the asker has had enough.
        """
        work = {C_FIND: self._find, N_GET: self._get, N_SET: self._set, N_ACTION: self._act}
        handle = work.get(type(request))
        if handle is None or not _belongs(type(request), abstract_syntax):
            sentence = "The service does not know this request."
            yield _final(request, UNRECOGNISED_OPERATION, sentence, sentence)
            return
        answers = handle(calling_ae, request, abstract_syntax, transfer_syntax, is_canceled)
        while True:
            try:
                with self._desks:  # while we think; the peer may take its time to listen
                    answer = next(answers, None)
            except Refused as refused:
                seen = refused.sentence if refused.is_hostile else ""
                yield _final(request, refused.status, refused.sentence, seen)
                return
            except Transient as error:
                yield _final(request, OUT_OF_RESOURCES, "The worklist does not answer.")
                log.warning("request.failed", error=type(error).__name__)
                return
            except Exception as error:  # whatever it is, the asker gets a status
                log.exception("request.failed")
                failure = CANNOT_UNDERSTAND if isinstance(request, C_FIND) else PROCESSING_FAILURE
                sentence = f"Answering failed ({type(error).__name__})."
                yield _final(request, failure, sentence, sentence)
                return
            if answer is None:
                return
            yield answer

    def refusal(self, request: Any, status: int, sentence: str) -> Answer:
        """Return the response that refuses a request."""
        return _final(request, status, sentence, sentence)

    # ------------------------------------------------------------------ each service

    def _find(
        self,
        _calling_ae: str,
        request: Any,
        abstract_syntax: str,
        transfer_syntax: str,
        is_canceled: Callable[[], bool],
    ) -> Iterator[Answer]:
        query = read(request.Identifier, transfer_syntax)
        of_tasks = abstract_syntax != STUDY_ROOT_FIND
        found: Iterator[Found | None] = (
            self._finder.tasks(query) if of_tasks else self._finder.studies(query)
        )
        for one in found:
            if is_canceled():
                yield _final(request, CANCELED)
                return
            if one is None:
                yield Answer(None, PENDING)
                continue
            response = _response(request, one.status)
            response.Identifier = write(one.identifier, transfer_syntax)
            yield Answer(response, one.status)
        yield _final(request, SUCCESS)

    def _get(
        self,
        _calling_ae: str,
        request: Any,
        _abstract_syntax: str,
        transfer_syntax: str,
        _is_canceled: Callable[[], bool],
    ) -> Iterator[Answer]:
        status, found = self._changer.get(
            str(request.RequestedSOPInstanceUID or ""), _list(request.AttributeIdentifierList)
        )
        response = _response(request, status)
        response.AttributeList = write(found, transfer_syntax)
        yield Answer(response, status)

    def _set(
        self,
        calling_ae: str,
        request: Any,
        _abstract_syntax: str,
        transfer_syntax: str,
        _is_canceled: Callable[[], bool],
    ) -> Iterator[Answer]:
        changes = read(request.ModificationList, transfer_syntax)
        uid = str(request.RequestedSOPInstanceUID or "")
        yield _final(request, self._changer.set(uid, calling_ae, changes))

    def _act(
        self,
        calling_ae: str,
        request: Any,
        abstract_syntax: str,
        transfer_syntax: str,
        _is_canceled: Callable[[], bool],
    ) -> Iterator[Answer]:
        action = int(request.ActionTypeID or 0)
        # Pull takes tasks up; who watches asks for cancellation, and subscribes (Table CC.2-1).
        if (action == CHANGE_STATE) != (abstract_syntax == PULL):
            raise Refused(NO_SUCH_ACTION, "The service does not know this action.")
        content = request.ActionInformation
        said = read(content, transfer_syntax) if content is not None else Dataset()
        uid = str(request.RequestedSOPInstanceUID or "")
        yield _final(request, self._changer.act(uid, calling_ae, action, said))


def _belongs(kind: type, abstract_syntax: str) -> bool:
    """Say whether a kind of request belongs to a service (PS3.4 Table CC.2-1)."""
    return abstract_syntax in {
        C_FIND: CLASSES,
        N_GET: {PULL, WATCH},
        N_SET: {PULL},
        N_ACTION: {PULL, WATCH},
    }.get(kind, set())


def _list(tags: Any) -> list[Any]:
    if tags is None:
        return []
    return list(tags) if isinstance(tags, list) else [tags]


def _final(request: Any, status: int, comment: str = "", complaint: str = "") -> Answer:
    response = _response(request, status)
    if comment:
        response.ErrorComment = comment[:_LONGEST_COMMENT]
    return Answer(response, status, complaint)


def _response(request: Any, status: int) -> Any:
    """Return the response that belongs to a request, without content."""
    response = type(request)()
    response.MessageIDBeingRespondedTo = request.MessageID
    response.Status = status
    sop_class = getattr(request, "AffectedSOPClassUID", None)
    response.AffectedSOPClassUID = sop_class or getattr(request, "RequestedSOPClassUID", None)
    if not isinstance(request, C_FIND):
        instance = getattr(request, "AffectedSOPInstanceUID", None)
        requested = getattr(request, "RequestedSOPInstanceUID", None)
        response.AffectedSOPInstanceUID = instance or requested
    if isinstance(request, N_ACTION):
        response.ActionTypeID = request.ActionTypeID
    return response
