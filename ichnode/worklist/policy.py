"""What the worklist goes by: plain values, handed in, so that it needs no settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from ichnode.domain.retry import RetryPolicy
from ichnode.domain.triage import Weights
from ichnode.domain.work import DeliveryKind


@dataclass(frozen=True, slots=True)
class Route:
    """One destination and what it takes.

    Attributes
    ----------
    kinds : frozenset of DeliveryKind
        What it is sent.
    loopback : bool
        Whether it is on this machine, and so open before anybody commissioned a model.
    commit : bool
        Whether it is to answer for documents before anything is purged.
    """

    name: str
    kinds: frozenset[DeliveryKind] = frozenset(("sr", "sc"))
    loopback: bool = False
    commit: bool = False

    def takes(self, kind: DeliveryKind) -> bool:
        """Say whether the destination wants this kind."""
        return kind in self.kinds


NO_WEIGHTS = Weights()
WORK_RETRY = RetryPolicy(attempts=3)
DELIVERY_RETRY = RetryPolicy(attempts=50)


@dataclass(frozen=True, slots=True)
class Policy:
    """How the worklist decides.

    Attributes
    ----------
    plausible_quiet_s : float
        A series that was quiet for so long may be complete: look for blood.
    final_quiet_s, final_quiet_thin_s : float
        Quiet for so long it counts as complete; slices thinner than 3 mm come in greater numbers.
    lease_s : float
        How long a claim is good for.
    work_retry : RetryPolicy
        For analyses and documents.
    delivery_retry : RetryPolicy
        For deliveries; its `attempts` bounds those that are not positive.
    batch : int
        Deliveries to one destination that are claimed together.
    waiting_cap : timedelta
        Who has waited longer goes to the front of the group (`ichnode.domain.triage.list_key`).
    weights : Weights
        What a site puts first within the last group.
    ageing_s : float
        How much earlier work of one ordered rank higher is taken; being a head start and not a
        rank, it starves nobody.
    assigning_authority : str
        Who gave the Patient IDs of images and messages that do not say it.
    keep_reports : bool
        Keep the text of final reports.
    """

    plausible_quiet_s: float = 2.0
    final_quiet_s: float = 20.0
    final_quiet_thin_s: float = 60.0
    lease_s: float = 60.0
    work_retry: RetryPolicy = WORK_RETRY
    delivery_retry: RetryPolicy = DELIVERY_RETRY
    batch: int = 16
    negative_sr: bool = False
    key_image: bool = True
    waiting_cap: timedelta = timedelta(hours=2)
    destinations: tuple[Route, ...] = ()
    ageing_s: float = 60.0
    weights: Weights = NO_WEIGHTS
    assigning_authority: str = ""
    keep_reports: bool = False

    def final_quiet(self, *, thin: bool) -> timedelta:
        """Return after how much quiet a series is complete."""
        return timedelta(seconds=self.final_quiet_thin_s if thin else self.final_quiet_s)

    @property
    def plausible_quiet(self) -> timedelta:
        """After how much quiet a series may be complete."""
        return timedelta(seconds=self.plausible_quiet_s)

    @property
    def lease(self) -> timedelta:
        """How long a claim is good for."""
        return timedelta(seconds=self.lease_s)

    @property
    def committing(self) -> frozenset[str]:
        """The destinations that are to answer for what they were given."""
        return frozenset(route.name for route in self.destinations if route.commit)

    def takers(self, kind: DeliveryKind) -> tuple[Route, ...]:
        """Return the destinations that want this kind."""
        return tuple(route for route in self.destinations if route.takes(kind))
