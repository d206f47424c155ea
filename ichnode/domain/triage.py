"""The rules of triage: pure functions over what the worklist knows of a study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ichnode.domain.lifecycle import Analysis, Band

ORDERED_RANK = {"STAT": 0, "HIGH": 1, "": 2, "MEDIUM": 2, "ROUTINE": 3, "LOW": 4}
"""Requested Procedure Priority (0040,1003), highest first; unknown words count as unstated."""

LAST_BAND_RANK = Band.ROUTINE.rank
"""Of the studies in which nothing was found, or nothing yet."""


def ordered_rank(priority: str) -> int:
    """Return the rank of an ordered priority, 0 first."""
    return ORDERED_RANK.get(priority.strip().upper(), ORDERED_RANK[""])


LAST_RANK = max(ORDERED_RANK.values())


def list_rank(ordered_priority: str, weight: int = 0) -> int:
    """Return the place of an ordered priority within the last group of the list, 0 first.

    A weight of one moves a study forward by one step of ordered priority, one of minus one
    backward. None passes what was ordered STAT: at most, a study is read as if it were.
    """
    return min(max(ordered_rank(ordered_priority) - weight, 0), LAST_RANK)


@dataclass(frozen=True, slots=True)
class Weights:
    """What a site puts first among the studies in which nothing was found.

    A study counts with the sum of what is said of its scanner, its station and its order.

    Attributes
    ----------
    ae_titles : mapping of str to int
        By the calling AE title.
    stations : mapping of str to int
        By Station Name (0008,1010): where the scanner stands, as a header tells it.
    priorities : mapping of str to int
        By Requested Procedure Priority (0040,1003), in capitals; "" is for none stated.
    """

    ae_titles: Mapping[str, int] = field(default_factory=dict)
    stations: Mapping[str, int] = field(default_factory=dict)
    priorities: Mapping[str, int] = field(default_factory=dict)

    def of(self, calling_ae: str, station_name: str, ordered_priority: str) -> int:
        """Return the weight of a study; 0 where nothing is said of it."""
        return (
            self.ae_titles.get(calling_ae.strip(), 0)
            + self.stations.get(station_name.strip(), 0)
            + self.of_order(ordered_priority)
        )

    def of_order(self, ordered_priority: str) -> int:
        """Return what the order adds to the weight of a study."""
        return self.priorities.get(ordered_priority.strip().upper(), 0)


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
    weight: int = 0  # of `Weights`


def list_key(entry: ListEntry, now: datetime, waiting_cap: timedelta) -> tuple[int, int, float]:
    """Return the sort key of the reading list: smaller is read earlier.

    URGENT, then REVIEW, then everything else by its ordered priority and weight, and by arrival. A
    study of the last group that has waited longer than `waiting_cap` is lifted to the front of that
    group whatever its ordered priority, so that nothing starves. Among those, and in the first two
    groups, who came first is read first: weights never reach beyond the last group.
    """
    if entry.band.rank < LAST_BAND_RANK:
        return (entry.band.rank, 0, entry.arrived_at.timestamp())
    capped = now - entry.arrived_at >= waiting_cap
    rank = -1 if capped else list_rank(entry.ordered_priority, entry.weight)
    return (LAST_BAND_RANK, rank, entry.arrived_at.timestamp())
