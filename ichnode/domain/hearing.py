"""What other systems say of orders, reports and patients, whatever the language it came in."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class PatientKey:
    """A Patient ID and who gave it; "" where that is not said. PHI: never log it."""

    id: str = field(repr=False)
    issuer: str = field(default="", repr=False)

    def may_be(self, other: PatientKey) -> bool:
        """Say whether two keys can be of one patient; an issuer left out contradicts none."""
        if not self.id or self.id != other.id:
            return False
        mine, others = self.issuer.casefold(), other.issuer.casefold()
        return not mine or not others or mine == others


@dataclass(frozen=True, slots=True)
class Demographics:
    """Who a patient is, as DICOM writes it; None where nothing is said of it. PHI."""

    name: str | None = field(default=None, repr=False)
    birth_date: str | None = field(default=None, repr=False)
    sex: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class OrderHeard:
    """An order, or a change of one: how urgent it is (STAT, HIGH, MEDIUM, ROUTINE)."""

    accession_number: str = field(repr=False)
    patients: tuple[PatientKey, ...]
    priority: str


@dataclass(frozen=True, slots=True)
class ReportHeard:
    """The final report of a study, or the correction of one; `at` is when, where that is said."""

    accession_number: str = field(repr=False)
    patients: tuple[PatientKey, ...]
    text: str = field(repr=False)
    corrected: bool
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PatientCorrected:
    """A patient's name, birth date or sex is another one than was known."""

    patients: tuple[PatientKey, ...]
    now: Demographics


@dataclass(frozen=True, slots=True)
class PatientsMerged:
    """Patient IDs that are used no longer: their studies belong to another one."""

    kept: tuple[PatientKey, ...]
    gone: tuple[PatientKey, ...]
    now: Demographics


Heard = OrderHeard | ReportHeard | PatientCorrected | PatientsMerged
