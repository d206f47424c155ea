"""What an archive has, and which of it should have come: nothing is hidden by what is not known."""

from __future__ import annotations

import re
from datetime import datetime

import pytest

from ichnode.domain.holdings import HeadRule, HeldSeries, HeldStudy, days_between
from ichnode.settings import ReconcileSettings

read = datetime.fromisoformat
DEFAULTS = ReconcileSettings()
RULE = HeadRule(
    frozenset(DEFAULTS.body_parts),
    tuple(re.compile(one, re.IGNORECASE) for one in DEFAULTS.patterns),
    DEFAULTS.least_images,
)


def expected(said: str = "", /, **series: object) -> bool:
    made = HeldSeries("1.2.1", **({"modality": "CT", "instances": 30} | series))
    return RULE.expected(HeldStudy("1.2", description=said, series=(made,))) is not None


@pytest.mark.parametrize(
    ("description", "series", "is_head"),
    [
        ("", {"body_part": "HEAD"}, True),
        ("", {"body_part": " head "}, True),
        ("Thorax", {"body_part": "CHEST"}, False),
        ("CT Schädel nativ", {}, True),
        ("CT HEAD W/O", {"body_part": "CHEST"}, True),  # a scanner that always says the same
        ("Trauma", {"description": "BRAIN 5mm"}, True),
        ("Scanner du crâne", {}, True),
        ("NCCT", {}, True),
        ("CT forehead overview", {}, False),
        ("CT Abdomen", {}, False),
        ("", {}, True),  # nothing is known of it: it may be one
        ("CT HEAD", {"modality": "SR"}, False),
        ("CT HEAD", {"modality": ""}, True),
        ("CT HEAD", {"instances": 2}, False),  # the localizer
        ("CT HEAD", {"instances": None}, True),
    ],
)
def test_a_head_is_told_by_what_is_known(description, series, is_head):
    """Body part, descriptions and the number of images decide, and doubt counts as a head."""
    assert expected(description, **series) is is_head


def test_a_study_whose_series_are_not_known_is_judged_by_its_own_words():
    """Where the archive did not tell of the series, any image of the study will do."""
    assert RULE.expected(HeldStudy("1.2", description="CT Head")).series == {}
    assert RULE.expected(HeldStudy("1.2")) is not None
    assert RULE.expected(HeldStudy("1.2", description="CT Knee")) is None


def test_of_a_whole_body_only_the_head_is_waited_for():
    """The series of other parts may go elsewhere."""
    series = (
        HeldSeries("1.2.1", "CT", 30, "HEAD"),
        HeldSeries("1.2.2", "CT", 400, "CHEST"),
    )
    found = RULE.expected(HeldStudy("1.2", description="Polytrauma", series=series))
    assert found.series == {"1.2.1": 30}


def test_a_time_across_midnight_is_asked_for_day_by_day():
    """Each day has the hours that belong to it, and none falls between."""
    late, noon = read("2026-02-27T22:30:00"), read("2026-03-01T12:00:05")
    assert days_between(late, noon) == [
        ("20260227", "223000-235959"),
        ("20260228", "000000-235959"),
        ("20260301", "000000-120005"),
    ]
    assert days_between(noon, noon) == [("20260301", "120005-120005")]


@pytest.mark.parametrize(
    ("date", "time", "began"),
    [
        ("20260301", "101112.123456", read("2026-03-01T10:11:12")),
        ("2026.03.01", "10:11:12", read("2026-03-01T10:11:12")),
        ("20260301", "10", read("2026-03-01T10:00:00")),
        ("20260301", "", None),
        ("20261301", "101112", None),
        ("", "101112", None),
        ("yesterday", "noon", None),
    ],
)
def test_dates_and_times_are_read_or_are_not_known(date, time, began):
    """Old forms are read too; what is no date is none."""
    assert HeldStudy("1.2", study_date=date, study_time=time).began == began
