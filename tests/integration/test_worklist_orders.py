"""What other systems say of studies, on both engines."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, text

from ichnode.domain.findings import Finding
from ichnode.domain.hearing import (
    Demographics,
    Heard,
    OrderHeard,
    PatientCorrected,
    PatientKey,
    PatientsMerged,
    ReportHeard,
)
from ichnode.domain.telling import Seen
from ichnode.worklist import tables as t
from ichnode.worklist.orders import Consequence
from ichnode.worklist.policy import Policy
from ichnode.worklist.worklist import Worklist
from tests.worklist_fixtures import OpenWorklist
from tests.worklist_kit import HandClock, analysed, fresh_uid, look, send, slices

PATIENT = (PatientKey("4711", "HOSP"),)
OTHER = (PatientKey("4712", "HOSP"),)
_messages = iter(range(10_000))


def hear(worklist: Worklist, *things: Heard, digest: str = "") -> Consequence:
    """Hear a message that was never heard before."""
    return worklist.orders.hear(digest or f"{next(_messages):064}", "ORM^O01", things)


def order(priority: str = "STAT", number: str = "A1", patients: Any = PATIENT) -> OrderHeard:
    return OrderHeard(number, patients, priority)


def study(worklist: Worklist, which: int = 0) -> dict[str, Any]:
    """A study's row as it is in the database."""
    with worklist._database.reading() as transaction:
        row = transaction.session.scalars(select(t.Study).order_by(t.Study.id)).all()[which]
        return {column.key: getattr(row, column.key) for column in t.Study.__table__.columns}


def history(worklist: Worklist, noun: str = "study") -> list[tuple[str, dict[str, Any]]]:
    with worklist._database.reading() as transaction:
        rows = transaction.session.scalars(
            select(t.Event).where(t.Event.noun == noun).order_by(t.Event.id)
        )
        return [(row.verb, row.detail) for row in rows]


