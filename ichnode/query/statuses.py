"""Statuses of the query services, by the names of the standard.

References
----------
DICOM PS3.4 CC.2.1.3 to CC.2.8.3 and C.4.1.1.4; PS3.7 annex C
"""

from __future__ import annotations

from ichnode.domain.tasks import TaskReply

SUCCESS = 0x0000
NOT_ALL_ATTRIBUTES = 0x0001  # "Requested optional Attributes are not supported"
CANCELED = 0xFE00
PENDING, PENDING_WITHOUT_SOME_KEYS = 0xFF00, 0xFF01

PROCESSING_FAILURE = 0x0110
NO_SUCH_ATTRIBUTE = 0x0105
INVALID_ATTRIBUTE_VALUE = 0x0106
INVALID_ARGUMENT = 0x0115
UNRECOGNISED_OPERATION = 0x0211
NO_SUCH_ACTION = 0x0123
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000

LOCK_NOT_GRANTED = 0xB301
ALREADY_CANCELED = 0xB304
ALREADY_COMPLETED_WARNING = 0xB306
NO_LONGER_TO_BE_UPDATED = 0xC300
WRONG_TRANSACTION_UID = 0xC301
ALREADY_IN_PROGRESS = 0xC302
ONLY_BY_CREATION = 0xC303
UNFINISHED = 0xC304
NO_SUCH_TASK = 0xC307
UNKNOWN_RECEIVER = 0xC308
NOT_IN_PROGRESS = 0xC310
ALREADY_COMPLETED = 0xC311
NO_PERFORMER = 0xC312
NOT_FOR_THIS_INSTANCE = 0xC314

OF_REPLY: dict[TaskReply, int] = {
    TaskReply.DONE: SUCCESS,
    TaskReply.UNKNOWN: NO_SUCH_TASK,
    TaskReply.CLOSED: NO_LONGER_TO_BE_UPDATED,
    TaskReply.WRONG_TRANSACTION: WRONG_TRANSACTION_UID,
    TaskReply.ALREADY_TAKEN: ALREADY_IN_PROGRESS,
    TaskReply.NOT_TAKEN: NOT_IN_PROGRESS,
    TaskReply.ALREADY_COMPLETED: ALREADY_COMPLETED_WARNING,
    TaskReply.ALREADY_CANCELED: ALREADY_CANCELED,
    TaskReply.UNFINISHED: UNFINISHED,
    TaskReply.NO_PERFORMER: NO_PERFORMER,
    TaskReply.LOCK_NOT_GRANTED: LOCK_NOT_GRANTED,
}


class Refused(Exception):
    """A request that cannot be carried out.

    Parameters
    ----------
    status : int
        For the asker.
    sentence : str
        For people, without patient data.
    is_hostile : bool
        Whether a person should see it: it is no ordinary course of events.
    """

    def __init__(self, status: int, sentence: str, *, is_hostile: bool = True) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.is_hostile = status, sentence, is_hostile
