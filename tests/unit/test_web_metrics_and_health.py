"""What machines ask: metrics for Prometheus, health for a monitor. Neither ever names a patient."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ichnode.domain.errors import WorklistDown
from ichnode.web import health, metrics
from ichnode.worklist.rows import NotReceived, StrandedRow

NOW = datetime(2026, 3, 4, 14, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Beat:
    role: str
    age_s: float = 1.0
    host: str = "ct-host"
    pid: int = 1
    detail: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Took:
    seconds: float
    kind: str = "sr"
    urgent: bool = True
    delivered_at: datetime = NOW


@dataclass
class Answers:
    """What a worklist answers."""

    beats: tuple[Beat, ...] = tuple(Beat(role) for role in health.ROLES)
    oldest_s: float | None = None
    took: tuple[Took, ...] = ()
    down: bool = False
    lost: tuple[StrandedRow, ...] = ()

    def stranded(self) -> tuple[StrandedRow, ...]:
        return self.lost

    def commitments(self) -> dict[tuple[str, str], int]:
        return {}

    def not_received(self) -> NotReceived:
        return NotReceived((), ())

    def counts(self) -> dict[str, dict[str, int]]:
        return {
            "studies": {"urgent": 2},
            "series": {"positive": 2, "failed": 0},
            "documents": {"built": 4},
        }

    def deliveries_by_destination(self) -> dict[tuple[str, str], int]:
        return {("pacs", "due"): 3}

    def not_analysed_by_reason(self) -> dict[str, int]:
        return {"localizer": 4, "not_head": 1}

    def queue_age(self) -> dict[str, float]:
        return {"analysis": 1.5}

    def oldest_undelivered_positive(self) -> datetime | None:
        return None if self.oldest_s is None else NOW - timedelta(seconds=self.oldest_s)

    def latencies(self, since: datetime | None, limit: int) -> list[Took]:
        return [one for one in self.took if since is None or one.delivered_at > since][:limit]

    def heartbeats(self) -> tuple[Beat, ...]:
        if self.down:
            raise WorklistDown
        return self.beats


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def exposition(answers: Answers) -> metrics.Exposition:
    """The metrics of a worklist."""
    return metrics.Exposition(answers, answers.heartbeats, lambda: 123, lambda: NOW)


def scrape(exposed: metrics.Exposition) -> Samples:
    """Every sample by name and labels, read back by Prometheus' own parser."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposed.text().decode())
        for sample in family.samples
    }


def buckets(samples: Samples, *bounds: str) -> list[float]:
    """The positives' histogram at some bounds."""
    name = "ichnode_notification_seconds_bucket"
    return [samples[name, (("le", bound), ("urgent", "true"))] for bound in bounds]


def test_the_time_to_notification_is_a_histogram():
    """Each report is counted once, in its bucket and every larger one; key images are not."""
    took = (Took(0.4), Took(1.0), Took(2.2), Took(5000.0), Took(1.0, "sc"), Took(9.0, urgent=False))
    samples = scrape(exposition(Answers(took=took)))
    assert buckets(samples, "0.5", "1.0", "2.0", "3.0", "3600.0", "+Inf") == [1, 2, 2, 3, 3, 4]
    assert samples["ichnode_notification_seconds_count", (("urgent", "true"),)] == 4
    assert samples["ichnode_notification_seconds_sum", (("urgent", "true"),)] == pytest.approx(
        5003.6
    )
    assert samples["ichnode_notification_seconds_count", (("urgent", "false"),)] == 1


def test_a_report_is_counted_at_one_scrape_only():
    """The histogram grows by what is new, however often it is asked for and however much comes."""
    answers = Answers(took=(Took(1.0),))
    exposed = exposition(answers)
    assert buckets(scrape(exposed), "+Inf") == [1]
    assert buckets(scrape(exposed), "+Inf") == [1]
    later = tuple(
        Took(1.0, delivered_at=NOW + timedelta(seconds=n + 1)) for n in range(metrics.LATENCIES + 1)
    )
    answers.took += later
    assert buckets(scrape(exposed), "+Inf") == [1 + len(later)]


