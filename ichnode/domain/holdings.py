"""What an archive says that it holds, and which of it should have come here.

An archive knows of a study what its query may return: dates and times of the modality's own clock,
descriptions that people typed, counts that may be missing. Whatever cannot be known counts as a
study that should have come: to show one too many is a nuisance, to hide one is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

_DATE = re.compile(r"(\d{4})[.\-]?(\d{2})[.\-]?(\d{2})")
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2}))?)?(?:\.\d*)?")


@dataclass(frozen=True, slots=True)
class HeldSeries:
    """A series as an archive describes it. Holds PHI in its description."""

    series_uid: str
    modality: str = ""
    instances: int | None = None  # where the archive tells
    body_part: str = ""
    description: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True)
class HeldStudy:
    """A study as an archive describes it. Holds PHI: never log it."""

    study_uid: str
    study_date: str = field(repr=False, default="")  # DA, the modality's local time
    study_time: str = field(repr=False, default="")  # TM, likewise
    description: str = field(repr=False, default="")
    accession_number: str = field(repr=False, default="")
    patient_id: str = field(repr=False, default="")
    patient_name: str = field(repr=False, default="")
    modalities: tuple[str, ...] = ()
    instances: int | None = None
    series: tuple[HeldSeries, ...] = ()

    @property
    def may_be_ct(self) -> bool:
        """Whether it is worth asking for its series."""
        return not self.modalities or "CT" in self.modalities

    @property
    def began(self) -> datetime | None:
        """When it began by the modality's clock, without a zone; None where that is unreadable."""
        day, time = _DATE.match(self.study_date), _TIME.match(self.study_time)
        if day is None or time is None:
            return None
        try:
            return datetime(  # noqa: DTZ001 - a modality states no zone
                *(int(part) for part in day.groups()),  # type: ignore[arg-type]
                *(int(part or 0) for part in time.groups()),
            )
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Expected:
    """A study that should be here, and how much of it.

    Attributes
    ----------
    series : mapping of str to (int or None)
        Instances by Series Instance UID; None where the archive does not tell. Empty where it told
        of no series: then anything of the study will do.
    """

    study: HeldStudy
    series: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeadRule:
    """Which CT series are of a head, by what a query tells.

    Parameters
    ----------
    body_parts : frozenset of str
        Values of Body Part Examined, in capitals.
    patterns : tuple of re.Pattern
        Searched for in Study and Series Description.
    least_images : int
        A series with fewer is a localizer or a dose report, and not waited for.
    """

    body_parts: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]
    least_images: int

    def expected(self, study: HeldStudy) -> Expected | None:
        """Return what should have come of a study; None where it is no CT of a head."""
        if not study.series:
            if self._names_head(study.description) or not study.description.strip():
                return Expected(study)
            return None
        heads = {s.series_uid: s.instances for s in study.series if self._is_head(study, s)}
        return Expected(study, heads) if heads else None

    def _is_head(self, study: HeldStudy, series: HeldSeries) -> bool:
        if series.modality.strip().upper() not in ("CT", ""):
            return False
        if series.instances is not None and series.instances < self.least_images:
            return False
        if series.body_part.strip().upper() in self.body_parts:
            return True
        if self._names_head(series.description) or self._names_head(study.description):
            return True
        said = series.body_part + series.description + study.description
        return not said.strip()  # nothing says that it is none

    def _names_head(self, text: str) -> bool:
        return any(pattern.search(text) for pattern in self.patterns)


def days_between(since: datetime, until: datetime) -> list[tuple[str, str]]:
    """Return (Study Date, Study Time) keys of a query for each day from one moment to another.

    Date and time match independently of each other (PS3.4 C.2.2.2.5), so that a range of each
    would leave out the hours around midnight.

    Parameters
    ----------
    since, until : datetime
        By the modalities' clock, without a zone.

    Examples
    --------
    >>> from datetime import datetime
    >>> days_between(datetime(2026, 3, 1, 22), datetime(2026, 3, 2, 4))
    [('20260301', '220000-235959'), ('20260302', '000000-040000')]
    """
    found = []
    day = since.replace(hour=0, minute=0, second=0, microsecond=0)
    while day <= until:
        end = day + timedelta(days=1, seconds=-1)
        found.append((f"{day:%Y%m%d}", f"{max(since, day):%H%M%S}-{min(until, end):%H%M%S}"))
        day += timedelta(days=1)
    return found
