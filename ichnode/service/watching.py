"""The watch over a new champion: is anything different since it runs?

Compared are the studies since the promotion with those of the time before: how many alerts, how
many failures, how often alerts were right where people labelled them, and which scanners send what.
It warns and suggests; only where the site has said so does it go back by itself.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from ichnode.domain.drift import DRIFTED, WORTH_A_LOOK, stability_index, tails
from ichnode.domain.errors import ModelUnusable
from ichnode.domain.findings import Finding
from ichnode.domain.intervals import wilson
from ichnode.imaging.kernels import sharpness
from ichnode.nets.registry import Entry, Registry, Standing
from ichnode.service.promoting import roll_back
from ichnode.settings import Settings
from ichnode.worklist.cases import Case
from ichnode.worklist.history import MODEL
from ichnode.worklist.worklist import Worklist

log = structlog.get_logger(__name__)

BEFORE = timedelta(days=30)  # how long the time before is
LEAST_BEFORE, LEAST_SINCE = 100, 50  # studies without which nothing is said
LEAST_LABELLED = 20
CHANCE = 0.0005  # on either side: looked at every hour, so that it must be rare
LEAST_COVERAGE = 0.8  # of the studies that were not flagged; below, sensitivity is unknown
GO_BACK = "If it stays so: ichnode models rollback."
_THICKNESSES_MM = (1.5, 3.0, 5.5)


@dataclass(slots=True)
class Tally:
    """Counts over the studies of a time."""

    studies: int = 0
    analysed: int = 0
    alerts: int = 0
    failed: int = 0
    declined: int = 0
    labelled_alerts: int = 0
    true_alerts: int = 0
    labelled_bleeds: int = 0
    found_bleeds: int = 0
    unflagged: int = 0
    labelled_unflagged: int = 0
    thickness: Counter[str] = field(default_factory=Counter)
    kernel: Counter[str] = field(default_factory=Counter)
    manufacturer: Counter[str] = field(default_factory=Counter)

    def add(self, case: Case) -> None:
        """Count a study."""
        self.studies += 1
        self.failed += case.reason == "failed"
        self.declined += bool(case.reason) and case.reason not in {"failed", "pending"}
        if not case.stated:
            return
        self.analysed += 1
        alert = any(s.said is not None and s.said.finding is Finding.POSITIVE for s in case.stated)
        self.alerts += alert
        self._add_truth(case, alert)
        self._add_scanner(case)

    def _add_truth(self, case: Case, alert: bool) -> None:
        best = case.best
        true = case.truth.about(best.series_uid if best else None).positive
        if not case.flagged:
            self.unflagged += 1
            self.labelled_unflagged += true is not None
        if true is None:
            return
        self.labelled_alerts += alert
        self.true_alerts += alert and true
        self.labelled_bleeds += true
        self.found_bleeds += alert and true

    def _add_scanner(self, case: Case) -> None:
        header = case.best.header if case.best else None
        if header is None:
            return
        self.manufacturer[header.manufacturer.strip().upper()[:40] or "unstated"] += 1
        self.kernel[sharpness(header.kernel, header.manufacturer)] += 1
        mm = header.slice_thickness_mm
        thicker = "unstated" if mm is None else str(sum(mm >= edge for edge in _THICKNESSES_MM))
        self.thickness[thicker] += 1


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that is different."""

    figure: str
    sentence: str
    hard: bool = False  # a reason to go back without a person, where the site wants that


