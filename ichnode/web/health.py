"""Is the node well? Named checks for a monitor, each a word and a sentence, never a patient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from ichnode.domain.errors import Transient
from ichnode.web.views import HeartbeatRow, Heartbeats, NotReceived, StrandedRow, Views

ROLES = ("receive", "infer", "deliver", "housekeep")
"""Whose heartbeat is looked for in every node; the web role is the one that answers."""

SILENT_S = 45.0  # four beats and a half: one lost beat is no alarm
RECORDED_S = 60.0  # an image that is received and not recorded for so long needs a person
POSITIVE_S = 300.0  # a positive that is undelivered for so long needs a person


@dataclass(frozen=True, slots=True)
class Check:
    """One answer."""

    name: str
    ok: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Health:
    """All answers together."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check is."""
        return all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, object]:
        """Return the answers for a monitor."""
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}


def examine(
    views: Views,
    heartbeats: Heartbeats,
    free_bytes: Callable[[], int],
    reserve_bytes: int,
    now: datetime,
    roles: Sequence[str] = ROLES,
) -> Health:
    """Ask what costs nothing: the worklist, the disk, the roles, the positives."""
    checks = [_disk(free_bytes, reserve_bytes)]
    try:
        checks += _of_worklist(views, heartbeats, now, roles)
    except Transient:
        checks.append(Check("worklist", False, "The database does not answer."))
    return Health(tuple(checks))


def _of_worklist(
    views: Views, heartbeats: Heartbeats, now: datetime, roles: Sequence[str]
) -> Iterator[Check]:
    beats = heartbeats()
    yield Check("worklist", True, "The database answers.")
    for role in roles:
        yield _role(role, beats)
    yield _backlog(beats)
    yield from _model(beats)
    yield _positives(views.oldest_undelivered_positive(), now)
    yield from _stranded(views.stranded())
    yield from _arrivals(views.not_received())
    yield from _commitments(views.commitments())


def _disk(free_bytes: Callable[[], int], reserve_bytes: int) -> Check:
    try:
        free = free_bytes()
    except OSError as error:
        return Check("disk", False, f"The spool cannot be looked at: {error.strerror}.")
    if free < reserve_bytes:
        return Check("disk", False, f"{free >> 20} MiB are free: new images are refused.")
    return Check("disk", True, f"{free >> 30} GiB are free.")


def _role(role: str, beats: Sequence[HeartbeatRow]) -> Check:
    ages = [beat.age_s for beat in beats if beat.role == role]
    if not ages:
        return Check(role, False, "Never heard of.")
    alive = [beat for beat in beats if beat.role == role and beat.age_s <= SILENT_S]
    failing = sorted({str(job) for beat in alive for job in beat.detail.get("failing", ())})
    if failing:
        return Check(role, False, f"Failing: {', '.join(failing)}.")
    age_s = min(ages)
    return Check(role, age_s <= SILENT_S, f"Last heard of {age_s:.0f} s ago.")


def _backlog(beats: Sequence[HeartbeatRow]) -> Check:
    """Fail where received images do not get into the list: nobody would miss them there."""
    alive = [beat.detail for beat in beats if beat.age_s <= SILENT_S]
    oldest_s = max((float(detail.get("backlog_oldest_s", 0.0)) for detail in alive), default=0.0)
    if oldest_s <= RECORDED_S:
        return Check("backlog", True, "What is received gets into the list.")
    count = sum(int(detail.get("backlog", 0)) for detail in alive)
    sentence = f"{count} received images are not in the list yet, the oldest for {oldest_s:.0f} s."
    return Check("backlog", False, sentence)


def warnings_of(beats: Sequence[HeartbeatRow]) -> list[str]:
    """Return what people are to know of model and engine, as the processes alive say it.

    What the watch over a new model finds different, a champion that cannot be used, and a better
    engine that failed.
    """
    alive = [beat for beat in beats if beat.age_s <= SILENT_S]
    return sorted({str(one) for beat in alive for one in beat.detail.get("warnings", ())})


def _model(beats: Sequence[HeartbeatRow]) -> Iterator[Check]:
    """Pass on what is said of model and engine: a warning, and no reason to wake anybody."""
    if warnings := warnings_of(beats):
        yield Check("model", True, f"Warning: {' '.join(warnings)}")


def _arrivals(found: NotReceived) -> Iterator[Check]:
    """Warn of studies that never came, and of an archive that could not be asked.

    No reason to wake anybody through a restart: `ichnode_not_received` is there for an alarm.
    """
    warnings = []
    if found.rows:
        warnings.append(
            f"Head CTs of the PACS that did not arrive, or not whole: {len(found.rows)}."
        )
    warnings += [
        f"{one.peer} was not compared: {one.error}" for one in found.comparisons if one.error
    ]
    if warnings:
        yield Check("arrivals", True, f"Warning: {' '.join(warnings)}")
    elif found.comparisons:
        yield Check("arrivals", True, "The last comparison with the PACS found nothing missing.")


def _stranded(rows: Sequence[StrandedRow]) -> Iterator[Check]:
    """Say which destinations are missed; whether it is urgent, the check of the positives says."""
    if rows:
        sentences = " ".join(row.sentence for row in rows)
        yield Check("destinations", True, f"Warning: {sentences}")


def _commitments(counts: Mapping[tuple[str, str], int]) -> Iterator[Check]:
    """Warn of destinations that do not answer for what they were given."""
    words = {"refused": "does no storage commitment", "failed": "does not answer for documents"}
    warnings = [
        f"{destination} {words[state]}: {count}."
        for (destination, state), count in sorted(counts.items())
        if state in words and count
    ]
    if warnings:
        yield Check("commitment", True, f"Warning: {' '.join(warnings)}")


def _positives(since: datetime | None, now: datetime) -> Check:
    if since is None:
        return Check("positives", True, "Every positive is delivered.")
    age_s = (now - since).total_seconds()
    sentence = f"The oldest undelivered positive is {age_s:.0f} s old."
    return Check("positives", age_s <= POSITIVE_S, sentence)
