"""The reading list in a real browser: order, banners, hostile names, and a policy that holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from ichnode.domain.lifecycle import Band, Delivery
from ichnode.web.app import create_app
from ichnode.web.serving import WebServer
from ichnode.web.views import Mode
from ichnode.worklist.rows import NotReceived

pytestmark = [pytest.mark.peer, pytest.mark.slow]

HOSTILE = "<script>document.title='taken'</script>^<b onmouseover=alert(1)>BOLD"


@dataclass(frozen=True)
class Found:
    label: str
    probability: float
    presence: str
    key_sop_uid: str = "1.2.3.17"
    key_instance_number: int | None = 17


@dataclass(frozen=True)
class Sending:
    destination: str
    kind: str
    state: Delivery
    attempts: int = 1
    delivered_at: datetime | None = None
    error: str = ""


@dataclass(frozen=True)
class Row:
    study_uid: str
    band: Band
    patient_name: str
    sentence: str = "No haemorrhage found by the model."
    ordered_priority: str = ""
    arrived_at: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(minutes=9))
    last_arrived_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    patient_id: str = "P-1"
    patient_birth_date: str = "19610203"
    patient_sex: str = "F"
    accession_number: str = "A-77"
    study_description: str = "CT HEAD"
    model: str = "ich 1"
    findings: tuple[Found, ...] = ()
    deliveries: tuple[Sending, ...] = ()


class ThreeStudies:
    """A worklist with three studies, and room for one that comes later."""

    def __init__(self) -> None:
        self.rows = [
            Row(
                "1.2.1",
                Band.URGENT,
                "URGENT^ANNA",
                "Haemorrhage suspected.",
                findings=(Found("any", 0.97, "present"), Found("subdural", 0.9, "present")),
                deliveries=(Sending("pacs", "sr", Delivery.DELIVERED, 1, datetime.now(UTC)),),
            ),
            Row("1.2.2", Band.REVIEW, "REVIEW^BEN", "Haemorrhage cannot be excluded."),
            Row("1.2.3", Band.ROUTINE, HOSTILE),
        ]

    def reading_list(self, limit: int, offset: int) -> list[Row]:
        return self.rows[offset : offset + limit]

    def not_received(self) -> NotReceived:
        return NotReceived((), ())


@pytest.fixture(scope="module")
def chromium(require_program) -> Iterator:
    """The system's Chromium, driven by playwright."""
    sync_api = pytest.importorskip("playwright.sync_api")
    switches = (
        "--no-sandbox --disable-gpu --disable-quic --no-first-run "
        "--disable-background-networking --disable-component-update --disable-sync"
    )
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=require_program("chromium"), args=switches.split()
        )
        yield browser
        browser.close()


@dataclass
class Seat:
    """A reader in front of the page."""

    worklist: ThreeStudies
    page: object
    complaints: list[str]
    asked_for: list[str]
    stop: object


@pytest.fixture
def seat(chromium) -> Iterator[Seat]:
    """The list, open in the browser; what the browser complains about is kept."""
    worklist = ThreeStudies()
    app = create_app(
        worklist,
        heartbeats=list,
        version="0.0",
        mode=lambda: Mode(observing=True, closed=("pacs",), model="ich 1"),
        free_bytes=lambda: 1 << 40,
    )
    server = WebServer(app, "127.0.0.1", 0)
    port = server.start()
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    found = Seat(worklist, page, [], [], server.stop)
    page.on("console", lambda m: found.complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on("request", lambda request: found.asked_for.append(request.url))
    page.clock.install()
    page.goto(f"http://localhost:{port}/")
    yield found
    page.close()
    server.stop()


def shown(page) -> list[str]:
    """The names on the list, from the top down."""
    return page.locator("tbody .name").all_inner_texts()


def test_the_list_reads_from_the_top(seat):
    """Urgent first, then review, then the rest, as the worklist ordered them."""
    assert shown(seat.page)[:2] == ["URGENT, ANNA", "REVIEW, BEN"]
    tops = [row.bounding_box()["y"] for row in seat.page.locator("tbody tr").all()]
    assert tops == sorted(tops)


def test_a_hostile_name_is_shown_and_not_run(seat):
    """The name with a script in it is read as it was sent, and the page is still ours."""
    assert "<script>" in shown(seat.page)[2]
    assert seat.page.title() == "(1) Reading list - ichnode"
    assert seat.page.locator("tbody script, tbody b[onmouseover]").count() == 0


def test_the_banners_are_seen(seat):
    """That it is not validated and that it observes is visible without scrolling."""
    for text in ("Not for clinical use without local validation", "Observe mode"):
        banner = seat.page.get_by_text(text).first
        assert banner.is_visible()
        assert banner.bounding_box()["y"] < 300
    assert not seat.page.locator("#stale").is_visible()


def test_the_policy_is_kept_and_nothing_is_asked_of_others(seat):
    """The browser reports no violation, and loads from nowhere but this host."""
    seat.page.get_by_text("Not analysed").first.wait_for()
    assert seat.complaints == []
    assert {url.split("/")[2].split(":")[0] for url in seat.asked_for} == {"localhost"}


def test_the_policy_would_stop_a_script(seat):
    """An inline script that somehow got into the page would not run: the policy is in force."""
    seat.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'taken'";
            document.body.append(script);
        }"""
    )
    assert seat.page.title() != "taken"
    assert any("Content Security Policy" in complaint for complaint in seat.complaints)


def test_a_new_study_appears_without_a_reload(seat):
    """The page renews itself: a bleed that arrives is on top at the next turn."""
    seat.worklist.rows.insert(0, Row("1.2.9", Band.URGENT, "LATE^BLEED", "Haemorrhage suspected."))
    seat.page.clock.run_for(6_000)
    seat.page.get_by_text("LATE, BLEED").wait_for(timeout=10_000)
    assert shown(seat.page)[0] == "LATE, BLEED"
    assert seat.page.title().startswith("(2)")
    assert seat.complaints == []


def test_a_list_that_is_no_longer_renewed_says_so(seat):
    """When the node is gone the page does not go on looking like a list without news."""
    seat.stop()
    stale = seat.page.locator("#stale")
    for _ in range(12):
        seat.page.clock.run_for(5_000)
        if stale.is_visible():
            break
    stale.wait_for(state="visible", timeout=5_000)
    assert "out of date" in stale.inner_text()
