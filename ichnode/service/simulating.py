"""Simulated waiting times: the same days read in the order of arrival and in the order of the node.

Every figure that comes from here is simulated. Each replication draws its cases once and replays
them on each list, so that the lists differ in nothing but their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from ichnode.domain.errors import ConfigurationError
from ichnode.domain.lifecycle import Band
from ichnode.domain.waiting import Case, first_come, listed, replay
from ichnode.service.arrivals import Arrival

DAY_MIN = 24 * 60.0
MOST_CASES = 2_000_000  # of all replications together
_CONFIDENCE = 0.95

Minutes = npt.NDArray[np.float64]
Members = npt.NDArray[np.bool_]
GROUPS: Mapping[str, str] = {
    "positive": "Positive",
    "negative": "Negative",
    "flagged": "Flagged",
    "not_flagged": "Not flagged",
    "missed": "Positive, missed",
}
# By ordered priority without a model, where any is stated: what the model adds to that.
LISTS: Mapping[str, str] = {
    "arrival": "by arrival",
    "ordered": "by order",
    "ichnode": "ichnode's",
}


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is assumed of a site; times are in minutes.

    Attributes
    ----------
    per_day : float
        Studies a day, at random moments (Poisson).
    prevalence, sensitivity, specificity : float
        Of the disease among the studies on the list, and of the model.
    positive_min, negative_min : float
        Mean time to read a study, by the truth.
    spread : str
        Reading times are exponential around their mean, or all the same.
    waiting_cap_min : float
        Of the list; infinite for none.
    result_after_min : float
        How long after its arrival a study has its verdict.
    preemptive : bool
        Whether whoever reads something else leaves it for a study that becomes urgent.
    stat : float
        Share of studies that were ordered STAT; the others state no priority.
    interrupting, interrupting_min : float
        Share of all studies that are on no list and read at once, and their mean reading time.
    days, warm_up_days : float
        Length of a replication; studies of the first days are read and not counted.
    """

    per_day: float = 100.0
    prevalence: float = 0.1
    sensitivity: float = 0.9
    specificity: float = 0.9
    readers: int = 1
    positive_min: float = 10.0
    negative_min: float = 10.0
    spread: Literal["exponential", "fixed"] = "exponential"
    waiting_cap_min: float = 120.0
    result_after_min: float = 0.0
    preemptive: bool = False
    stat: float = 0.0
    interrupting: float = 0.0
    interrupting_min: float = 5.0
    days: float = 30.0
    warm_up_days: float = 1.0
    replications: int = 20
    seed: int = 1

    @property
    def mean_reading_min(self) -> float:
        """Of all studies."""
        listed_min = self.prevalence * self.positive_min + (1 - self.prevalence) * self.negative_min
        return self.interrupting * self.interrupting_min + (1 - self.interrupting) * listed_min

    @property
    def load(self) -> float:
        """The share of their time for which the readers are busy."""
        return self.per_day / DAY_MIN * self.mean_reading_min / self.readers

    def at_load(self, load: float) -> Assumptions:
        """Return the same with as many studies a day as make the readers so busy."""
        return replace(self, per_day=load * self.readers / self.mean_reading_min * DAY_MIN)


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure over the replications: its mean, and where the true one lies (95 %, Student)."""

    mean: float
    low: float
    high: float

    def as_json(self) -> dict[str, float | None]:
        """Return it with None for what cannot be known, such as bounds from one replication."""
        return {
            name: value if math.isfinite(value) else None for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class Waits:
    """What was simulated.

    Attributes
    ----------
    figures : mapping
        ``[list][group][statistic]``: minutes.
    saved : mapping
        ``[group]``: mean wait in the order of arrival less that in ichnode's order, of the same
        studies; negative where ichnode's order makes people wait longer.
    pooled : mapping
        ``[list][group]``: every wait of every replication, sorted, shape (cases,), minutes.
    """

    assumptions: Assumptions
    cases: int  # of a replication, on average
    given: bool  # the arrivals came from a file: days, load and studies a day say nothing
    figures: dict[str, dict[str, dict[str, Interval]]]
    saved: dict[str, Interval]
    pooled: dict[str, dict[str, Minutes]]

    def summary(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {
            "simulated": True,
            "assumptions": {
                key: value if value != float("inf") else None
                for key, value in asdict(self.assumptions).items()
            },
            "arrivals_given": self.given,
            "load": None if self.given else self.assumptions.load,
            "cases": self.cases,
            "minutes": {
                one: {
                    group: {name: value.as_json() for name, value in of_group.items()}
                    for group, of_group in groups.items()
                }
                for one, groups in self.figures.items()
            },
            "saved_minutes": {group: value.as_json() for group, value in self.saved.items()},
        }


_STATISTICS: Mapping[str, Callable[[Minutes], float]] = {
    "mean": lambda waits: float(np.mean(waits)),
    "median": lambda waits: float(np.median(waits)),
    "p90": lambda waits: float(np.percentile(waits, 90)),
    "longest": lambda waits: float(np.max(waits)),
}


def simulate(assumptions: Assumptions, arrivals: Sequence[Arrival] = ()) -> Waits:
    """Replay a site's days on each list.

    Parameters
    ----------
    assumptions : Assumptions
        About the site.
    arrivals : sequence of Arrival
        Instead of drawn ones; what they do not say is drawn anew in every replication. All count.

    Raises
    ------
    ConfigurationError
        When the assumptions are impossible, or too much to replay.
    """
    _check(assumptions, len(arrivals))
    generator = np.random.default_rng(assumptions.seed)
    orders = assumptions.stat > 0 or any(one.priority for one in arrivals)
    lists = [name for name in LISTS if name != "ordered" or orders]
    kept: list[_Replication] = []
    for _ in range(assumptions.replications):
        cases = list(_cases(assumptions, arrivals, generator))
        counted = np.array(
            [
                not case.interrupting
                and (bool(arrivals) or case.arrives_min >= assumptions.warm_up_days * DAY_MIN)
                for case in cases
            ],
            dtype=bool,
        )
        waits = {name: np.array(_replay(name, cases, assumptions)) for name in lists}
        kept.append(_Replication(waits, _groups(cases, counted), len(cases)))
    return _summed(assumptions, kept, lists, given=bool(arrivals))


@dataclass(frozen=True, slots=True)
class _Replication:
    waits: dict[str, Minutes]
    groups: dict[str, Members]
    cases: int

    def of(self, name: str, group: str) -> Minutes:
        waits: Minutes = self.waits[name][self.groups[group]]
        return waits


def _replay(name: str, cases: Sequence[Case], assumptions: Assumptions) -> list[float]:
    if name == "arrival":
        return replay(cases, map(first_come, cases), assumptions.readers)
    cap_min = assumptions.waiting_cap_min
    places = (
        listed(
            case,
            timedelta.max if cap_min == float("inf") else timedelta(minutes=cap_min),
            result_after=timedelta(minutes=assumptions.result_after_min),
            preemptive=assumptions.preemptive,
            analysed=name == "ichnode",
        )
        for case in cases
    )
    return replay(cases, places, assumptions.readers)


def _groups(cases: Sequence[Case], counted: Members) -> dict[str, Members]:
    positive = np.array([case.positive for case in cases], dtype=bool)
    flagged = np.array([case.band.rank < Band.ROUTINE.rank for case in cases], dtype=bool)
    groups = {
        "positive": positive,
        "negative": ~positive,
        "flagged": flagged,
        "not_flagged": ~flagged,
        "missed": positive & ~flagged,
    }
    return {name: members & counted for name, members in groups.items()}


def _summed(
    assumptions: Assumptions, kept: Sequence[_Replication], lists: Sequence[str], *, given: bool
) -> Waits:
    figures: dict[str, dict[str, dict[str, Interval]]] = {}
    pooled: dict[str, dict[str, Minutes]] = {}
    for name in lists:
        figures[name], pooled[name] = {}, {}
        for group in GROUPS:
            waits = [one.of(name, group) for one in kept]
            pooled[name][group] = np.sort(np.concatenate(waits))
            figures[name][group] = {
                statistic: _interval([of(one) for one in waits if one.size])
                for statistic, of in _STATISTICS.items()
            }
    saved = {
        group: _interval(
            [
                float(np.mean(one.of("arrival", group) - one.of("ichnode", group)))
                for one in kept
                if one.groups[group].any()
            ]
        )
        for group in GROUPS
    }
    cases = round(sum(one.cases for one in kept) / len(kept))
    return Waits(assumptions, cases, given, figures, saved, pooled)


def _interval(values: Sequence[float]) -> Interval:
    """Return the mean and its interval; without bounds from a single replication."""
    if not values:
        return Interval(float("nan"), float("nan"), float("nan"))
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, float("-inf"), float("inf"))
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(stats.t.ppf(0.5 + _CONFIDENCE / 2, len(values) - 1)) * error
    return Interval(mean, mean - half, mean + half)


# ------------------------------------------------------------------ what is drawn


def _cases(
    assumptions: Assumptions, arrivals: Sequence[Arrival], generator: np.random.Generator
) -> Iterator[Case]:
    if not arrivals:
        length_min = (assumptions.days + assumptions.warm_up_days) * DAY_MIN
        count = int(generator.poisson(assumptions.per_day * length_min / DAY_MIN))
        moments = np.sort(generator.uniform(0, length_min, count))
        arrivals = [Arrival(float(moment)) for moment in moments]
    uniform = generator.random((len(arrivals), 4))
    reading = (
        generator.exponential(size=len(arrivals))
        if assumptions.spread == "exponential"
        else np.ones(len(arrivals))
    )
    for arrival, chances, scale in zip(arrivals, uniform.tolist(), reading.tolist(), strict=True):
        yield _case(assumptions, arrival, chances, scale)


def _case(
    assumptions: Assumptions, arrival: Arrival, chances: Sequence[float], scale: float
) -> Case:
    positive = arrival.positive
    if positive is None:
        positive = chances[0] < assumptions.prevalence
    band = arrival.band
    if band is None:
        flagged = chances[1] < (
            assumptions.sensitivity if positive else 1 - assumptions.specificity
        )
        band = Band.URGENT if flagged else Band.ROUTINE
    interrupting = chances[2] < assumptions.interrupting
    mean_min = assumptions.positive_min if positive else assumptions.negative_min
    if interrupting:
        mean_min = assumptions.interrupting_min
    return Case(
        arrives_min=arrival.arrives_min,
        reading_min=mean_min * scale if arrival.reading_min is None else arrival.reading_min,
        positive=positive,
        band=band,
        ordered_priority=arrival.priority or ("STAT" if chances[3] < assumptions.stat else ""),
        interrupting=interrupting,
    )


def _check(assumptions: Assumptions, given: int) -> None:
    shares = ("prevalence", "sensitivity", "specificity", "stat", "interrupting")
    for name in shares:
        if not 0 <= getattr(assumptions, name) <= 1:
            raise ConfigurationError(f"The {name} lies between 0 and 1.")
    for name in ("positive_min", "negative_min", "interrupting_min", "readers", "days"):
        if not 0 < getattr(assumptions, name) < float("inf"):
            raise ConfigurationError(f"{name} is more than 0.")
    for name in ("per_day", "warm_up_days", "result_after_min", "waiting_cap_min"):
        if not getattr(assumptions, name) >= 0:
            raise ConfigurationError(f"{name} is not less than 0.")
    days = assumptions.days + assumptions.warm_up_days
    cases = assumptions.replications * (given or assumptions.per_day * days)
    if cases > MOST_CASES:
        raise ConfigurationError(
            f"That is {cases:,.0f} studies to replay, and {MOST_CASES:,} at most are: "
            "fewer days or replications will do."
        )
    if not given and assumptions.load >= 1:
        raise ConfigurationError(
            f"More studies come than can be read (load {assumptions.load:.2f}): the wait would "
            "grow for ever, in whatever order. More readers, or fewer studies a day."
        )
