"""What people say is true of a study, and what follows when several of them do.

A label says whether a kind of haemorrhage is there; "any" is there exactly when one of the kinds
is. What a model says is never a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from ichnode.domain.findings import LABELS, Label, Presence

LabelSource = Literal["adjudicated", "reader", "report"]
SOURCES: tuple[LabelSource, ...] = get_args(LabelSource)
"""Who may say what is true, the most trusted first: several readers who agreed, one reader who
looked at the images, the report of the study."""

ANY, *_KINDS = LABELS
KINDS: tuple[Label, ...] = tuple(_KINDS)


class Contradiction(ValueError):
    """Labels that cannot all be true; the message says why."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is taken to be true of a study or of one of its series.

    Attributes
    ----------
    labels : tuple of (bool or None)
        In the order of `LABELS`; None where nobody said.
    source : str
        Who decided "any"; "" where nobody did.
    """

    labels: tuple[bool | None, ...] = (None,) * len(LABELS)
    source: LabelSource | Literal[""] = ""

    def of(self, label: Label) -> bool | None:
        """Return what is known of one label."""
        return self.labels[LABELS.index(label)]

    @property
    def positive(self) -> bool | None:
        """Whether there is any haemorrhage; None where nobody said."""
        return self.labels[0]


@dataclass(frozen=True, slots=True)
class Statement:
    """What one source said last of one label."""

    label: Label
    presence: Presence
    source: LabelSource


def completed(stated: Mapping[Label, bool]) -> dict[Label, bool]:
    """Return labels with what follows from them.

    A kind that is there makes "any" so; no haemorrhage, or none of the kinds, makes all absent.

    Raises
    ------
    Contradiction
        When they cannot all be true.
    """
    whole = dict(stated)
    there = [kind for kind in KINDS if whole.get(kind)]
    none_of_all = all(whole.get(kind) is False for kind in KINDS)
    if there and whole.get(ANY) is False:
        raise Contradiction(f"{there[0]} is present and any is absent")
    if none_of_all and whole.get(ANY):
        raise Contradiction("any is present and all five kinds are absent")
    if there:
        whole[ANY] = True
    elif none_of_all or whole.get(ANY) is False:
        whole |= dict.fromkeys(LABELS, False)
    return whole


def superseding(
    before: Mapping[Label, Presence], stated: Mapping[Label, bool]
) -> dict[Label, Presence]:
    """Return what changes when a source that said something says something else.

    Kinds of which it says nothing this time stay as they were, unless nothing would be left that
    could be present: then they are undetermined.

    Parameters
    ----------
    before : mapping
        What this source said last of each label.
    stated : mapping
        What it says now, `completed`.
    """
    now: dict[Label, Presence] = {label: _presence(there) for label, there in stated.items()}
    merged = {**before, **now}
    if merged.get(ANY) is Presence.PRESENT and all(
        merged.get(kind) is Presence.ABSENT for kind in KINDS
    ):
        now |= {kind: Presence.UNDETERMINED for kind in KINDS if kind not in now}
    return {label: value for label, value in now.items() if before.get(label) is not value}


def truth_of(statements: Iterable[Statement]) -> Truth:
    """Return what is true, given what each source said last.

    The most trusted source that says whether there is any haemorrhage decides that. It also decides
    the kinds that it speaks of; the others may add kinds, as long as that fits.
    """
    said = {
        (one.source, one.label): one.presence is Presence.PRESENT
        for one in statements
        if one.presence is not Presence.UNDETERMINED
    }
    decides = next((source for source in SOURCES if (source, ANY) in said), None)
    found: dict[Label, bool] = {
        label: said[source, label]
        for source in reversed(SOURCES)
        for label in LABELS
        if (source, label) in said
    }
    if decides is None:
        return Truth(tuple(found.get(label) for label in LABELS))
    mine: dict[Label, bool] = {
        label: there for (source, label), there in said.items() if source == decides
    }
    if mine[ANY] is False:
        return Truth((False,) * len(LABELS), decides)
    found |= mine
    if not any(found.get(kind, True) for kind in KINDS):
        found = mine
    return Truth(tuple(found.get(label) for label in LABELS), decides)


def _presence(there: bool) -> Presence:
    return Presence.PRESENT if there else Presence.ABSENT
