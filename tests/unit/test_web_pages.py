"""The pages of the web room over a small worklist, served by its own server on a free port."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import httpx
import pytest

from ichnode.domain.errors import ConfigurationError, WorklistDown
from ichnode.domain.lifecycle import Analysis, Band, Delivery, Reception
from ichnode.domain.reasons import Reason
from ichnode.domain.series import Refusal
from ichnode.web.app import PAGE, create_app
from ichnode.web.serving import WebServer
from ichnode.web.views import Mode
from ichnode.worklist.rows import NotReceived

NOW = datetime(2026, 3, 4, 14, 30, tzinfo=UTC)
HOSTILE = '<script>alert("1")</script>^<img src=x onerror=alert(2)>'


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
    band: Band = Band.ROUTINE
    sentence: str = "No haemorrhage found by the model."
    ordered_priority: str = ""
    arrived_at: datetime = NOW - timedelta(minutes=12)
    last_arrived_at: datetime = NOW - timedelta(minutes=11)
    patient_name: str = "DOE^JANE"
    patient_id: str = "P-1"
    patient_birth_date: str = "19610203"
    patient_sex: str = "F"
    accession_number: str = "A-77"
    study_description: str = "CT HEAD"
    model: str = "ich 1"
    findings: tuple[Found, ...] = ()
    deliveries: tuple[Sending, ...] = ()


@dataclass(frozen=True)
class OneSeries:
    series_uid: str
    analysis: Analysis = Analysis.NEGATIVE
    series_number: int | None = 2
    series_description: str = "HEAD 5 MM"
    modality: str = "CT"
    instances: int = 32
    reception: Reception = Reception.FINAL
    reason: Reason | None = None
    detail: str = ""
    model: str = "ich 1"
    findings: tuple[Found, ...] = ()
    study_uid: str = "1.2.3"
    last_arrived_at: datetime = NOW


@dataclass(frozen=True)
class Happened:
    at: datetime
    noun: str
    verb: str
    series_uid: str | None = None
    sentence: str = ""


@dataclass(frozen=True)
class Judged:
    revision: int
    band: Band
    sentence: str
    judged_by: str = "ichnode"
    reason: str = ""
    at: datetime = NOW


@dataclass(frozen=True)
class Story:
    row: Row
    series: tuple[OneSeries, ...] = ()
    verdicts: tuple[Judged, ...] = ()
    events: tuple[Happened, ...] = ()


class SmallWorklist:
    """A worklist that a test writes by hand."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.stories: dict[str, Story] = {}
        self.without: list[OneSeries] = []
        self.refused: list[Refusal] = []
        self.down = False

    def _ask(self) -> None:
        if self.down:
            raise WorklistDown

    def reading_list(self, limit: int, offset: int) -> list[Row]:
        self._ask()
        return self.rows[offset : offset + limit]

    def study(self, uid: str) -> Story | None:
        return self.stories.get(uid)

    def not_analysed(self, limit: int) -> list[OneSeries]:
        return self.without[:limit]

    def refusals(self, limit: int) -> list[Refusal]:
        return self.refused[:limit]

    def stranded(self) -> tuple[()]:
        return ()

    def commitments(self) -> dict[tuple[str, str], int]:
        return {}

    def not_received(self) -> NotReceived:
        return NotReceived((), ())

    def counts(self) -> dict[str, dict[str, int]]:
        return {"studies": {}, "series": {}, "documents": {}}

    def deliveries_by_destination(self) -> dict[tuple[str, str], int]:
        return {}

    def not_analysed_by_reason(self) -> dict[str, int]:
        return {}

    def queue_age(self) -> dict[str, float]:
        return {}

    def oldest_undelivered_positive(self) -> datetime | None:
        return None

    def latencies(self, since: datetime | None, limit: int) -> list:
        return []

    def heartbeats(self) -> list:
        self._ask()
        return []


class StoppedClock:
    """It is always the same moment."""

    def now(self) -> datetime:
        return NOW


