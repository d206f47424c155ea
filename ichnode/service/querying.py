"""The query room, given the worklist, the receiver's door and the ways to the subscribers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from ichnode.domain.errors import ModelUnusable, WorklistDown
from ichnode.nets.registry import Registry
from ichnode.query.answers import Answers
from ichnode.query.notifying import EVENT, NotifyStage
from ichnode.send.association import EXPLICIT_LE, IMPLICIT_LE, Peer, associate
from ichnode.settings import Settings, SubscriberSettings
from ichnode.worklist.notices import NoticeQueue
from ichnode.worklist.worklist import Worklist

KNOWN_FOR_S = 5.0


class Publishing:
    """Whether the list may leave this machine: once the model that runs is commissioned."""

    def __init__(self, settings: Settings, worklist: Worklist) -> None:
        self._settings, self._worklist = settings, worklist
        self._lock = threading.Lock()
        self._known, self._until = False, 0.0

    def __call__(self) -> bool:
        """Say so; asked at most every few seconds."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._known = _is_commissioned(self._settings, self._worklist)
                self._until = time.monotonic() + KNOWN_FOR_S
            return self._known


def query_services(settings: Settings, worklist: Worklist) -> Answers | None:
    """Return what answers queries at the receiver's door; None where nobody may ask."""
    if not settings.query.enabled:
        return None
    return Answers(
        worklist.tasks,
        settings.query,
        receivers=frozenset(one.ae_title.strip() for one in settings.subscribers),
        is_open=Publishing(settings, worklist),
    )


def notifying(settings: Settings, worklist: Worklist) -> Iterator[tuple[NoticeQueue, NotifyStage]]:
    """Yield the queue and the stage of each subscriber; none where nobody may ask.

    What those subscribed to who are subscribers no longer is forgotten.
    """
    publishing = Publishing(settings, worklist)
    subscribers = settings.subscribers if settings.query.enabled else ()
    worklist.tasks.keep_subscribers(frozenset(one.ae_title.strip() for one in subscribers))
    for one in subscribers:
        is_open: Callable[[], bool] = (lambda: True) if one.is_loopback else publishing
        yield (
            worklist.tasks.notices(one.ae_title.strip(), is_open),
            NotifyStage(partial(_associate, one, settings.receive.ae_title)),
        )


def _associate(one: SubscriberSettings, calling_ae: str) -> AbstractContextManager[Any]:
    peer = Peer(one.host, one.port, one.ae_title, calling_ae, one.timeout_s)
    contexts = [(EVENT, EXPLICIT_LE), (EVENT, IMPLICIT_LE)]
    return associate(peer, contexts, serving=[EVENT])


def _is_commissioned(settings: Settings, worklist: Worklist) -> bool:
    try:
        champion = Registry(settings.infer.models).find("champion").model_uid
        return any(one.model_uid == champion for one in worklist.commissions())
    except (ModelUnusable, WorklistDown):
        return False
