"""Words about storage commitment: whether a peer answers for what it was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ichnode.domain.work import DeliveryItem


class Commitment(Enum):
    """What is known of one delivered document."""

    DUE = "due"  # to be asked for
    ASKED = "asked"  # the peer has taken the question and not answered it yet
    COMMITTED = "committed"  # the peer answers for it
    REFUSED = "refused"  # the peer does not do this: delivered is all that can be said
    FAILED = "failed"  # the peer says again and again that it has not got it: a person must look


SAFE = (Commitment.COMMITTED, Commitment.REFUSED)
"""In these what a document was made from may be purged; REFUSED with a warning."""


@dataclass(frozen=True, slots=True)
class CommitmentWork:
    """What one peer is asked for in one transaction.

    Attributes
    ----------
    again : frozenset of int
        Deliveries that the peer has lost: they are stored anew first, the same bytes.
    """

    destination: str
    transaction_uid: str
    items: tuple[DeliveryItem, ...]
    again: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What a peer reported (PS3.4 J.3.3), by SOP Instance UID.

    Attributes
    ----------
    lost : mapping of str to int
        Failure Reason (0008,1197); 0 where it was not told.
    """

    transaction_uid: str
    kept: frozenset[str]
    lost: Mapping[str, int]
