"""Labels by people: taken in once, superseded and never forgotten; on both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ichnode.domain.findings import LABELS, Finding
from ichnode.domain.labels import completed
from ichnode.domain.reasons import Reason
from ichnode.domain.work import Declined
from ichnode.worklist.labels import Entered, LabelLine, Outcome
from ichnode.worklist.worklist import Worklist
from tests.worklist_kit import HandClock, analysed, build, fresh_uid, look, send, slices

DAY_S = 86400.0


def study(
    worklist: Worklist, clock: HandClock, finding: Finding | None, accession: str = ""
) -> str:
    """A study of one series that was looked at; returns its UID."""
    uid = fresh_uid()
    arrived = slices(3, series_uid=uid)
    number = accession or f"A{uid}"
    arrived = [replace(a, header=replace(a.header, accession_number=number)) for a in arrived]
    worklist.record(arrived)
    clock.forward(20)
    if finding is None:
        look(worklist, Declined(Reason.LOCALIZER))
    else:
        look(worklist, analysed(finding))
    return f"{uid}.9"


def line(number: int = 2, **changes: object) -> LabelLine:
    """A line of a file."""
    stated = {label: bool(changes.pop(label)) for label in LABELS if label in changes}
    made = LabelLine(number, "", "", "", completed(stated), "reader", "Dr B")
    return replace(made, **changes)  # type: ignore[arg-type]


def enter(worklist: Worklist, *lines: LabelLine) -> list[Entered]:
    return worklist.labels.enter(lines)


@pytest.fixture
def positive(worklist: Worklist, hand_clock: HandClock) -> str:
    """A study that the model called positive."""
    return study(worklist, hand_clock, Finding.POSITIVE, "A1")


def test_a_label_is_found_by_accession_or_uid(worklist: Worklist, positive: str) -> None:
    """What follows from it is there too, with its source."""
    (done,) = enter(worklist, line(accession_number="A1", any=False))
    assert done.outcome is Outcome.RECORDED
    truth = worklist.labels.truth(positive).study
    assert truth.labels == (False,) * 6
    assert truth.source == "reader"
    (done,) = enter(worklist, line(study_uid=positive, subdural=True))
    assert (done.outcome, done.superseded) == (Outcome.RECORDED, 2)
    assert worklist.labels.truth(positive).study.of("subdural") is True


def test_the_same_file_again_changes_nothing(worklist: Worklist, positive: str) -> None:
    """Neither the labels nor the history."""
    lines = [line(study_uid=positive, any=True, epidural=True)]
    enter(worklist, *lines)
    story = worklist.views.study(positive)
    assert [done.outcome for done in enter(worklist, *lines)] == [Outcome.UNCHANGED]
    assert worklist.views.study(positive) == story


def test_what_is_superseded_stays_in_the_history(worklist: Worklist, positive: str) -> None:
    """Who said what instead of what, without patient data."""
    enter(worklist, line(study_uid=positive, any=True))
    enter(worklist, line(study_uid=positive, any=False, said_by="Dr C"))
    story = worklist.views.study(positive)
    assert story is not None
    said = [event for event in story.events if event.verb in {"labelled", "relabelled"}]
    assert [event.verb for event in said] == ["labelled", "relabelled"]
    assert said[1].detail["any"] == "present to absent"
    assert said[1].detail["said_by"] == "Dr C"


def test_a_more_trusted_source_stands(worklist: Worklist, positive: str) -> None:
    """A report that comes later does not overrule a reader; it is kept, and said."""
    enter(worklist, line(study_uid=positive, any=True))
    (done,) = enter(worklist, line(study_uid=positive, any=False, source="report"))
    assert (done.outcome, done.outranked) == (Outcome.RECORDED, True)
    assert worklist.labels.truth(positive).study.positive is True
    (done,) = enter(worklist, line(study_uid=positive, any=False, source="adjudicated"))
    assert not done.outranked
    assert worklist.labels.truth(positive).study.labels == (False,) * 6


def test_an_unknown_and_an_ambiguous_accession_are_told_apart(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """What never arrived is unknown; what names two studies needs the study's UID."""
    first = study(worklist, hand_clock, Finding.NEGATIVE, "A7")
    study(worklist, hand_clock, Finding.NEGATIVE, "A7")
    unknown, ambiguous, exact = enter(
        worklist,
        line(2, accession_number="A8", any=True),
        line(3, accession_number="A7", any=True),
        line(4, accession_number="A7", study_uid=first, any=True),
    )
    assert unknown.outcome is Outcome.UNKNOWN
    assert ambiguous.outcome is Outcome.REFUSED
    assert "2 studies" in ambiguous.sentence
    assert "A7" not in ambiguous.sentence
    assert exact.outcome is Outcome.RECORDED


