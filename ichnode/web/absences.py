"""Lines of the page about what did not come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ichnode.web import wording
from ichnode.web.views import AbsentRow, ComparisonRow, NotReceived


@dataclass(frozen=True, slots=True)
class AbsentLine:
    """A study that is not here, or not whole. Holds PHI."""

    study_uid: str
    known: bool  # there is a page about it
    word: str
    images: str
    name: str
    patient_id: str
    accession: str
    description: str
    began: str
    since: str
    stamp: str
    peer: str
    fetched: str


@dataclass(frozen=True, slots=True)
class ComparisonLine:
    """How it went with one archive."""

    state: str
    text: str


def absent_line(row: AbsentRow, now: datetime) -> AbsentLine:
    """Return a study that did not come."""
    return AbsentLine(
        study_uid=row.study_uid,
        known=not row.nothing_came,
        word="NOT RECEIVED" if row.nothing_came else "INCOMPLETE",
        images=_images(row),
        name=wording.person(row.patient_name),
        patient_id=wording.clean(row.patient_id),
        accession=wording.clean(row.accession_number),
        description=wording.clean(row.study_description),
        began=f"{wording.day(row.study_date)} {_time(row.study_time)}".strip(),
        since=wording.span(now - row.first_seen_at),
        stamp=wording.stamp(row.first_seen_at),
        peer=row.peer,
        fetched=_fetched(row, now),
    )


def _images(row: AbsentRow) -> str:
    if row.held is None:
        return f"{row.here} here"
    missing = f", {row.series_missing} series missing" if row.series_missing else ""
    return f"{row.here} of {row.held} here{missing}"


def _time(text: str) -> str:
    """Write a DICOM time (TM) with colons; anything else as it is."""
    digits = text.replace(":", "")[:4]
    return f"{digits[:2]}:{digits[2:]}" if len(digits) == 4 and digits.isdigit() else ""


def _fetched(row: AbsentRow, now: datetime) -> str:
    if row.fetched_at is None:
        return "not asked for"
    at = wording.clock_time(row.fetched_at, now)
    times = f"asked for {row.fetches} times, last {at}" if row.fetches > 1 else f"asked for {at}"
    return f"{times}: {wording.clean(row.error)}" if row.error else times


def comparison_lines(found: NotReceived, now: datetime) -> list[ComparisonLine]:
    """Say of each archive when it was last compared, or that it was not."""
    return [_comparison(one, now) for one in found.comparisons]


def _comparison(one: ComparisonRow, now: datetime) -> ComparisonLine:
    last = (
        "It was never compared to the end."
        if one.compared_at is None
        else f"Last compared {wording.clock_time(one.compared_at, now)}"
    )
    if one.error:
        ending = "" if one.compared_at is None else "; what came since is not known."
        failed = f"{one.peer}: the last comparison failed. {wording.clean(one.error)}"
        return ComparisonLine("failed", f"{failed} {last}{ending}")
    return ComparisonLine(
        "good", f"{one.peer}: {last}: {one.studies} CT studies, {one.heads} of them of the head."
    )


def banner(found: NotReceived) -> str:
    """Return what stands above the list; empty where there is nothing to say."""
    absent = sum(row.nothing_came for row in found.rows)
    parts = []
    if absent:
        parts.append(f"{absent} head {'CT' if absent == 1 else 'CTs'} NOT RECEIVED.")
    if incomplete := len(found.rows) - absent:
        parts.append(f"{incomplete} INCOMPLETE.")
    if any(one.error for one in found.comparisons):
        parts.append("Whether everything arrived is not known: the PACS could not be compared.")
    return " ".join(parts)