def count(worklist: Worklist, table: str) -> int:
    with worklist._database.reading() as transaction:
        return int(transaction.session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def brought(worklist: Worklist, **header: Any) -> str:
    uid = fresh_uid()
    made = slices(2, series_uid=uid, association=uid)
    worklist.record([replace(one, header=replace(one.header, **header)) for one in made])
    return uid


# ------------------------------------------------------------------ ordered priorities


def test_an_order_moves_a_study_that_is_here(worklist: Worklist) -> None:
    """Its priority and rank rise, its series is taken earlier, and the history says why."""
    uid = brought(worklist)
    before = worklist.views.series(uid)
    assert hear(worklist, order()) == Consequence(studies=1)
    assert (study(worklist)["ordered_priority"], study(worklist)["ordered_rank"]) == ("STAT", 0)
    assert before is not None
    with worklist._database.reading() as transaction:
        series = transaction.session.scalars(select(t.Series)).one()
        assert series.urgency_at == series.due_at
    assert ("ordered", {"message": "ORM^O01", "priority": "STAT"}) in history(worklist)


def test_an_order_counts_for_a_study_that_comes_later(worklist: Worklist) -> None:
    """The study has its priority from its first image on, LOW ones too."""
    assert hear(worklist, order("ROUTINE")) == Consequence(studies=0)
    brought(worklist)
    assert study(worklist)["ordered_priority"] == "ROUTINE"
    assert study(worklist)["ordered_rank"] == 3


def test_an_order_of_low_priority_has_the_place_of_one(worklist: Worklist) -> None:
    """As if the images had said so; an order that comes later moves nothing down."""
    hear(worklist, order("LOW"))
    brought(worklist)
    assert (study(worklist)["ordered_rank"], study(worklist)["list_rank"]) == (4, 4)
    brought(worklist, accession_number="A2")
    hear(worklist, order("LOW", number="A2"))
    assert (study(worklist, 1)["ordered_rank"], study(worklist, 1)["list_rank"]) == (2, 2)


@pytest.mark.parametrize("before", [True, False])
def test_subscribers_learn_of_a_priority_that_was_ordered(before: bool, worklist: Worklist) -> None:
    """A client that sorts by what it was told reads a STAT late otherwise."""
    worklist.tasks.subscribe(None, "WATCHER", locks=False)
    if before:
        hear(worklist, order())
    brought(worklist)
    if not before:
        hear(worklist, order())
    work = worklist.tasks.notices("WATCHER").claim("test")
    assert work is not None
    assert json.loads(work.items[-1].content)["00741200"]["Value"] == ["HIGH"]


def test_of_order_and_images_the_more_urgent_word_counts(worklist: Worklist) -> None:
    """Whatever comes first, nothing moves down."""
    hear(worklist, order("HIGH"))
    brought(worklist, requested_priority="ROUTINE")
    assert study(worklist)["ordered_priority"] == "HIGH"
    hear(worklist, order("STAT"))
    hear(worklist, order("ROUTINE"))
    assert study(worklist)["ordered_priority"] == "STAT"


def test_an_order_that_came_with_the_first_image_counts_from_the_next_one(
    worklist: Worklist,
) -> None:
    """Two processes that did not see each other agree one image later."""
    uid = brought(worklist)
    with worklist._database.writing() as transaction:
        transaction.session.add(
            t.Ordered(
                accession_number="A1", patients=[], priority="STAT", rank=0, at=transaction.now
            )
        )
    worklist.record(slices(1, series_uid=uid, first=9))
    assert study(worklist)["ordered_priority"] == "STAT"


def test_an_order_of_another_patient_moves_nothing(worklist: Worklist) -> None:
    """An accession number alone does not name a study; the history shows that it was tried."""
    brought(worklist)
    assert hear(worklist, order(patients=OTHER)) == Consequence(studies=0)
    assert study(worklist)["ordered_priority"] == ""
    assert [verb for verb, _ in history(worklist)] == ["not_followed"]
    brought(worklist)
    assert study(worklist, 1)["ordered_priority"] == ""


def test_another_issuer_is_another_patient(worklist: Worklist) -> None:
    """The same number given by somebody else is not the same."""
    brought(worklist, issuer_of_patient_id="ELSEWHERE")
    assert hear(worklist, order()) == Consequence(studies=0)
    assert hear(worklist, order(patients=(PatientKey("4711", "elsewhere"),))).studies == 1


def test_the_issuer_of_the_site_stands_in_where_none_is_said(open_worklist: OpenWorklist) -> None:
    """Images without issuer are of the configured one."""
    worklist = open_worklist(Policy(assigning_authority="CLINIC"))
    brought(worklist)
    assert hear(worklist, order()).studies == 0
    assert hear(worklist, order(patients=(PatientKey("4711", "CLINIC"),))).studies == 1


def test_the_same_message_again_changes_nothing(worklist: Worklist) -> None:
    """What a sender repeats, because it did not hear us, is not done twice."""
    brought(worklist)
    assert hear(worklist, order(), digest="d" * 64) == Consequence(studies=1)
    assert hear(worklist, order("ROUTINE"), digest="d" * 64) == Consequence(repeated=True)
    assert count(worklist, "message") == 1


def test_what_is_heard_is_forgotten_in_time(worklist: Worklist, hand_clock: HandClock) -> None:
    """Messages after two weeks, orders whose images never came after three months."""
    hear(worklist, order())
    hand_clock.forward(15 * 86400)
    hear(worklist, order(number="A2"))
    assert (count(worklist, "message"), count(worklist, "ordered")) == (1, 2)
    hand_clock.forward(80 * 86400)
    hear(worklist, order(number="A3"))
    assert (count(worklist, "message"), count(worklist, "ordered")) == (1, 2)


def test_messages_about_the_same_studies_never_wait_in_a_circle(
    open_worklist: OpenWorklist,
) -> None:
    """Whatever order they name them in, while their images come."""
    worklist = open_worklist(real_time=True)
    for number in ("A1", "A2"):
        brought(worklist, accession_number=number)
    orders = [order(number=number, patients=()) for number in ("A1", "A2")]

    def tell(name: str) -> None:
        for turn in range(25):
            things = orders if name == "x" else orders[::-1]
            worklist.orders.hear(f"{name}{turn}".rjust(64, "0"), "OMG^O19", things)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(tell, ("x", "y")))
    assert count(worklist, "message") == 50


# ------------------------------------------------------------------ reports