def test_keys_that_name_two_studies_are_refused(worklist: Worklist, hand_clock: HandClock) -> None:
    """A file whose columns slipped is noticed."""
    first = study(worklist, hand_clock, Finding.NEGATIVE, "A1")
    study(worklist, hand_clock, Finding.NEGATIVE, "A2")
    (done,) = enter(worklist, line(study_uid=first, accession_number="A2", any=True))
    assert done.outcome is Outcome.REFUSED
    assert worklist.labels.truth(first).study.positive is None


def test_a_label_of_a_series_is_about_that_series(worklist: Worklist, positive: str) -> None:
    """Of the study as a whole it says nothing; and the series must be one of the study's."""
    series_uid = positive.removesuffix(".9")
    (done,) = enter(worklist, line(study_uid=positive, series_uid=series_uid, any=True))
    assert done.outcome is Outcome.RECORDED
    truth = worklist.labels.truth(positive)
    assert truth.study.positive is None
    assert truth.about(series_uid).positive is True
    assert truth.about("1.2.3").positive is None
    (wrong,) = enter(worklist, line(study_uid=positive, series_uid="1.2.3", any=True))
    assert wrong.outcome is Outcome.REFUSED


def test_a_dry_run_says_the_same_and_writes_nothing(worklist: Worklist, positive: str) -> None:
    """So that a file can be looked through first."""
    lines = [line(study_uid=positive, any=True), line(3, accession_number="none", any=True)]
    dry = worklist.labels.enter(lines, dry_run=True)
    assert worklist.labels.truth(positive).study.positive is None
    assert dry == worklist.labels.enter(lines)


def test_the_summary_tells_flagged_from_unflagged(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """By what the model said and not by the band that a person made of it."""
    flagged = study(worklist, hand_clock, Finding.POSITIVE)
    study(worklist, hand_clock, Finding.REVIEW)
    missed = study(worklist, hand_clock, Finding.NEGATIVE)
    study(worklist, hand_clock, Finding.NEGATIVE)
    study(worklist, hand_clock, None)
    worklist.lower(flagged, "Dr B", "artefact")
    enter(worklist, line(study_uid=flagged, any=False), line(study_uid=missed, subdural=True))
    summary = worklist.labels.summary()
    assert (summary.studies, summary.images_here, summary.collected) == (2, 2, 0)
    assert (summary.flagged, summary.unflagged) == ((1, 2), (1, 2))
    assert summary.labels["any"]["reader"] == (1, 1)
    assert summary.labels["subdural"]["reader"] == (1, 1)
    assert summary.labels["epidural"]["reader"] == (0, 1)
    assert summary.bands["routine"] == (2, 3)
    assert summary.bands["not_analysed"] == (0, 1)


def test_many_lines_go_in_many_transactions(worklist: Worklist, hand_clock: HandClock) -> None:
    """A receiver never waits for a whole file; each line says what became of it, in order."""
    known = study(worklist, hand_clock, Finding.NEGATIVE)
    lines = [line(n, accession_number=f"none{n}", any=True) for n in range(2, 450)]
    done = enter(worklist, *lines, line(450, study_uid=known, any=True))
    assert [one.line for one in done] == list(range(2, 451))
    assert done[-1].outcome is Outcome.RECORDED


# ------------------------------------------------------------------ retention


def purgeable(worklist: Worklist) -> int:
    return len(worklist.purgeable(timedelta(days=14), label_wait=timedelta(days=90)))


def test_a_labelled_study_is_kept_until_it_was_exported(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """The wait begins anew with the label, and ends with the export."""
    uid = study(worklist, hand_clock, Finding.NEGATIVE)
    hand_clock.forward(80 * DAY_S)
    enter(worklist, line(study_uid=uid, any=False))
    hand_clock.forward(80 * DAY_S)
    assert purgeable(worklist) == 0
    assert worklist.labels.mark_collected([uid]) == 1
    assert purgeable(worklist) == 3


def test_a_label_is_not_waited_for_for_ever(worklist: Worklist, hand_clock: HandClock) -> None:
    """Without a label, or with one that nobody used, the images go after the wait."""
    study(worklist, hand_clock, Finding.NEGATIVE)
    labelled = study(worklist, hand_clock, Finding.NEGATIVE)
    enter(worklist, line(study_uid=labelled, any=False))
    hand_clock.forward(91 * DAY_S)
    assert purgeable(worklist) == 6


def test_what_is_owed_is_kept_whatever_was_exported(
    worklist: Worklist, hand_clock: HandClock
) -> None:
    """Only what is delivered may go."""
    uid = study(worklist, hand_clock, Finding.POSITIVE)
    enter(worklist, line(study_uid=uid, any=True))
    worklist.labels.mark_collected([uid])
    hand_clock.forward(400 * DAY_S)
    assert purgeable(worklist) == 0
    build(worklist)
    send(worklist)
    assert purgeable(worklist) == 3
