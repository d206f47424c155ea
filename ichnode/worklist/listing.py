"""The list as others ask for it: which tasks there are, in which order, and what is in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select

from ichnode.domain.lifecycle import Reception, Task
from ichnode.domain.tasks import (
    ListedInstance,
    ListedSeries,
    ListedStudy,
    ReadingTask,
    Search,
    task_key,
    task_uid,
)
from ichnode.domain.triage import reading_priority
from ichnode.worklist import tables as t
from ichnode.worklist.notices import subscribers
from ichnode.worklist.order import list_ranges
from ichnode.worklist.policy import Policy
from ichnode.worklist.searching import conditions_of
from ichnode.worklist.transactions import Database, Transaction

Held = tuple[t.Study, t.Task]


class Listing:
    """The questions about reading tasks; each is one transaction that writes nothing."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database, self._policy = database, policy

    def keys(self, search: Search, limit: int) -> list[int]:
        """Return keys of studies on the list, in its order, all seen at one moment.

        Parameters
        ----------
        search : Search
            What narrows the list.
        limit : int
            How many at most.
        """
        narrowed = list(conditions_of(search))
        with self._database.reading() as transaction:
            found: list[int] = []
            for conditions in list_ranges(transaction.now, self._policy.waiting_cap):
                if len(found) >= limit:
                    break
                found += transaction.session.scalars(
                    select(t.Study.id)
                    .where(*conditions, *narrowed)
                    .order_by(t.Study.arrived_at, t.Study.id)
                    .limit(limit - len(found))
                )
            return found

    def listed(self, keys: Sequence[int]) -> list[ReadingTask]:
        """Return the tasks of studies, in the order of their keys."""
        with self._database.reading() as transaction:
            return _listed(transaction, keys)

    def get(self, uid: str) -> ReadingTask | None:
        """Return a task by its SOP Instance UID, or None.

        That of a study whose images are purged is gone, unless a subscriber wants it kept.
        """
        with self._database.reading() as transaction:
            found = held_task(transaction, uid, lock=False)
            return _listed(transaction, [found[0].id])[0] if found else None

    def instances(
        self, study_uid: str, series_uids: Iterable[str], limit: int
    ) -> list[ListedInstance]:
        """Return the objects of series of a study, once each, by series and number."""
        with self._database.reading() as transaction:
            rows = transaction.session.execute(
                select(t.Instance.sop_uid, t.Instance.header, t.Series.series_uid)
                .join(t.Series, t.Series.id == t.Instance.series_id)
                .join(t.Study, t.Study.id == t.Series.study_id)
                .where(
                    t.Study.study_uid == study_uid,
                    t.Series.series_uid.in_(list(series_uids)),
                    t.Instance.purged_at.is_(None),
                )
                .order_by(t.Series.id, t.Instance.ordinal)
                .limit(limit)
            )
            found = {
                sop_uid: ListedInstance(
                    sop_uid, header.sop_class_uid, series_uid, header.instance_number
                )
                for sop_uid, header, series_uid in rows
            }
            return list(found.values())


def held_task(transaction: Transaction, uid: str, *, lock: bool = True) -> Held | None:
    """Return a task and its study, whose row is locked; a task without a row is made, not added."""
    key = task_key(uid)
    if key is None:
        return None
    locking: Any = {"key_share": True} if lock else None
    study = transaction.session.get(t.Study, key, with_for_update=locking)
    if study is None:
        return None
    task = transaction.session.get(t.Task, key)
    if task is None:
        task = t.Task(study_id=key, number=0, state=Task.SCHEDULED, performer="", attributes="{}")
    if task_uid(study.study_uid, study.id, task.number) != uid:
        return None
    if study.purged_at is not None and not any(subscribers(transaction, key).values()):
        return None
    return study, task


def _listed(transaction: Transaction, keys: Sequence[int]) -> list[ReadingTask]:
    session = transaction.session
    studies = {one.id: one for one in session.scalars(select(t.Study).where(t.Study.id.in_(keys)))}
    tasks = {
        one.study_id: one
        for one in session.scalars(select(t.Task).where(t.Task.study_id.in_(keys)))
    }
    series: dict[int, list[ListedSeries]] = defaultdict(list)
    rows = session.execute(
        select(
            t.Series.study_id,
            t.Series.series_uid,
            t.Series.modality,
            t.Series.series_number,
            t.Series.series_description,
            t.Series.sop_count,
            t.Series.reception,
        )
        .where(t.Series.study_id.in_(keys))
        .order_by(t.Series.id)
    )
    for study_id, uid, modality, number, description, count, reception in rows:
        arriving = reception is Reception.ARRIVING
        series[study_id].append(ListedSeries(uid, modality, number, description, count, arriving))
    return [
        _task(studies[key], tasks.get(key), tuple(series[key])) for key in keys if key in studies
    ]


def _task(study: t.Study, task: t.Task | None, series: tuple[ListedSeries, ...]) -> ReadingTask:
    listed = ListedStudy(
        key=study.id,
        study_uid=study.study_uid,
        patient_name=study.patient_name,
        patient_id=study.patient_id,
        issuer_of_patient_id=study.issuer_of_patient_id,
        patient_birth_date=study.patient_birth_date,
        patient_sex=study.patient_sex,
        accession_number=study.accession_number,
        study_date=study.study_date,
        study_time=study.study_time,
        study_description=study.study_description,
        ordered_priority=study.ordered_priority,
        band=study.band,
        sentence=study.sentence,
        arrived_at=study.arrived_at,
        series=series,
    )
    said = task.priority if task is not None else None
    return ReadingTask(
        uid=task_uid(study.study_uid, study.id, task.number if task is not None else 0),
        study=listed,
        state=task.state if task is not None else Task.SCHEDULED,
        priority=said or reading_priority(study.band, study.ordered_priority),
        attributes=task.attributes if task is not None else "{}",
        changed_at=task.changed_at if task is not None else study.arrived_at,
    )