class Watch:
    """Looks at the figures since the promotion; a job of housekeeping."""

    def __init__(self, settings: Settings, worklist: Worklist) -> None:
        self._registry = Registry(settings.infer.models)
        self._worklist, self._settings = worklist, settings.retrain
        self._lock = threading.Lock()
        self._alarms: tuple[Alarm, ...] = ()

    def warnings(self) -> list[str]:
        """Return what is different, a sentence each."""
        with self._lock:
            return [alarm.sentence for alarm in self._alarms]

    def watch(self) -> tuple[Alarm, ...]:
        """Compare, remember, note what is new or over, and go back where that was wished for."""
        champion = self._registry.find("champion")
        if champion.since is None:
            return ()  # it runs since the installation: there is no time before
        self._note_what_was_not_noted(champion, champion.since)
        alarms = tuple(self._compare(champion.since))
        with self._lock:
            self._alarms = alarms
        self._note_changes(champion, champion.since, alarms)
        self._go_back(alarms)
        return alarms

    def _compare(self, since: Standing) -> Iterator[Alarm]:
        cases = self._worklist.cases
        before, after = Tally(), Tally()
        for case in cases.between(since.at - BEFORE, since.at):
            before.add(case)
        for case in cases.between(since.at, cases.now() + timedelta(seconds=1)):
            after.add(case)
        yield from compare(before, after)

    # ------------------------------------------------------------------ the history

    def _note_what_was_not_noted(self, champion: Entry, since: Standing) -> None:
        """Write the line that a promotion or a rollback owed when it was killed after its deed."""
        history = self._worklist.history
        lines = history.latest(MODEL, "promoted", "rolled_back", limit=100)
        if any(line.detail.get("given_at") == since.at.isoformat() for line in lines):
            return
        verb = "promoted" if self._has_previous() else "rolled_back"
        history.note_once(verb, champion.model_uid, since.at, by=since.by, reason=since.reason)

    def _has_previous(self) -> bool:
        try:
            self._registry.find("previous")
        except ModelUnusable:
            return False
        return True

    def _note_changes(self, champion: Entry, since: Standing, alarms: tuple[Alarm, ...]) -> None:
        known = self._standing_alarms(champion, since.at)
        now = {alarm.figure: alarm.sentence for alarm in alarms}
        about = {"model_uid": champion.model_uid, "given_at": since.at.isoformat()}
        for figure in sorted(now.keys() - known):
            self._worklist.history.note(MODEL, "alarm", figure=figure, about=now[figure], **about)
            log.warning("model.alarm", reason=figure, sentence=now[figure])
        for figure in sorted(known - now.keys()):
            self._worklist.history.note(MODEL, "calmed", figure=figure, **about)
            log.info("model.calmed", reason=figure)

    def _standing_alarms(self, champion: Entry, since: datetime) -> set[str]:
        """Return which alarms of this champion were noted and are not noted to be over."""
        standing: set[str] = set()
        lines = self._worklist.history.latest(MODEL, "alarm", "calmed", limit=200)
        for line in reversed(lines):
            mine = (line.detail.get("model_uid"), line.detail.get("given_at"))
            if mine != (champion.model_uid, since.isoformat()):
                continue
            figure = str(line.detail.get("figure"))
            standing = standing | {figure} if line.verb == "alarm" else standing - {figure}
        return standing

    def _go_back(self, alarms: tuple[Alarm, ...]) -> None:
        hard = [alarm for alarm in alarms if alarm.hard]
        if not hard or not self._settings.auto_rollback or not self._has_previous():
            return
        entry = roll_back(
            self._registry,
            self._worklist,
            by="ichnode (retrain.auto_rollback)",
            reason=hard[0].sentence,
        )
        log.error("model.rolled_back", model_uid=entry.model_uid, sentence=hard[0].sentence)


def compare(before: Tally, after: Tally) -> Iterator[Alarm]:
    """Yield what is different since a promotion, beyond chance."""
    if before.studies < LEAST_BEFORE or after.studies < LEAST_SINCE:
        return
    yield from _rate("alerts", before.alerts, before.analysed, after.alerts, after.analysed)
    yield from _rate(
        "failed analyses", before.failed, before.studies, after.failed, after.studies, hard=True
    )
    yield from _rate(
        "studies not analysed", before.declined, before.studies, after.declined, after.studies
    )
    yield from _less_often_right(before, after)
    yield from _less_often_found(before, after)
    for what in ("thickness", "kernel", "manufacturer"):
        yield from _drift(what, getattr(before, what), getattr(after, what))


def _rate(
    what: str, hits_before: int, of_before: int, hits: int, count: int, *, hard: bool = False
) -> Iterator[Alarm]:
    at_most, at_least = tails(hits_before, of_before, hits, count)
    if min(at_most, at_least) >= CHANCE:
        return
    word = "More" if at_least < at_most else "Fewer"
    yield Alarm(
        what,
        f"{word} {what} since the promotion: {hits} of {count}, {hits_before} of {of_before} "
        f"in the {BEFORE.days} days before. {GO_BACK}",
        hard=hard and word == "More",
    )


def _less_often_right(before: Tally, after: Tally) -> Iterator[Alarm]:
    yield from _worse(
        "alerts that are right",
        (before.true_alerts, before.labelled_alerts),
        (after.true_alerts, after.labelled_alerts),
    )


def _less_often_found(before: Tally, after: Tally) -> Iterator[Alarm]:
    """Compare sensitivities where those that were not flagged are labelled, too."""
    for tally in (before, after):
        if tally.labelled_unflagged < LEAST_COVERAGE * tally.unflagged:
            return
    yield from _worse(
        "haemorrhages that are found",
        (before.found_bleeds, before.labelled_bleeds),
        (after.found_bleeds, after.labelled_bleeds),
    )


def _worse(what: str, before: tuple[int, int], after: tuple[int, int]) -> Iterator[Alarm]:
    """Yield an alarm where the intervals of two proportions do not touch."""
    if min(before[1], after[1]) < LEAST_LABELLED:
        return
    low, _ = wilson(*before)
    _, high = wilson(*after)
    if high < low:
        yield Alarm(
            what,
            f"Fewer {what} among labelled studies since the promotion: {after[0]} of {after[1]}, "
            f"{before[0]} of {before[1]} before. {GO_BACK}",
            hard=True,
        )


def _drift(what: str, before: Counter[str], after: Counter[str]) -> Iterator[Alarm]:
    if before.total() < LEAST_BEFORE or after.total() < LEAST_BEFORE:
        return
    index = stability_index(before, after)
    if index < WORTH_A_LOOK:
        return
    much = "has drifted" if index >= DRIFTED else "is worth a look"
    yield Alarm(
        f"input: {what}",
        f"What the scanners send {much} since the promotion, by {what} (stability index "
        f"{index:.2f}): look at the protocols before you blame the model.",
    )