def test_what_an_alarm_is_set_on_is_there():
    """Queues, states, reasons, deliveries, heartbeats, disk, and the oldest positive."""
    beats = (Beat("infer", 3.0), Beat("infer", 9.0, pid=2))
    samples = scrape(exposition(Answers(oldest_s=42.0, beats=beats)))
    expected = {
        ("ichnode_oldest_undelivered_positive_seconds", ()): 42.0,
        ("ichnode_queue_age_seconds", (("queue", "analysis"), ("state", "due"))): 1.5,
        ("ichnode_series", (("state", "positive"),)): 2,
        ("ichnode_series", (("state", "failed"),)): 0,  # an absent series could not be alarmed on
        ("ichnode_studies", (("band", "urgent"),)): 2,
        ("ichnode_deliveries", (("destination", "pacs"), ("state", "due"))): 3,
        ("ichnode_not_analysed", (("reason", "localizer"),)): 4,
        ("ichnode_heartbeat_age_seconds", (("host", "ct-host"), ("role", "infer"))): 3.0,
        ("ichnode_spool_free_bytes", ()): 123,
    }
    assert {key: samples.get(key) for key in expected} == expected


def examined(answers: Answers, free: int = 100 << 30) -> dict[str, bool]:
    """The checks by name."""
    found = health.examine(answers, answers.heartbeats, lambda: free, 2 << 30, NOW)
    assert found.ok == all(check.ok for check in found.checks)
    return {check.name: check.ok for check in found.checks}


def test_a_node_that_is_well_says_so():
    """Every check by its name."""
    names = {"disk", "worklist", *health.ROLES, "backlog", "positives"}
    assert examined(Answers()) == dict.fromkeys(names, True)


def test_a_destination_that_left_the_settings_is_named():
    """A warning beside the check of the positives, which says how long one has waited."""
    answers = Answers(oldest_s=3600.0, lost=(StrandedRow("old_pacs", 3, 2),))
    found = health.examine(answers, answers.heartbeats, lambda: 100 << 30, 2 << 30, NOW)
    (check,) = (one for one in found.checks if one.name == "destinations")
    assert check.ok
    assert "old_pacs" in check.sentence
    assert "deliveries 3, of positives 2" in check.sentence
    assert [one.name for one in found.checks if not one.ok] == ["positives"]


@pytest.mark.parametrize("role", health.ROLES)
def test_a_role_that_is_silent_or_missing_is_named(role):
    """One silent process is one failed check, and no other."""
    others = tuple(beat for beat in Answers().beats if beat.role != role)
    for beats in (others, (*others, Beat(role, age_s=46.0))):
        failed = [name for name, ok in examined(Answers(beats=beats)).items() if not ok]
        assert failed == [role]


def test_a_role_that_is_switched_on_is_looked_for_too():
    """Only where it is: a node that does not listen lacks nothing."""
    answers, roles = Answers(), (*health.ROLES, "listen")
    found = health.examine(answers, answers.heartbeats, lambda: 100 << 30, 2 << 30, NOW, roles)
    assert [check.name for check in found.checks if not check.ok] == ["listen"]


def test_a_role_on_another_host_counts():
    """A dead process of yesterday is no alarm while another one does the work."""
    beats = (*Answers().beats, Beat("infer", age_s=90_000.0, host="old-host"))
    assert all(examined(Answers(beats=beats)).values())


def test_a_full_disk_and_a_positive_that_does_not_get_out_are_named():
    """The two that cost a patient time."""
    assert examined(Answers(), free=1 << 30)["disk"] is False
    assert examined(Answers(oldest_s=301.0))["positives"] is False
    assert examined(Answers(oldest_s=299.0))["positives"] is True


def test_a_database_that_is_down_is_one_failed_check():
    """The rest cannot be known and is not claimed."""
    assert examined(Answers(down=True)) == {"disk": True, "worklist": False}


def test_a_job_that_fails_is_named_though_its_role_is_alive():
    """Housekeeping that beats and cannot do its work is not well."""
    beats = tuple(
        Beat(role, detail={"failing": ["guard"]} if role == "housekeep" else {})
        for role in health.ROLES
    )
    assert examined(Answers(beats=beats))["housekeep"] is False


@pytest.mark.parametrize(
    ("oldest_s", "age_s", "ok"), [(60.0, 1, True), (61.0, 1, False), (61.0, 46, True)]
)
def test_received_images_that_are_not_recorded_are_a_failed_check(oldest_s, age_s, ok):
    """Of any receiving process alive: the recorder may be stuck while the role beats."""
    late = Beat("receive-1", age_s, detail={"backlog": 3, "backlog_oldest_s": oldest_s})
    fresh = Beat("receive", detail={"backlog": 1, "backlog_oldest_s": 0.1})
    infer = tuple(Beat(role) for role in health.ROLES if role != "receive")
    assert examined(Answers(beats=(fresh, late, *infer)))["backlog"] is ok
