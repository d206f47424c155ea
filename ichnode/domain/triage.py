"""The rules of triage: pure functions over what the worklist knows of a study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ichnode.domain.lifecycle import Analysis, Band

ORDERED_RANK = {"STAT": 0, "HIGH": 1, "": 2, "MEDIUM": 2, "ROUTINE": 3, "LOW": 4}
"""Requested Procedure Priority (0040,1003), highest first; unknown words count as unstated."""


def ordered_rank(priority: str) -> int:
    """Return the rank of an ordered priority, 0 first."""
    return ORDERED_RANK.get(priority.strip().upper(), ORDERED_RANK[""])


def reading_priority(band: Band, ordered_priority: str) -> str:
    """Return the Scheduled Procedure Step Priority (0074,1200) of the task to read a study.

    The standard has three words, and says that HIGH is a STAT, LOW is routine (PS3.3 C.30.1). A
    client that sorts by them must still see the three bands of the list: URGENT is HIGH, REVIEW at
    least MEDIUM, and all the rest what its order says, which is LOW where it says nothing. An
    order's own priority is never lowered: STAT and HIGH stay HIGH whatever the model found.
    """
    if band is Band.URGENT or ordered_rank(ordered_priority) <= ORDERED_RANK["HIGH"]:
        return "HIGH"
    if band is Band.REVIEW or ordered_priority.strip().upper() == "MEDIUM":
        return "MEDIUM"
    return "LOW"


@dataclass(frozen=True, slots=True)
class SeriesStanding:
    """What one series contributes to the verdict on its study."""

    series_uid: str
    analysis: Analysis
    final: bool  # the statement is of a complete series
    score: float | None = None  # how well suited the series is; None when it was not analysed


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on a study."""

    band: Band
    trusted_series_uid: str | None
    sentence: str


def judge(standings: Iterable[SeriesStanding]) -> Judgement:
    """Judge a study by its series.

    URGENT as soon as any series is positive; REVIEW for an indeterminate one; ROUTINE only when the
    trusted series (the best suited one) is final and negative and none is pending or failed;
    NOT ANALYSED otherwise.

    Parameters
    ----------
    standings : iterable of SeriesStanding
        Every series of the study.
    """
    series = sorted(standings, key=lambda s: s.series_uid)
    for analysis, band, sentence in (
        (Analysis.POSITIVE, Band.URGENT, "Haemorrhage suspected."),
        (Analysis.REVIEW, Band.REVIEW, "Haemorrhage cannot be excluded."),
    ):
        if hits := [s for s in series if s.analysis is analysis]:
            return Judgement(band, _best(hits).series_uid, sentence)
    if any(s.analysis is Analysis.FAILED for s in series):
        return Judgement(Band.NOT_ANALYSED, None, "An analysis failed.")
    if any(s.analysis is Analysis.PENDING for s in series):
        return Judgement(Band.NOT_ANALYSED, None, "An analysis is pending.")
    analysed = [s for s in series if s.analysis is Analysis.NEGATIVE]
    if analysed and (best := _best(analysed)).final:
        return Judgement(Band.ROUTINE, best.series_uid, "No haemorrhage found by the model.")
    return Judgement(Band.NOT_ANALYSED, None, "No series could be analysed.")


def _best(series: Sequence[SeriesStanding]) -> SeriesStanding:
    """Return the best suited series; the smallest UID among equals."""
    return max(
        sorted(series, key=lambda s: s.series_uid),
        key=lambda s: s.score if s.score is not None else float("-inf"),
    )


@dataclass(frozen=True, slots=True)
class ListEntry:
    """What decides a study's place on the reading list."""

    band: Band
    ordered_priority: str
    arrived_at: datetime


def list_key(entry: ListEntry, now: datetime, waiting_cap: timedelta) -> tuple[int, int, float]:
    """Return the sort key of the reading list: smaller is read earlier.

    URGENT, then REVIEW, then everything else by its ordered priority and arrival. A study of the
    last group that has waited longer than `waiting_cap` is lifted to the front of that group
    whatever its ordered priority, so that nothing starves.
    """
    rank = ordered_rank(entry.ordered_priority)
    if entry.band.rank == 2 and now - entry.arrived_at >= waiting_cap:
        rank = -1
    return (entry.band.rank, rank if entry.band.rank == 2 else 0, entry.arrived_at.timestamp())