def test_a_final_report_marks_its_study_as_reported(worklist: Worklist) -> None:
    """A row that names the accession number, an event, and no text unless the site wants it."""
    brought(worklist)
    report = ReportHeard("A1", PATIENT, "No haemorrhage. PATIENT^TEST", corrected=False)
    assert hear(worklist, report) == Consequence(studies=1)
    with worklist._database.reading() as transaction:
        row = transaction.session.scalars(select(t.Report)).one()
        assert (row.accession_number, row.text, row.corrected) == ("A1", "", False)
    [(verb, told)] = history(worklist)
    assert (verb, told["by"]) == ("reported", "a report by HL7")
    assert worklist.views.reading_list()[0].seen_how is Seen.REPORTED
    assert list(worklist.orders.report_texts()) == []


def test_a_report_of_an_accession_number_of_several_patients_is_followed_by_nothing(
    worklist: Worklist,
) -> None:
    """A message that names no patient might silence the alert of another one."""
    brought(worklist)
    brought(worklist, patient_id="4712")
    assert hear(worklist, ReportHeard("A1", (), "", corrected=False)) == Consequence(studies=0)
    assert [verb for verb, _ in history(worklist)] == ["not_followed"] * 2
    assert all(row.seen_how is None for row in worklist.views.reading_list())


@pytest.mark.parametrize("corrected", [False, True])
def test_a_report_silences_no_images_that_came_after_it(
    corrected: bool, worklist: Worklist, hand_clock: HandClock
) -> None:
    """It may be heard late, and its correction need not be about a control scan."""
    made_at = hand_clock.now()
    first = ReportHeard("A1", PATIENT, "", corrected=False, at=made_at)
    if corrected:
        hear(worklist, first)
    hand_clock.forward(3600)
    brought(worklist)
    hand_clock.forward(60)
    look(worklist, analysed(Finding.POSITIVE))
    again = ReportHeard("A1", PATIENT, "", corrected=True)
    assert hear(worklist, again if corrected else first) == Consequence(studies=1)
    assert [work.destination for work in send(worklist)] == ["pacs"]
    assert study(worklist)["seen_at"] == made_at


def test_texts_are_kept_where_wanted_and_the_correction_counts(
    open_worklist: OpenWorklist, hand_clock: HandClock
) -> None:
    """One row a study, with the newest text and the moment of the first report."""
    worklist = open_worklist(Policy(keep_reports=True))
    hear(worklist, ReportHeard("A1", PATIENT, "No haemorrhage.", corrected=False))
    assert list(worklist.orders.report_texts()) == []  # its study never came
    brought(worklist)
    hand_clock.forward(60)
    hear(worklist, ReportHeard("A1", PATIENT, "Subdural haemorrhage.\x00", corrected=True))
    (kept,) = worklist.orders.report_texts()
    assert (kept.accession_number, kept.text) == ("A1", "Subdural haemorrhage.")
    with worklist._database.reading() as transaction:
        row = transaction.session.scalars(select(t.Report)).one()
        assert row.corrected
        assert (row.at - row.first_at).total_seconds() == 60


# ------------------------------------------------------------------ patients


def test_a_correction_is_followed_and_told_without_its_values(worklist: Worklist) -> None:
    """Only what is said and is news is changed."""
    brought(worklist)
    now = Demographics(name="Patient^Test", birth_date="19600102", sex=None)
    assert hear(worklist, PatientCorrected(PATIENT, now)) == Consequence(studies=1)
    row = study(worklist)
    assert (row["patient_name"], row["patient_birth_date"]) == ("Patient^Test", "19600102")
    (told,) = history(worklist)
    assert told[1]["fields"] == ["patient_birth_date", "patient_name"]
    assert "Test" not in str(told)
    assert hear(worklist, PatientCorrected(PATIENT, now)) == Consequence(studies=0)
    assert hear(worklist, PatientCorrected(OTHER, now)) == Consequence(studies=0)


def test_a_merge_takes_the_studies_along(worklist: Worklist) -> None:
    """Studies of the ID that is gone have the one that is kept; others are left alone."""
    brought(worklist, issuer_of_patient_id="HOSP")
    kept = (PatientKey("9999", "OTHER"), PatientKey("8888", "HOSP"))
    merge = PatientsMerged(kept, PATIENT, Demographics(name="Patient^Test"))
    assert hear(worklist, merge) == Consequence(studies=1)
    row = study(worklist)
    assert (row["patient_id"], row["issuer_of_patient_id"]) == ("8888", "HOSP")
    assert row["patient_name"] == "Patient^Test"
    assert [verb for verb, _ in history(worklist)] == ["merged"]
    assert hear(worklist, merge) == Consequence(studies=0)
