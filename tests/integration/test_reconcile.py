"""Studies that never arrived, against a scriptable archive and a worklist of either engine."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydicom import Dataset

from ichnode.domain.errors import ConfigurationError
from ichnode.service.reconciling import Reconciliation, Unreconciled, archive_of
from ichnode.settings import Settings
from ichnode.web.app import create_app
from ichnode.web.serving import WebServer
from ichnode.web.views import Mode
from ichnode.worklist.worklist import Worklist
from tests.archives import FIND, MOVE, Archive, series_of, study_of
from tests.pacs import closed_port, silent_listener
from tests.worklist_kit import HandClock, slices

HEAD, OTHER = "1.2.3.1", "1.2.3.2"


def settings_for(port: int, **changes: object) -> Settings:
    asked = {"peer": f"ARCHIVE@127.0.0.1:{port}", "time_zone": "UTC", "timeout_s": 1.0}
    return Settings(reconcile=asked | changes)


def nameless() -> Dataset:
    """An answer that says whose study it is, and not which."""
    made = Dataset()
    made.PatientID = "4711"
    return made


class Site:
    """A worklist, its clock, and how an archive is compared with it."""

    def __init__(self, worklist: Worklist, clock: HandClock) -> None:
        self.worklist, self.clock = worklist, clock

    def asking(self, archive: Archive, **changes: object) -> Reconciliation:
        most = int(changes.pop("most", 2000))  # type: ignore[call-overload]
        settings = settings_for(archive.port, **changes)
        return Reconciliation(settings, self.worklist, clock=self.clock, most=most)

    def compare(self, archive: Archive, **changes: object) -> str:
        return self.asking(archive, **changes).compare()

    def missing(self) -> dict[str, tuple[bool, int | None, int]]:
        """What is shown: study, whether nothing came, and images there and here."""
        rows = self.worklist.views.not_received().rows
        return {row.study_uid: (row.nothing_came, row.held, row.here) for row in rows}

    def receive(self, study: str, series: str, count: int, first: int = 1) -> None:
        self.worklist.record(slices(count, study_uid=study, series_uid=series, first=first))

    def happened(self, study: str) -> list[str]:
        self.receive(study, f"{study}.77", 1)  # a story is told of what is known
        story = self.worklist.views.study(study)
        assert story is not None
        return [event.verb for event in story.events if event.noun == "study"]

    @property
    def last(self):
        """How the last comparison went."""
        [one] = self.worklist.views.not_received().comparisons
        return one


@pytest.fixture
def site(worklist, hand_clock) -> Site:
    """It is noon of the first of March."""
    return Site(worklist, hand_clock)


def test_what_never_came_is_shown_until_it_comes(site):
    """Absent, then some of it, then all; each stage without another comparison."""
    with Archive([study_of(HEAD, series_of("1.2.3.1.1", 32))]) as archive:
        assert site.compare(archive) == ""
        assert site.missing() == {HEAD: (True, 32, 0)}
        assert (site.last.studies, site.last.heads, site.last.error) == (1, 1, "")
        site.receive(HEAD, "1.2.3.1.1", 20)
        assert site.missing() == {HEAD: (False, 32, 20)}
        site.receive(HEAD, "1.2.3.1.1", 12, first=21)
        assert site.missing() == {}
        assert site.compare(archive) == ""
    assert site.happened(HEAD) == ["not_received", "arrived_late"]


def test_what_came_is_not_missing(site):
    """A study that is here before anybody asks leaves no trace."""
    site.receive(HEAD, "1.2.3.1.1", 32)
    with Archive([study_of(HEAD, series_of("1.2.3.1.1", 32))]) as archive:
        assert site.compare(archive) == ""
    assert site.missing() == {}
    assert site.happened(HEAD) == []


def test_an_incomplete_study_is_shown_once_it_is_quiet(site):
    """While images come it is arriving; half an hour later it is incomplete."""
    site.receive(HEAD, "1.2.3.1.1", 30)
    with Archive([study_of(HEAD, series_of("1.2.3.1.1", 32))]) as archive:
        assert site.compare(archive) == ""
        assert site.missing() == {}
        site.clock.forward(1801)
        assert site.compare(archive) == ""
        assert site.missing() == {HEAD: (False, 32, 30)}
    assert site.happened(HEAD) == ["incomplete"]


def test_a_series_that_never_came_is_missing_unless_only_some_are_sent(site):
    """With `whole_studies` off only what came of a study is counted."""
    held = study_of(HEAD, series_of("1.2.3.1.1", 32), series_of("1.2.3.1.2", 300))
    site.receive(HEAD, "1.2.3.1.1", 32)
    site.clock.forward(1801)
    with Archive([held, study_of(OTHER, series_of("1.2.3.2.1", 9))]) as archive:
        assert site.compare(archive, whole_studies=False) == ""
        assert site.missing() == {OTHER: (True, 9, 0)}
        assert site.compare(archive) == ""
        assert site.missing() == {HEAD: (False, 332, 32), OTHER: (True, 9, 0)}


def test_other_parts_and_localizers_are_not_waited_for(site):
    """A chest, a study to come, and a head of two images."""
    held = [
        study_of("1.2.4.1", series_of("1.2.4.1.1", body_part="CHEST"), description="Thorax"),
        study_of("1.2.4.2", series_of("1.2.4.2.1", 2)),
        study_of("1.2.4.3", series_of("1.2.4.3.1"), time="114500"),  # 15 minutes ago
    ]
    with Archive(held) as archive:
        assert site.compare(archive) == ""
    assert site.missing() == {}
    assert (site.last.studies, site.last.heads) == (2, 0)


def test_midnight_and_the_zone_of_the_scanners_are_minded(site):
    """It is one in the morning where the scanners are: yesterday evening is within the hours."""
    held = [
        study_of("1.2.5.1", series_of("1.2.5.1.1"), date="20260301", time="213000"),
        study_of("1.2.5.2", series_of("1.2.5.2.1"), date="20260302", time="000500"),
        study_of("1.2.5.3", series_of("1.2.5.3.1"), date="20260301", time="120000"),  # too long ago
        study_of("1.2.5.4", series_of("1.2.5.4.1"), date="20260302", time=""),  # who knows when
    ]
    site.clock.forward(3600)
    with Archive(held) as archive:
        assert site.compare(archive, hours=3, time_zone="Asia/Kamchatka") == ""
        days = {str(one.StudyDate) for one in archive.asked if one.QueryRetrieveLevel == "STUDY"}
    assert days == {"20260301", "20260302"}
    assert site.missing().keys() == {"1.2.5.1", "1.2.5.2", "1.2.5.4"}


def test_keys_that_are_ignored_change_nothing(site):
    """An archive that returns everything to every question is understood, each study once."""
    held = [
        study_of(HEAD, series_of("1.2.3.1.1")),
        study_of("1.2.6.1", series_of("1.2.6.1.1"), date="20200101"),
    ]
    with Archive(held, ignores_keys=True) as archive:
        assert site.compare(archive, hours=30) == ""
    assert site.missing().keys() == {HEAD}
    assert site.last.studies == 1


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"script": {"STUDY": 0xA700}}, "The peer refused the query with status 0xA700."),
        ({"script": {"SERIES": 0xC001}}, "The peer refused the query with status 0xC001."),
        ({"stalls": True}, "The peer stopped answering the query."),
        ({"first": [nameless()]}, "The peer gave answers that cannot be read or name no UID."),
        ({"first": [b"\xff" * 40]}, "The peer gave answers that cannot be read or name no UID."),
        (
            {"first": [b"\x20\x00\x0d\x00UI\x06\x00no uid"]},
            "The peer gave answers that cannot be read",
        ),
        ({"endless": True}, "The peer has more answers than the 20 that are taken."),
        ({"endless": True, "deaf": True}, "The peer has more answers than the 20 that are taken."),
    ],
    ids=[
        "refuses",
        "refuses series",
        "falls silent",
        "empty",
        "garbage",
        "no uid",
        "endless",
        "deaf",
    ],
)
def test_a_bad_archive_is_a_failed_comparison_that_loses_nothing(site, how, sentence):
    """What it told first is entered; and nobody is told that nothing is missing."""
    with Archive([study_of(HEAD, series_of("1.2.3.1.1"), description="CT Head")], **how) as archive:
        problem = site.compare(archive, most=20, hours=2)
        assert sentence in problem
        if how.get("endless") and not how.get("deaf"):
            assert archive.cancelled == 2  # the day, then its hours
    assert HEAD in site.missing()
    assert site.last.error == problem
    assert site.last.compared_at is None


def test_an_archive_that_does_not_count_is_asked_for_its_images(site):
    """Then half a series is seen to be half."""
    site.receive(HEAD, "1.2.3.1.1", 10)
    site.clock.forward(1801)
    with Archive([study_of(HEAD, series_of("1.2.3.1.1", None))]) as archive:
        archive.images = 20
        assert site.compare(archive) == ""
    assert site.missing() == {HEAD: (False, 20, 10)}


def test_a_duplicate_answer_counts_once(site):
    """An archive that lists a study twice has it once."""
    study = study_of(HEAD, series_of("1.2.3.1.1", 32), series_of("1.2.3.1.1", 32))
    with Archive([study], first=[study[0]]) as archive:
        assert site.compare(archive) == ""
    assert site.missing() == {HEAD: (True, 32, 0)}


def test_a_busy_day_is_asked_for_by_its_hours(site):
    """More answers than are taken for the whole day, and few enough for the hours: all is well."""
    early = [study_of(f"1.2.7.{n}", series_of(f"1.2.7.{n}.1"), time="010000") for n in range(1, 9)]
    with Archive([*early, study_of(HEAD, series_of("1.2.3.1.1"))]) as archive:
        assert site.compare(archive, most=5, hours=2) == ""
        times = [str(one.StudyTime) for one in archive.asked if one.QueryRetrieveLevel == "STUDY"]
    assert times == ["", "083000-113000"]
    assert site.missing().keys() == {HEAD}


def test_an_archive_that_is_not_there_or_takes_no_queries_is_said_to_be_so(site):
    """Nobody there, nobody answering, nobody who understands."""
    for port in (closed_port(), None):
        with silent_listener() as silent:
            asking = Reconciliation(settings_for(port or silent), site.worklist, clock=site.clock)
            assert asking.compare().startswith("The peer c")
    with Archive(classes=[MOVE]) as archive:
        assert site.compare(archive) == "The peer takes no Study Root queries from us."


def test_after_a_failure_the_last_good_comparison_stands_and_so_do_its_rows(site):
    """A failed one says since when nothing is known; and what is missing stays missing."""
    with Archive([study_of(HEAD, series_of("1.2.3.1.1"))]) as archive:
        assert site.compare(archive) == ""
        good_at = site.last.compared_at
        site.clock.forward(600)
        archive.script = {"STUDY": 0xA700}
        archive.studies = []
        assert site.compare(archive)
        assert (site.last.compared_at, bool(site.last.error)) == (good_at, True)
        assert site.missing().keys() == {HEAD}


def test_a_scheduled_comparison_that_does_not_take_place_is_said(site):
    """Silence of housekeeping is no good news."""
    with Archive() as archive:
        assert site.compare(archive, every_minutes=10) == ""
    assert site.last.error == ""
    site.clock.forward(1201)
    assert site.last.error == "The comparison that was due did not take place."


def test_the_job_fails_where_the_comparison_did(site):
    """So that housekeeping names it in its heartbeat."""
    with Archive([study_of(HEAD, series_of("1.2.3.1.1"))]) as archive:
        assert site.asking(archive).reconcile() == 1
        assert archive.moved == []
        archive.script = {"STUDY": 0xA700}
        with pytest.raises(Unreconciled, match="0xA700"):
            site.asking(archive).reconcile()


def test_what_is_missing_is_fetched_where_that_is_wished_for(site):
    """The archive is asked to send it to our AE title, again after a time, and not for ever."""
    with Archive([study_of(HEAD, series_of("1.2.3.1.1"))], classes=[FIND, MOVE]) as archive:
        asking = site.asking(archive, fetch=True, move_destination="US")
        asking.reconcile()
        assert archive.moved == [(HEAD, "US")]
        assert asking.fetch() == []  # a moment later
        for _ in range(6):
            site.clock.forward(1801)
            asking.fetch()
        assert len(archive.moved) == 5
    [row] = site.worklist.views.not_received().rows
    assert (row.fetches, row.error) == (5, "")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (0xA801, "The peer does not know the move destination ICHNODE."),
        (0xC515, "The peer refused the C-MOVE with status 0xC515."),
    ],
)
def test_a_refused_fetch_is_shown_in_a_sentence(site, status, sentence):
    """And told once in the history."""
    with Archive([study_of(HEAD, series_of("1.2.3.1.1"))], move=status) as archive:
        asking = site.asking(archive)
        asking.compare()
        assert asking.fetch() == [(HEAD, sentence)]
    [row] = site.worklist.views.not_received().rows
    assert row.error == sentence
    assert site.happened(HEAD) == ["not_received", "fetch_failed"]


def test_a_person_may_know_of_it(site):
    """Dismissed it is not shown, nor after the next comparison, nor fetched."""
    with Archive([study_of(HEAD, series_of("1.2.3.1.1"))]) as archive:
        asking = site.asking(archive)
        asking.compare()
        site.worklist.reconciling.dismiss(HEAD, by="Dr B")
        asking.compare()
        assert asking.fetch() == []
    assert site.missing() == {}
    with pytest.raises(ConfigurationError, match="known to be missing"):
        site.worklist.reconciling.dismiss(OTHER, by="Dr B")


def test_the_page_the_health_and_the_metrics_say_it(site):
    """Above the list, on a page of its own, as a warning and as numbers without a name."""
    app = create_app(
        site.worklist.views,
        heartbeats=site.worklist.views.heartbeats,
        version="0.0",
        mode=lambda: Mode(observing=False),
        free_bytes=lambda: 1 << 40,
        clock=site.clock,
    )
    server = WebServer(app, "127.0.0.1", 0)
    with httpx.Client(base_url=f"http://127.0.0.1:{server.start()}") as client:
        assert "Nothing was ever compared" in client.get("/not-received").text
        with Archive([study_of(HEAD, series_of("1.2.3.1.1", 32))]) as archive:
            site.compare(archive)
            assert "1 head CT NOT RECEIVED." in client.get("/").text
            page = client.get("/not-received").text
            assert "DOE, JANE" in page.upper()
            assert "0 of 32 here" in page
            archive.script = {"STUDY": 0xA700}
            site.clock.forward(60)
            site.compare(archive)
        assert "the last comparison failed" in client.get("/not-received").text
        assert "is not known" in client.get("/").text
        arrivals = {c["name"]: c for c in client.get("/healthz").json()["checks"]}["arrivals"]
        assert "Head CTs of the PACS that did not arrive, or not whole: 1." in arrivals["sentence"]
        assert "0xA700" in arrivals["sentence"]
        text = client.get("/metrics").text
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert found["ichnode_not_received", "absent"] == 1
        age_s = found["ichnode_comparison_age_seconds", site.last.peer]
        assert age_s == 60
        assert HEAD not in text
    server.stop()


def test_whom_to_ask_is_a_destination_or_an_address():
    """And anything else is a sentence that says what to set."""
    there = [{"name": "pacs", "ae_title": "PACS", "host": "10.0.0.5", "port": 104}]
    name, peer = archive_of(Settings(destinations=there, reconcile={"peer": "pacs"}))
    assert (name, peer.called_ae, peer.calling_ae, peer.port) == ("pacs", "PACS", "ICHNODE", 104)
    assert archive_of(settings_for(4242))[1].called_ae == "ARCHIVE"
    for wrong in ("", "nobody", "PACS@host", "PACS@host:0"):
        with pytest.raises(ConfigurationError, match=r"reconcile\.peer"):
            archive_of(Settings(reconcile={"peer": wrong}))


def test_two_comparisons_at_once_do_not_disturb_each_other(site):
    """A person's and the schedule's: each study is entered once."""
    from concurrent.futures import ThreadPoolExecutor

    held = [study_of(f"1.2.8.{n}", series_of(f"1.2.8.{n}.1")) for n in range(1, 20)]
    with Archive(held) as archive, ThreadPoolExecutor(3) as pool:
        found = [pool.submit(site.compare, archive) for _ in range(3)]
        assert [one.result() for one in found] == ["", "", ""]
    assert len(site.missing()) == 19
    assert site.last.compared_at - site.clock.now() == timedelta(0)
