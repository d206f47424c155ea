"""N-EVENT-REPORT: subscribers are told, over an association that we open to them.

References
----------
DICOM PS3.4 CC.2.4 (events of the UPS Event SOP class)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import structlog
from pydicom import Dataset

from ichnode.domain.errors import PeerFailure
from ichnode.domain.tasks import NoticeItem
from ichnode.domain.work import (
    Acknowledged,
    DeliveryResult,
    Dispatched,
    NoticeWork,
    Undelivered,
)
from ichnode.query.task_objects import PUSH

log = structlog.get_logger(__name__)

EVENT = "1.2.840.10008.5.1.4.34.6.4"
_MAY_PASS = frozenset((0x0110, 0x0213))  # processing failure, resource limitation


class NotifyStage:
    """Tells one subscriber what it is to be told, in order.

    Parameters
    ----------
    connect : callable
        Opens an association to the subscriber, as provider of UPS Event; raises PeerFailure.
    """

    def __init__(self, connect: Callable[[], AbstractContextManager[Any]]) -> None:
        self._connect = connect

    def handle(self, work: NoticeWork) -> Dispatched:
        """Tell as much as the subscriber hears; the rest comes again."""
        results: dict[int, DeliveryResult] = {}
        try:
            with self._connect() as association:
                for item in work.items:
                    result = _tell(association, item)
                    results[item.notice_id] = result
                    if isinstance(result, Undelivered) and not result.permanent:
                        break  # what follows must not come before it
        except PeerFailure as error:
            log.warning("subscriber.not_told", destination=work.destination, error=str(error))
        return Dispatched(results)


def _tell(association: Any, item: NoticeItem) -> DeliveryResult:
    try:
        answer, _ = association.send_n_event_report(
            Dataset.from_json(item.content),
            item.event_type,
            PUSH,
            item.task_uid,
            meta_uid=EVENT,
        )
    except (RuntimeError, ValueError):
        return Undelivered("The subscriber closed the connection.")
    if "Status" not in answer:
        return Undelivered("The subscriber did not answer.")
    status = int(answer.Status)
    if status == 0 or status in (0x0001, 0x0107, 0x0116) or 0xB000 <= status <= 0xBFFF:
        return Acknowledged(status)
    sentence = f"The subscriber refused with status 0x{status:04X}."
    return Undelivered(sentence, status, permanent=status not in _MAY_PASS)
