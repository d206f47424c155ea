"""Who still needs to be told: pure functions over what people have seen and others were told.

An alert moves a person to look. Once somebody has looked, the same alert is noise, and noise makes
people stop listening. A new finding is no noise, whoever looked before it was there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from ichnode.domain.lifecycle import Delivery


class Seen(Enum):
    """How far a person has got with a study."""

    OPENED = "opened"  # the images are, or were, in front of somebody
    REPORTED = "reported"  # somebody has said what is in them

    @property
    def stage(self) -> int:
        """The later, the greater."""
        return (Seen.OPENED, Seen.REPORTED).index(self)


PENDING = frozenset((Delivery.WAITING, Delivery.DUE, Delivery.WITHHELD, Delivery.FAILED))
"""Deliveries that may still be made."""


def is_needed(how: Seen, seen_at: datetime, judged_at: datetime, images_at: datetime) -> bool:
    """Say whether an alert is needed although a person has seen the study.

    Who opened a study saw the verdict of that moment: what is judged later is news, such as a
    positive after a negative, and is told. Who reported it has spoken about every image that was
    there: what the model says of these is told no more, whenever it says it. Images that came after
    the report were read by nobody, and are told.

    Parameters
    ----------
    how, seen_at : Seen, datetime
        What a person did, and when.
    judged_at : datetime
        When the verdict was reached that the alert tells of.
    images_at : datetime
        When the last of the images came that it rests on.
    """
    return (judged_at if how is Seen.OPENED else images_at) > seen_at


@dataclass(frozen=True, slots=True)
class Told:
    """What one destination was, or is to be, told of a study in one revision of its verdict."""

    revision: int
    withdrawn: bool  # it takes back what was told before
    state: Delivery
    attempts: int

    @property
    def may_be_known(self) -> bool:
        """Whether the peer may know; an answer that got lost says nothing of the message."""
        return self.state is Delivery.DELIVERED or self.attempts > 0


def standing(history: Iterable[Told]) -> Told | None:
    """Return the alert that a destination may still believe, or None.

    Parameters
    ----------
    history : iterable of Told
        Of one study, destination and kind, in any order.
    """
    believed: Told | None = None
    for one in sorted(history, key=lambda told: told.revision):
        if not one.withdrawn:
            believed = one if one.may_be_known else believed
        elif one.state is Delivery.DELIVERED or one.state in PENDING:
            believed = None
    return believed
