"""Studies that never arrived: the archive is asked what it has, and what is not here is shown.

Only a comparison that went well from end to end says that nothing is missing. What was understood
before something went wrong is entered all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import structlog

from ichnode.domain.clock import Clock, SystemClock
from ichnode.domain.errors import ConfigurationError, PeerFailure
from ichnode.domain.holdings import Expected, HeadRule, HeldStudy, days_between
from ichnode.domain.ids import split_peer
from ichnode.send.archive import MOST_ANSWERS, Inquiry, fetch, inquire
from ichnode.send.association import Peer
from ichnode.settings import DestinationSettings, Settings
from ichnode.worklist.worklist import Worklist

log = structlog.get_logger(__name__)

SLACK = timedelta(hours=1)  # of the modalities' clocks, and of the night when summer time ends
FETCH_BATCH = 20  # studies that are asked for after one comparison


class Unreconciled(PeerFailure):
    """The archive could not be asked, or not to the end."""


@dataclass(slots=True)
class Held:
    """What the archive told, as far as it got."""

    studies: int = 0
    expected: list[Expected] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, problem: str) -> None:
        """Keep a problem, if it is one."""
        if problem:
            self.problems.append(problem)

    @property
    def problem(self) -> str:
        """What went wrong, each sentence once."""
        return " ".join(dict.fromkeys(self.problems))


def archive_of(settings: Settings) -> tuple[str, Peer]:
    """Return the name and the address of the archive that is asked.

    Raises
    ------
    ConfigurationError
        When none is configured, or it is no DICOM destination.
    """
    asked, ours = settings.reconcile, settings.receive.ae_title
    if not asked.peer:
        raise ConfigurationError("Whom to ask is not configured: set reconcile.peer.")
    for one in settings.outputs:
        if one.name == asked.peer and isinstance(one, DestinationSettings):
            return one.name, Peer(one.host, one.port, one.ae_title, ours, asked.timeout_s)
    split = split_peer(asked.peer)
    if split is None:
        known = ", ".join(d.name for d in settings.destinations) or "none is configured"
        raise ConfigurationError(
            f"reconcile.peer {asked.peer!r} is no DICOM destination ({known}) "
            "and not of the form AE@HOST:PORT."
        )
    ae_title, host, port = split
    return asked.peer, Peer(host, port, ae_title, ours, asked.timeout_s)


def _counted(inquiry: Inquiry, held: Held, expected: Expected) -> Expected:
    """Count the images of series whose number the archive does not tell."""
    counts = dict(expected.series)
    for uid in [uid for uid, count in counts.items() if count is None]:
        if not inquiry.is_open:
            break
        answers = inquiry.images(expected.study.study_uid, uid)
        held.note(answers.problem)
        if not answers.problem:
            counts[uid] = len(answers.rows)
    return replace(expected, series=counts)


class Reconciliation:
    """Compares what an archive has with what came here.

    Parameters
    ----------
    settings : Settings
        Whom to ask, for what, and what to do about it.
    worklist : Worklist
        Knows what came.
    stopped : callable
        Says that the process is about to end.
    clock : Clock, optional
        Tells the time of this host.
    most : int
        Answers that are taken to one question.

    Raises
    ------
    ConfigurationError
        When nobody can be asked.
    """

    def __init__(
        self,
        settings: Settings,
        worklist: Worklist,
        *,
        stopped: Callable[[], bool] = lambda: False,
        clock: Clock | None = None,
        most: int = MOST_ANSWERS,
    ) -> None:
        self.name, self._peer = archive_of(settings)
        self._settings, self._worklist = settings.reconcile, worklist
        self._us = settings.reconcile.move_destination or settings.receive.ae_title
        self._stopped, self._clock, self._most = stopped, clock or SystemClock(), most
        self._rule = HeadRule(
            frozenset(part.strip().upper() for part in self._settings.body_parts),
            tuple(re.compile(one, re.IGNORECASE) for one in self._settings.patterns),
            self._settings.least_images,
        )

    def reconcile(self) -> int:
        """Compare, and fetch where that is wished for; a job of housekeeping.

        Returns
        -------
        int
            How many studies are missing, or parts of them.

        Raises
        ------
        Unreconciled
            When the archive could not be asked to the end.
        """
        problem = self.compare()
        fetched = self.fetch() if self._settings.fetch else []
        missing = len(self._worklist.views.not_received().rows)
        say = log.warning if problem or missing else log.info
        say(
            "archive.compared",
            peer=self.name,
            missing=missing,
            fetched=sum(not why for _, why in fetched),
            error=problem or None,
        )
        if problem:
            raise Unreconciled(problem)
        return missing

    def compare(self, hours: float | None = None) -> str:
        """Ask, and enter what is missing.

        Parameters
        ----------
        hours : float, optional
            How far back; as configured where left out.

        Returns
        -------
        str
            Why the archive could not be asked to the end; empty where it could.
        """
        held = Held()
        try:
            with inquire(self._peer, most=self._most) as inquiry:
                self._ask(inquiry, held, self._settings.hours if hours is None else hours)
        except PeerFailure as failure:
            held.problems.append(str(failure))
        every = self._settings.every_minutes
        self._worklist.reconciling.compare(
            self.name,
            held.expected,
            grace=timedelta(minutes=self._settings.grace_minutes),
            studies=held.studies,
            problem=held.problem,
            again_after=timedelta(minutes=every) if every else None,
            whole_studies=self._settings.whole_studies,
        )
        return held.problem

    def fetch(self) -> list[tuple[str, str]]:
        """Have the archive send what is missing; what comes is received like everything.

        Returns
        -------
        list of (str, str)
            Study Instance UID, and why it will not come; empty where it was sent.
        """
        done = []
        wait = timedelta(minutes=self._settings.grace_minutes)
        reconciling = self._worklist.reconciling
        for uid in reconciling.to_fetch(self.name, again_after=wait, limit=FETCH_BATCH):
            if self._stopped():
                break
            try:
                problem = fetch(self._peer, uid, self._us).problem
            except PeerFailure as failure:
                problem = str(failure)
            reconciling.fetched(uid, problem)
            done.append((uid, problem))
        return done

    def _ask(self, inquiry: Inquiry, held: Held, hours: float) -> None:
        until = self._local_now() - timedelta(minutes=self._settings.grace_minutes)
        since = until - timedelta(hours=hours) - SLACK
        for study in self._studies(inquiry, held, since, until):
            if self._stopped():
                held.problems.append("The comparison was cut short by a stop.")
                return
            held.studies += 1
            if inquiry.is_open:  # else what is known of the study must do
                answers = inquiry.series(study.study_uid)
                study = replace(study, series=answers.rows)
                held.note(answers.problem)
            if expected := self._rule.expected(study):
                held.expected.append(_counted(inquiry, held, expected))

    def _studies(
        self, inquiry: Inquiry, held: Held, since: datetime, until: datetime
    ) -> Iterator[HeldStudy]:
        """Yield the CT studies that began in a time, each once; keys may have been ignored."""
        seen: set[str] = set()
        for date, times in days_between(since, until):
            # By the whole day first: some archives leave out studies whose time they do not know.
            answers = inquiry.studies(date)
            if answers.too_many and inquiry.is_open:
                answers = inquiry.studies(date, times)
            held.note(answers.problem)
            for study in answers.rows:
                began = study.began
                outside = began is not None and not since <= began <= until
                if not outside and study.may_be_ct and study.study_uid not in seen:
                    seen.add(study.study_uid)
                    yield study
            if not inquiry.is_open:
                held.note("The peer ended the association before it was asked everything.")
                return

    def _local_now(self) -> datetime:
        """Return the time on the wall where the scanners are."""
        zone = ZoneInfo(self._settings.time_zone) if self._settings.time_zone else None
        return self._clock.now().astimezone(zone).replace(tzinfo=None)
