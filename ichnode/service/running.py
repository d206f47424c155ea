"""Who is alive, and which models read at this moment: the champion, or what goes on without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ichnode.nets.registry import Entry, Registry

if TYPE_CHECKING:
    from ichnode.worklist.rows import Pulse
    from ichnode.worklist.worklist import Worklist

FRESH_S = 60.0  # an older heartbeat is of a process that is gone


@dataclass(frozen=True, slots=True)
class Running:
    """The models that read.

    Attributes
    ----------
    models : sequence of Entry
        One, unless infer processes differ.
    refused : bool
        Whether any of them reads because the champion cannot be used.
    """

    models: Sequence[Entry]
    refused: bool

    @property
    def words(self) -> str:
        """Names and versions, for people."""
        names = sorted(f"{one.manifest.name} {one.manifest.version}" for one in self.models)
        return " and ".join(names) + (" (the champion cannot be used)" if self.refused else "")

    def is_commissioned(self, worklist: Worklist) -> bool:
        """Say whether the outputs are open for each of them."""
        accepted = {one.model_uid for one in worklist.commissions()}
        return all(one.model_uid in accepted for one in self.models)


def running(registry: Registry, worklist: Worklist) -> Running:
    """Return what reads, as the infer processes alive say it; the champion where none objects.

    A champion that is new reads from the next study on, and counts as running until then.

    Raises
    ------
    ModelUnusable
        When there is no usable champion, or what reads has left the registry.
    WorklistDown
        When the database does not answer.
    """
    beats = [one.detail for one in fresh_beats(worklist) if one.role == "infer"]
    if not any(one.get("refuses_champion") for one in beats):
        return Running([registry.find("champion")], refused=False)
    uids = sorted({str(one["model_uid"]) for one in beats if "model_uid" in one})
    return Running([registry.find(uid) for uid in uids], refused=True)


def fresh_beats(worklist: Worklist) -> list[Pulse]:
    """Return the last heartbeats of the processes that are alive."""
    return [beat for beat in worklist.views.heartbeats() if beat.age_s < FRESH_S]
