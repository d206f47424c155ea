"""Prometheus metrics, computed from the worklist when they are asked for.

Nothing is counted in this process: every role, on every host, writes to the one worklist, and so
a restart loses nothing. No label ever holds patient data.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ichnode.web.health import warnings_of
from ichnode.web.views import Heartbeats, Views

CONTENT_TYPE = CONTENT_TYPE_LATEST
BUCKETS_S = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
LATENCIES = 10_000  # rows that are read at a time


class Notifications:
    """The histogram that matters: last slice received to report acknowledged.

    Reads each acknowledgement once; after a restart it reads all of them again, which Prometheus
    takes for the counter that it is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: datetime | None = None
        self._counts = {urgent: [0] * (len(BUCKETS_S) + 1) for urgent in (True, False)}
        self._sums = {True: 0.0, False: 0.0}

    def read(self, views: Views) -> Metric:
        """Take in what was acknowledged since the last time, and return the histogram."""
        with self._lock:
            while rows := views.latencies(self._seen, LATENCIES):
                for row in rows:
                    self._seen = row.delivered_at
                    if row.kind == "sr":
                        self._counts[row.urgent][bisect_left(BUCKETS_S, row.seconds)] += 1
                        self._sums[row.urgent] += row.seconds
                if len(rows) < LATENCIES:
                    break
            return self._family()

    def _family(self) -> Metric:
        family = HistogramMetricFamily(
            "ichnode_notification_seconds",
            "From the last slice received to the report acknowledged by its destination",
            labels=("urgent",),
        )
        bounds = [str(bound) for bound in BUCKETS_S] + ["+Inf"]
        for urgent, counts in self._counts.items():
            buckets = list(zip(bounds, map(float, accumulate(counts)), strict=True))
            family.add_metric((str(urgent).lower(),), buckets, self._sums[urgent])
        return family


class Exposition(Collector):
    """Asks the worklist and says it in Prometheus' words."""

    def __init__(
        self,
        views: Views,
        heartbeats: Heartbeats,
        free_bytes: Callable[[], int],
        now: Callable[[], datetime],
    ) -> None:
        self._views, self._beats = views, heartbeats
        self._free_bytes, self._now = free_bytes, now
        self._notifications = Notifications()

    def text(self) -> bytes:
        """Return all metrics as text."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def describe(self) -> Iterator[Metric]:
        """Describe nothing beforehand: registering must not ask the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Ask everything once."""
        yield self._notifications.read(self._views)
        yield from self._of_counts()
        yield _gauges(
            "ichnode_queue_age_seconds",
            "For how long the oldest due work of a queue has waited",
            ("queue", "state"),
            [((queue, "due"), age_s) for queue, age_s in self._views.queue_age().items()],
        )
        yield _gauge(
            "ichnode_oldest_undelivered_positive_seconds",
            "Age of the oldest positive result that some destination has not acknowledged",
            self._oldest_positive_s(),
        )
        yield self._heartbeats()
        yield _gauge(
            "ichnode_model_warnings",
            "What people are to know of model and engine, such as a champion that cannot be used",
            len(warnings_of(self._beats())),
        )
        yield from self._of_arrivals()
        yield _gauges(
            "ichnode_commitments",
            "Documents that a destination is to answer for, by state",
            ("destination", "state"),
            self._views.commitments().items(),
        )
        yield _gauge(
            "ichnode_spool_free_bytes", "Free on the disk of the spool", self._free_bytes()
        )

    def _of_counts(self) -> Iterator[Metric]:
        counts = self._views.counts()
        for name, of, label, words in (
            ("ichnode_studies", "studies", "band", "Studies by band"),
            ("ichnode_series", "series", "state", "Series by what became of them"),
            ("ichnode_documents", "documents", "state", "Reports and key images by state"),
        ):
            yield _gauges(name, words, (label,), [((k,), n) for k, n in counts[of].items()])
        yield _gauges(
            "ichnode_deliveries",
            "Deliveries by destination and state",
            ("destination", "state"),
            self._views.deliveries_by_destination().items(),
        )
        yield _gauges(
            "ichnode_not_analysed",
            "Series that were not analysed, by reason",
            ("reason",),
            [((code,), n) for code, n in self._views.not_analysed_by_reason().items()],
        )

    def _of_arrivals(self) -> Iterator[Metric]:
        found = self._views.not_received()
        nothing = sum(row.nothing_came for row in found.rows)
        yield _gauges(
            "ichnode_not_received",
            "Head CTs that the PACS has and that are not here, or not whole",
            ("state",),
            [(("absent",), nothing), (("incomplete",), len(found.rows) - nothing)],
        )
        now, never = self._now(), float("inf")
        yield _gauges(
            "ichnode_comparison_age_seconds",
            "Time since the last comparison with a PACS that went well",
            ("peer",),
            [
                (
                    (one.peer,),
                    never if one.compared_at is None else (now - one.compared_at).total_seconds(),
                )
                for one in found.comparisons
            ],
        )

    def _oldest_positive_s(self) -> float:
        since = self._views.oldest_undelivered_positive()
        return 0.0 if since is None else max((self._now() - since).total_seconds(), 0.0)

    def _heartbeats(self) -> Metric:
        youngest: dict[tuple[str, str], float] = {}
        for beat in self._beats():
            key = (beat.role, beat.host)
            youngest[key] = min(beat.age_s, youngest.get(key, beat.age_s))
        return _gauges(
            "ichnode_heartbeat_age_seconds",
            "Time since a role was last heard of on a host",
            ("role", "host"),
            youngest.items(),
        )


def _gauges(
    name: str,
    documentation: str,
    labels: tuple[str, ...],
    samples: Iterable[tuple[Sequence[str], float]],
) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for key, value in sorted(samples):
        family.add_metric(key, value)
    return family


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)
