"""The page, the health check and the metrics over the real worklist, on both engines."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ichnode.domain.findings import Finding
from ichnode.domain.reasons import Reason
from ichnode.domain.series import Refusal
from ichnode.domain.work import Declined
from ichnode.web import health
from ichnode.web.app import create_app
from ichnode.web.serving import WebServer
from ichnode.web.views import Mode
from tests.worklist_kit import analysed, build, look, send, slices


@pytest.fixture
def client(worklist, hand_clock) -> Iterator[httpx.Client]:
    """A client of the page of a worklist."""
    app = create_app(
        worklist.views,
        heartbeats=worklist.views.heartbeats,
        version="0.0",
        mode=lambda: Mode(observing=False),
        free_bytes=lambda: 1 << 40,
        clock=hand_clock,
    )
    server = WebServer(app, "127.0.0.1", 0)
    with httpx.Client(base_url=f"http://127.0.0.1:{server.start()}") as found:
        yield found
    server.stop()


@pytest.fixture
def three_studies(worklist, hand_clock) -> dict[str, str]:
    """A negative that came first, then a localizer, then a bleed: study UIDs by what they are."""
    uids = {}
    for what, outcome in (
        ("negative", analysed(Finding.NEGATIVE)),
        ("localizer", Declined(Reason.LOCALIZER, "1 slice")),
        ("bleed", analysed(Finding.POSITIVE)),
    ):
        brought = slices(32, association=what)
        uids[what] = brought[0].header.study_uid
        worklist.record(brought)
        hand_clock.forward(21)  # complete: thick slices, quiet for twenty seconds
        look(worklist, outcome)
    build(worklist)
    send(worklist)
    return uids


def test_the_bleed_is_on_top_with_what_was_said_and_sent(client, three_studies):
    """The page and the interface show the worklist's order and its facts."""
    studies = client.get("/api/list").json()["studies"]
    assert studies[0]["study_uid"] == three_studies["bleed"]
    assert {study["study_uid"] for study in studies} == set(three_studies.values())
    assert studies[0]["band"] == "urgent"
    assert {d["state"] for d in studies[0]["deliveries"]} == {"delivered"}
    page = client.get("/").text
    assert page.index(three_studies["bleed"]) < page.index(three_studies["negative"])
    assert "DOE, JANE" in page.upper()


def test_the_story_of_each_study_can_be_read(client, three_studies):
    """Every series, verdict and event of every study has words."""
    for uid in three_studies.values():
        assert client.get(f"/studies/{uid}").status_code == 200
        story = client.get(f"/api/studies/{uid}").json()
        assert story["series"]
        assert story["events"]
    assert "This is a localizer. (1 slice)" in client.get("/not-analysed").text


def test_a_refusal_at_the_door_is_shown(client, worklist, hand_clock):
    """What the receiver turned away is on its page."""
    refusal = Refusal(hand_clock.now(), "CT1", "192.0.2.1", 0xA700, "The disk is full.")
    worklist.refuse(refusal)
    assert "0xA700" in client.get("/refusals").text


def test_the_metrics_count_it(client, three_studies):
    """One notification of a positive, one reason, deliveries by destination."""
    text = client.get("/metrics").text
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["ichnode_notification_seconds_count", (("urgent", "true"),)] == 1
    assert samples["ichnode_not_analysed", (("reason", "localizer"),)] == 1
    assert samples["ichnode_deliveries", (("destination", "pacs"), ("state", "delivered"))] == 3
    assert samples["ichnode_studies", (("band", "urgent"),)] == 1
    assert samples["ichnode_oldest_undelivered_positive_seconds", ()] == 0
    assert not [uid for uid in three_studies.values() if uid in text]


def test_the_health_follows_the_heartbeats(client, worklist, hand_clock):
    """Well while every role beats; not a minute after they stopped."""
    for role in health.ROLES:
        worklist.beat(role, "host", 1, {})
    assert client.get("/healthz").status_code == 200
    hand_clock.forward(60)
    answer = client.get("/healthz")
    assert answer.status_code == 503
    failed = {check["name"] for check in answer.json()["checks"] if not check["ok"]}
    assert failed == set(health.ROLES)
