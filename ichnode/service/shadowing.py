"""The shadow in the infer role: which challenger reads, and the loop that it reads in."""

from __future__ import annotations

import threading
from datetime import timedelta

import structlog

from ichnode.domain.errors import ModelUnusable, WorklistDown
from ichnode.domain.work import ShadowOutcome, ShadowWork
from ichnode.infer.shadow import ShadowStage
from ichnode.nets.registry import Registry
from ichnode.service.loop import StageLoop
from ichnode.service.promoting import challenged_at
from ichnode.settings import Settings
from ichnode.worklist.shadows import Challenger, ShadowQueue
from ichnode.worklist.worklist import Worklist

log = structlog.get_logger(__name__)

POLL_S = 1.0


class FollowedChallenger:
    """Says which model reads in the shadow now, without looking at the registry in vain."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._stamp: object = ()
        self._found: Challenger | None = None

    def __call__(self) -> Challenger | None:
        """Return the challenger of this moment, or None."""
        stamp = self._registry.stamp
        if stamp != self._stamp:
            self._stamp, self._found = stamp, self._look()
        return self._found

    def _look(self) -> Challenger | None:
        try:
            entry = self._registry.challenger()
        except ModelUnusable as error:
            log.error("model.refused", error=str(error))
            return None
        return None if entry is None else Challenger(entry.model_uid, challenged_at(entry))


def shadow_loop(
    settings: Settings, worklist: Worklist, owner: str, stop: threading.Event
) -> StageLoop[ShadowWork, ShadowOutcome]:
    """Return the loop in which a challenger reads, where there is one."""
    follow = FollowedChallenger(Registry(settings.infer.models))
    queue = worklist.shadow(lambda: _usable(follow(), stage))
    stage = ShadowStage(
        settings.infer.models,
        settings.node.spool,
        device=settings.infer.device,
        busy=lambda: stop.is_set() or _busy(queue),
    )
    return StageLoop(
        "shadow",
        queue,
        stage,
        owner=owner,
        stop=stop,
        lease=timedelta(seconds=settings.queue.lease_s),
        poll_s=POLL_S,
    )


def _busy(queue: ShadowQueue) -> bool:
    try:
        return queue.busy()
    except WorklistDown:
        return True  # nobody can say: give way


def _usable(challenger: Challenger | None, stage: ShadowStage) -> Challenger | None:
    """Leave alone what could not be loaded: each series more would fail as the first did."""
    if challenger is not None and challenger.model_uid == stage.unusable:
        return None
    return challenger