class Room:
    """What the server was made from, to be changed by a test between requests."""

    def __init__(self) -> None:
        self.worklist = SmallWorklist()
        self.mode = Mode(observing=False, model="ich 1")
        self.free = 100 << 30


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Room, httpx.Client]]:
    """A room, and a client of the real server in front of it."""
    room = Room()

    class Through:
        """Hands each question to the worklist that the room has at that moment."""

        def __getattr__(self, name: str):
            return getattr(room.worklist, name)

    app = create_app(
        Through(),
        heartbeats=lambda: room.worklist.heartbeats(),
        version="0.0",
        mode=lambda: room.mode,
        free_bytes=lambda: room.free,
        reserve_bytes=2 << 30,
        clock=StoppedClock(),
    )
    server = WebServer(app, "127.0.0.1", 0)
    port = server.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        yield room, client
    server.stop()
    assert not server.alive


@pytest.fixture
def room(served) -> Room:
    """A fresh room behind the same server."""
    fresh = Room()
    served[0].__dict__.update(fresh.__dict__)
    return served[0]


@pytest.fixture
def client(served, room) -> httpx.Client:
    """The client."""
    return served[1]


class Texts(HTMLParser):
    """Collects the elements and the text of a page as a browser would find them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


URGENT = Row(
    "1.2.1",
    Band.URGENT,
    "Haemorrhage suspected.",
    findings=(
        Found("subdural", 0.91, "present"),
        Found("any", 0.97, "present"),
        Found("epidural", 0.02, "absent"),
    ),
    deliveries=(
        Sending("pacs", "sr", Delivery.DELIVERED, delivered_at=NOW - timedelta(minutes=11)),
        Sending("ris", "ups", Delivery.DUE, attempts=3, error="PeerFailure: no answer"),
    ),
)


def test_the_list_keeps_the_order_of_the_worklist(room, client):
    """The page never sorts: rows come in the order in which they are to be read."""
    room.worklist.rows = [URGENT, Row("1.2.2", Band.REVIEW), Row("1.2.3"), Row("1.2.4")]
    shown = re.findall(r'data-study="([0-9.]+)"', client.get("/").text)
    assert shown == ["1.2.1", "1.2.2", "1.2.3", "1.2.4"]


@pytest.mark.parametrize("band", list(Band))
def test_every_band_is_told_by_a_word_and_a_shape(room, client, band):
    """Nobody has to tell colours apart."""
    from ichnode.web.wording import BANDS

    room.worklist.rows = [Row("1.2.1", band)]
    row = re.search(r"<tbody>.*</tbody>", client.get("/").text, re.DOTALL)[0]
    for told in BANDS[band]:
        assert told in row


def test_a_row_says_what_a_reader_needs(room, client):
    """Waiting time, patient, study, what the model said, its key slice and where results went."""
    room.worklist.rows = [URGENT]
    text = " ".join(Texts(client.get("/").text).text.split())
    for wanted in (
        "12 min",
        "DOE, JANE",
        "P-1 · F · 1961-02-03",
        "CT HEAD",
        "Acc. A-77",
        "Haemorrhage suspected.",
        "Any haemorrhage 97 % image 17 Subdural 91 % image 17",
        "Report → pacs delivered",
        "Priority → ris not yet delivered after 3 tries",
    ):
        assert wanted in text, text
    assert "Epidural" not in text  # what is absent is in the story of the study


def test_a_hostile_name_is_text(room, client):
    """Markup in what the scanner sent reaches the reader as characters on every page."""
    row = Row("1.2.1", patient_name=HOSTILE, patient_id=HOSTILE, study_description=HOSTILE)
    evil = OneSeries("1.2.3.1", Analysis.FAILED, series_description=HOSTILE, detail=HOSTILE)
    room.worklist.rows = [row]
    room.worklist.without = [evil]
    room.worklist.stories["1.2.1"] = Story(
        row,
        (evil,),
        (Judged(1, Band.ROUTINE, "Lowered.", HOSTILE, HOSTILE),),
        (Happened(NOW, "series", "failed", None, HOSTILE),),
    )
    room.worklist.refused = [Refusal(NOW, HOSTILE, HOSTILE, 0xA900, HOSTILE)]
    for address in ("/", "/studies/1.2.1", "/not-analysed", "/refusals"):
        page = Texts(client.get(address).text)
        assert "<script>alert" in page.text
        assert not [e for e in page.elements if e[0] == "img" or "onerror" in e[1]]
        assert [e[1].get("src") for e in page.elements if e[0] == "script"] == ["/static/renew.js"]


def test_characters_that_turn_the_writing_round_are_made_visible(room, client):
    """A right-to-left override in an identifier cannot make it look like another one."""
    room.worklist.rows = [Row("1.2.1", patient_id="12\u202e43\x07")]
    page = client.get("/").text
    assert "12\ufffd43\ufffd" in page
    assert "\u202e" not in page


def test_nothing_comes_from_elsewhere_and_nothing_is_inline(room, client):
    """No script or style in the page, no address of another host, and a policy that says so."""
    room.worklist.rows = [URGENT]
    answer = client.get("/")
    page = Texts(answer.text)
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href"):
            assert (attributes.get(name) or "/").startswith("/"), (tag, attributes)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    "address", ["/", "/api/list", "/healthz", "/metrics", "/static/list.css", "/nowhere"]
)
def test_every_answer_is_guarded(client, address):
    """No cache keeps a patient; no frame, no foreign page gets at one."""
    headers = client.get(address).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "server" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "192.0.2.1", "[::2]"]
)
def test_a_name_that_is_not_loopback_is_not_answered(room, client, host):
    """A foreign name that was made to point here (DNS rebinding) gets no patient."""
    room.worklist.rows = [URGENT]
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code == 421
    assert "DOE" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8042", "127.0.0.1:1", "[::1]:8042"])
def test_loopback_names_are_answered(client, host):
    """However a browser or a proxy on this machine calls it."""
    assert client.get("/", headers={"Host": host}).status_code == 200


def test_the_page_always_says_that_it_is_not_validated(client):
    """The banner is on every page."""
    for address in ("/", "/not-analysed", "/refusals", "/nowhere"):
        assert "Not for clinical use without local validation" in client.get(address).text


def test_observe_mode_is_said_and_named(room, client):
    """While outputs are closed the page says so and names who gets nothing."""
    room.mode = Mode(observing=True, closed=("pacs", "ris"))
    assert "Observe mode" in (page := client.get("/").text)
    assert "pacs, ris" in page
    room.mode = Mode(observing=False)
    assert "Observe mode" not in client.get("/").text


def test_a_long_list_has_pages(room, client):
    """A page shows a hundred studies and leads to the next, and back."""
    room.worklist.rows = [Row(f"1.2.{n}") for n in range(PAGE + 1)]
    first = client.get("/").text
    assert first.count("data-study=") == PAGE
    assert f'href="/?offset={PAGE}"' in first
    second = client.get(f"/?offset={PAGE}").text
    assert second.count("data-study=") == 1
    assert 'href="/?offset=0"' in second


def test_the_tiles_count_what_is_on_the_page(room, client):
    """A band that ends on the page is counted in full; where more may follow it says so."""
    room.worklist.rows = [URGENT, *(Row(f"1.2.{n}") for n in range(PAGE))]
    text = " ".join(Texts(client.get("/").text).text.split())
    assert f"1 ▲ Urgent 0 ◆ Review {PAGE - 1}+ ● Routine 0+ ○ Not analysed" in text
    room.worklist.rows = [URGENT, Row("1.2.2")]
    text = " ".join(Texts(client.get("/").text).text.split())
    assert "1 ▲ Urgent 0 ◆ Review 1 ● Routine 0 ○ Not analysed" in text


def test_the_story_says_why_a_series_was_not_analysed(room, client):
    """Each series with its reason in words, each event, each delivery."""
    room.worklist.stories["1.2.1"] = Story(
        URGENT,
        (
            OneSeries("1.2.1.1", Analysis.POSITIVE, findings=URGENT.findings),
            OneSeries(
                "1.2.1.2", Analysis.NOT_ANALYSED, reason=Reason.TOO_FEW_SLICES, detail="3 slices"
            ),
        ),
        (Judged(2, Band.ROUTINE, "Lowered by a person.", "Dr B", "artefact"),),
        (Happened(NOW, "series", "plausible", "1.2.1.1", "Series plausible: instances 32."),),
    )
    text = " ".join(Texts(client.get("/studies/1.2.1").text).text.split())
    assert "There are too few slices. (3 slices)" in text
    assert "Series plausible: instances 32." in text
    assert "Lowered by a person. by Dr B: artefact" in text
    assert "Epidural 2 %" in text
    assert "Report → pacs delivered" in text
    assert "Priority → ris not yet delivered after 3 tries: PeerFailure: no answer" in text


@pytest.mark.parametrize("uid", ["1.2.999", "..%2f..%2fetc", "a", "1" * 65])
def test_an_unknown_study_is_not_found(client, uid):
    """Whatever is asked for, in a sentence, and never an error of the server."""
    assert client.get(f"/studies/{uid}").status_code == 404
    assert client.get(f"/api/studies/{uid}").status_code == 404


def test_a_refusal_is_shown_with_its_status(room, client):
    """What was refused at the door is seen by a person afterwards."""
    room.worklist.refused = [Refusal(NOW, "CT1", "192.0.2.7", 0xA700, "The disk is full.")]
    text = Texts(client.get("/refusals").text).text
    assert "0xA700" in text
    assert "The disk is full." in text


def test_the_list_for_machines_says_the_same(room, client):
    """The interface gives the facts by the names of the domain, in the same order."""
    room.worklist.rows = [URGENT, Row("1.2.2")]
    whole = client.get("/api/list", params={"limit": 1, "offset": 0}).json()
    assert (whole["version"], whole["offset"]) == (1, 0)
    found = whole["studies"]
    assert [study["study_uid"] for study in found] == ["1.2.1"]
    assert (found[0]["position"], found[0]["band"]) == (1, "urgent")
    assert found[0]["arrived_at"] < found[0]["last_arrived_at"] < whole["at"]
    assert found[0]["findings"][1]["key_instance_number"] == 17
    assert found[0]["deliveries"][1]["state"] == "due"


def test_a_study_for_machines_has_its_series(room, client):
    """With the reason as a code and as a sentence."""
    series = OneSeries("1.2.1.2", Analysis.NOT_ANALYSED, reason=Reason.LOCALIZER)
    room.worklist.stories["1.2.1"] = Story(
        URGENT, (series,), events=(Happened(NOW, "series", "declined"),)
    )
    found = client.get("/api/studies/1.2.1").json()
    assert found["series"][0]["reason"] == "localizer"
    assert found["series"][0]["reason_sentence"] == "This is a localizer."
    assert found["events"][0]["verb"] == "declined"


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "offset=-1", "offset=x"])
def test_a_senseless_request_is_refused(client, query):
    """Nobody makes the node read a million rows in one go."""
    assert client.get(f"/api/list?{query}").status_code == 422


def test_a_database_that_is_down_is_said_plainly(room, client):
    """The page says so instead of showing an empty list, with a status that monitors understand."""
    room.worklist.down = True
    answer = client.get("/")
    assert answer.status_code == 503
    assert "does not answer" in answer.text
    assert client.get("/api/list").json() == {"error": "It will be tried again."}


def test_a_fault_of_ours_shows_nothing_and_is_guarded(room, client):
    """An error that nobody foresaw gives neither its text nor an answer that may be cached."""
    room.worklist.rows = None
    answer = client.get("/")
    assert answer.status_code == 500
    assert "None" not in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_an_address_that_is_taken_is_said_in_a_sentence(served):
    """The web role ends with a reason when its port is somebody else's."""
    port = int(str(served[1].base_url).rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(ConfigurationError, match="cannot listen on"):
        WebServer(create_app, "127.0.0.1", port).start()
