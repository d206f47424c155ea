"""A receiver that answers queries, and clients of pynetdicom to ask it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    UnifiedProcedureStepEvent,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepQuery,
    UnifiedProcedureStepWatch,
)

from ichnode.query.answers import Answers
from ichnode.receive.scp import Receiver
from ichnode.service.assembly import Door
from ichnode.settings import NodeSettings, QuerySettings, ReceiveSettings
from ichnode.worklist.worklist import Worklist
from tests.scanner import LIMIT_S, scanner

EXPLICIT = "1.2.840.10008.1.2.1"
STUDY_ROOT, PULL, WATCH, QUERY, PUSH = (
    StudyRootQueryRetrieveInformationModelFind,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepWatch,
    UnifiedProcedureStepQuery,
    UnifiedProcedureStepPush,
)
ALL = (STUDY_ROOT, PULL, WATCH, QUERY)


def query_settings(**settings: Any) -> QuerySettings:
    """Let CT01 and READER ask from this machine."""
    known = {"enabled": True, "calling_ae_titles": ("CT01", "READER"), "networks": ("127.0.0.0/8",)}
    return QuerySettings(**(known | settings))


@contextmanager
def published(
    worklist: Worklist,
    spool: Path,
    *,
    receivers: Sequence[str] = (),
    is_open: Callable[[], bool] = lambda: True,
    receive: dict[str, Any] | None = None,
    **settings: Any,
) -> Iterator[Receiver]:
    """Run a receiver that publishes a worklist."""
    services = Answers(
        worklist.tasks, query_settings(**settings), frozenset(receivers), is_open=is_open
    )
    receiver = Receiver(
        NodeSettings(host_id="query", spool=spool),
        ReceiveSettings(port=0, reserve_bytes=0, drain_s=5, **(receive or {})),
        Door(worklist),
        segment_bytes=1 << 20,
        services=services,
    )
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()


@contextmanager
def client(
    port: int, *classes: str, calling: str = "READER", syntaxes: Sequence[str] = (EXPLICIT,)
) -> Iterator[Any]:
    """Associate as a worklist client."""
    contexts = [(one, syntaxes) for one in classes or ALL]
    with scanner(port, contexts=contexts, calling=calling) as association:
        yield association


def find(association: Any, model: str, **keys: Any) -> tuple[list[Dataset], int, list[int]]:
    """Query; return the matches, the final status, and the pending ones' statuses."""
    return ask(association, model, keyed(**keys))


def keyed(**keys: Any) -> Dataset:
    """A data set of these attributes."""
    query = Dataset()
    query.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


def ask(association: Any, model: str, query: Dataset) -> tuple[list[Dataset], int, list[int]]:
    """Query with a data set."""
    found, pending, final = [], [], -1
    for answer, identifier in association.send_c_find(query, model):
        final = int(answer.Status)
        if final in (0xFF00, 0xFF01):
            pending.append(final)
            found.append(identifier)
    return found, final, pending


def act(association: Any, uid: str, action: int, **said: Any) -> int:
    """N-ACTION; 1 goes to Pull, the others to Watch."""
    answer, _ = association.send_n_action(
        keyed(**said), action, PUSH, uid, meta_uid=PULL if action == 1 else WATCH
    )
    return int(answer.Status)


def change(association: Any, uid: str, **values: Any) -> int:
    """N-SET over Pull."""
    answer, _ = association.send_n_set(keyed(**values), PUSH, uid, meta_uid=PULL)
    return int(answer.Status)


def get(association: Any, uid: str, *tags: int) -> tuple[int, Dataset | None]:
    """N-GET over Pull."""
    answer, found = association.send_n_get(list(tags), PUSH, uid, meta_uid=PULL)
    return int(answer.Status), found


def coded(value: str, meaning: str = "Something") -> Dataset:
    """A code."""
    return keyed_plain(CodeValue=value, CodingSchemeDesignator="99T", CodeMeaning=meaning)


def keyed_plain(**values: Any) -> Dataset:
    """A data set without a character set of its own."""
    found = Dataset()
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found


def performed() -> Dataset:
    """What a completed task must say of its performance."""
    return keyed_plain(
        PerformedProcedureStepStartDateTime="20260301120000",
        PerformedProcedureStepEndDateTime="20260301120500",
        PerformedStationNameCodeSequence=[coded("READER1")],
        PerformedWorkitemCodeSequence=[coded("110005")],
        OutputInformationSequence=[],
    )


class Subscriber:
    """An AE that takes events, and notes them."""

    def __init__(self, title: str = "WATCHER", *, refuses: int = 0) -> None:
        self.events: list[tuple[str, int, Dataset]] = []
        self.changed = threading.Condition()
        self.refuses = refuses
        self._entity = AE(title)
        # The requestor is the provider: roles are negotiated.
        self._entity.add_supported_context(UnifiedProcedureStepEvent, scu_role=True, scp_role=True)

    def __enter__(self) -> Subscriber:
        self._server = self._entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._take)]
        )
        self.port = int(self._server.server_address[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def _take(self, event: Any) -> tuple[int, Dataset | None]:
        with self.changed:
            uid = str(event.request.AffectedSOPInstanceUID)
            self.events.append((uid, int(event.request.EventTypeID), event.event_information))
            self.changed.notify_all()
        return self.refuses, None

    def wait(self, count: int) -> None:
        """Return when so many events came; fail when they do not."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.events) >= count, LIMIT_S), self.events


def encoded(dataset: Dataset) -> BytesIO:
    """A data set in Explicit VR Little Endian."""
    return BytesIO(encode(dataset, False, True))
