"""From settings to the objects that the roles are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from ichnode.domain.commitment import CommitmentReport
from ichnode.domain.retry import RetryPolicy
from ichnode.domain.series import Arrival, Refusal
from ichnode.domain.triage import Weights
from ichnode.settings import DestinationSettings, Settings
from ichnode.worklist import schema
from ichnode.worklist.engine import connect
from ichnode.worklist.policy import Policy, Route
from ichnode.worklist.worklist import Worklist


def policy_of(settings: Settings) -> Policy:
    """Return what the worklist goes by."""
    return Policy(
        plausible_quiet_s=settings.series.plausible_quiet_s,
        final_quiet_s=settings.series.final_quiet_s,
        final_quiet_thin_s=settings.series.final_quiet_thin_s,
        lease_s=settings.queue.lease_s,
        work_retry=RetryPolicy(attempts=settings.queue.attempts),
        delivery_retry=RetryPolicy(
            first=timedelta(seconds=settings.send.retry_first_s),
            longest=timedelta(seconds=settings.send.retry_longest_s),
            attempts=settings.send.negative_attempts,
        ),
        batch=settings.send.batch,
        negative_sr=settings.report.negative_sr,
        key_image=settings.report.key_image,
        waiting_cap=timedelta(minutes=settings.queue.waiting_cap_minutes),
        assigning_authority=settings.hl7_listen.assigning_authority,
        keep_reports=settings.hl7_listen.keep_reports,
        destinations=tuple(
            Route(
                name=d.name,
                kinds=d.takes,
                loopback=d.is_loopback,
                commit=isinstance(d, DestinationSettings) and d.commit,
            )
            for d in settings.outputs
        ),
        weights=Weights(
            settings.rules.ae_title_weights,
            settings.rules.station_weights,
            settings.rules.priority_weights,
        ),
    )


def open_worklist(settings: Settings) -> Worklist:
    """Connect to the database.

    Raises
    ------
    SchemaMismatch
        When the schema is not this version's; the message says what to run.
    """
    engine = connect(settings.node.database.get_secret_value())
    schema.check(engine)
    return Worklist(engine, policy_of(settings))


@dataclass(frozen=True, slots=True)
class Door:
    """The worklist as the receiver knows it."""

    worklist: Worklist

    def record(self, arrivals: Sequence[Arrival]) -> None:
        """Record instances."""
        self.worklist.record(arrivals)

    def released(self, association_id: str) -> None:
        """Note that an association ended in order."""
        self.worklist.association_released(association_id)

    def committed(self, report: CommitmentReport) -> bool:
        """Take in what a destination answers for; False when it was not asked."""
        return self.worklist.commitments.report(report)

    def refuse(self, refusal: Refusal) -> None:
        """Note something that was not kept."""
        self.worklist.refuse(refusal)
