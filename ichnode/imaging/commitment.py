"""The data sets of storage commitment, written and read tolerantly.

References
----------
DICOM PS3.4 J.3.2 (N-ACTION), J.3.3 (N-EVENT-REPORT: type 1 all kept, type 2 some are not).
"""

from __future__ import annotations

from collections.abc import Iterable

from pydicom import Dataset

from ichnode.domain.commitment import CommitmentReport
from ichnode.domain.ids import is_uid
from ichnode.imaging import values

PUSH_MODEL = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"

_TRANSACTION, _SOP_UID, _REASON = 0x00081195, 0x00081155, 0x00081197
_ALL_KEPT, _SOME_LOST = 1, 2


def request_data(transaction_uid: str, references: Iterable[tuple[str, str]]) -> Dataset:
    """Return what is asked: (SOP class, SOP instance) of each object."""
    asked = Dataset()
    asked.TransactionUID = transaction_uid
    asked.ReferencedSOPSequence = [_reference(*one) for one in references]
    return asked


def _reference(sop_class_uid: str, sop_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_uid
    return item


def read_report(event_type: int | None, told: Dataset) -> CommitmentReport | None:
    """Read a report; None when it is of no type that there is, or names no transaction.

    What is named as kept and as lost is lost.
    """
    transaction_uid = values.text(told, _TRANSACTION)
    if event_type not in (_ALL_KEPT, _SOME_LOST) or not is_uid(transaction_uid):
        return None
    lost = {
        values.text(item, _SOP_UID): values.integer(item, _REASON) or 0
        for item in told.get("FailedSOPSequence") or ()
    }
    kept = {values.text(item, _SOP_UID) for item in told.get("ReferencedSOPSequence") or ()}
    return CommitmentReport(transaction_uid, frozenset(kept - lost.keys()), lost)
