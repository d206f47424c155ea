"""The worklist, as this room needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from ichnode.domain.lifecycle import Task
from ichnode.domain.tasks import Change, ListedInstance, ReadingTask, Search, TaskReply


class Book(Protocol):
    """Reading tasks; each call is one transaction."""

    def keys(self, search: Search, limit: int) -> list[int]:
        """Return keys of studies on the list, in its order, all seen at one moment."""
        ...

    def listed(self, keys: Sequence[int]) -> list[ReadingTask]:
        """Return the tasks of studies, in the order of their keys."""
        ...

    def get(self, uid: str) -> ReadingTask | None:
        """Return a task by its SOP Instance UID."""
        ...

    def instances(
        self, study_uid: str, series_uids: Iterable[str], limit: int
    ) -> list[ListedInstance]:
        """Return the objects of series of a study."""
        ...

    def take(self, uid: str, transaction_uid: str, by: str) -> TaskReply:
        """Take a task up."""
        ...

    def complete(
        self, uid: str, transaction_uid: str, by: str, is_finished: Callable[[str], bool]
    ) -> TaskReply:
        """Complete a task."""
        ...

    def cancel(
        self, uid: str, transaction_uid: str, by: str, supplement: Callable[[str, Any], str]
    ) -> TaskReply:
        """Cancel a task that the caller has taken up."""
        ...

    def request_cancel(
        self,
        uid: str,
        by: str,
        supplement: Callable[[str, Any], str],
        content: str,
        reachable: frozenset[str],
    ) -> TaskReply:
        """Cancel a task that nobody has taken up, or ask whoever has."""
        ...

    def change(
        self,
        uid: str,
        transaction_uid: str,
        by: str,
        merge: Callable[[str, Task], Change | TaskReply],
    ) -> TaskReply:
        """Set attributes of a task."""
        ...

    def subscribe(self, uid: str | None, ae_title: str, *, locks: bool) -> TaskReply:
        """Tell an AE title of a task from now on, or of all."""
        ...

    def unsubscribe(self, uid: str | None, ae_title: str) -> TaskReply:
        """Tell an AE title no more of a task, or of any."""
        ...

    def suspend(self, ae_title: str) -> TaskReply:
        """Tell an AE title of no task that is yet to come."""
        ...
