"""What the tests of the worklist are made of: a clock that they move, arrivals, results."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ichnode.domain.findings import LABELS, AnalysisResult, Finding, LabelResult, Presence
from ichnode.domain.series import Arrival, Header
from ichnode.domain.work import (
    Acknowledged,
    Analysed,
    AnalysisOutcome,
    AnalysisWork,
    Built,
    DeliveryWork,
    Dispatched,
    DocumentWork,
    Failed,
)
from ichnode.worklist.policy import Policy, Route
from ichnode.worklist.worklist import Worklist

MODEL = "2.25.1234567890"
PACS = Route("pacs", frozenset({"sr", "sc", "ups"}), loopback=True)
POLICY = Policy(destinations=(PACS,))

_numbers = itertools.count(1)


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def forward(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


def fresh_uid() -> str:
    """A UID that no other test has."""
    return f"1.2.826.0.1.{next(_numbers)}"


def slices(
    count: int,
    *,
    series_uid: str = "",
    study_uid: str = "",
    first: int = 1,
    association: str = "a1",
    calling_ae: str = "CT1",
    thickness_mm: float = 5.0,
    salt: str = "",
    **header: object,
) -> list[Arrival]:
    """`count` slices of one series, numbered from `first`; `salt` makes other bytes of them."""
    series_uid = series_uid or fresh_uid()
    study_uid = study_uid or f"{series_uid}.9"
    return [
        arrival(
            Header(
                sop_uid=f"{series_uid}.{number}",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
                series_uid=series_uid,
                study_uid=study_uid,
                patient_id="4711",
                patient_name="Doe^Jane",
                accession_number="A1",
                modality="CT",
                instance_number=number,
                slice_thickness_mm=thickness_mm,
                image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
                orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
                position_mm=(0.0, 0.0, 5.0 * number),
                pixel_spacing_mm=(0.5, 0.5),
                **header,  # type: ignore[arg-type]
            ),
            association=association,
            calling_ae=calling_ae,
            salt=salt,
        )
        for number in range(first, first + count)
    ]


def arrival(
    header: Header, *, association: str = "a1", calling_ae: str = "CT1", salt: str = ""
) -> Arrival:
    """One instance at the door."""
    sha256 = hashlib.sha256(f"{header.sop_uid}{salt}".encode()).hexdigest()
    return Arrival(
        header=header,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        sha256=sha256,
        path=f"instances/{sha256[:2]}/{sha256}.dcm",
        size_bytes=1000,
        received_at=datetime(2026, 3, 1, 11, 59, tzinfo=UTC),
        association_id=association,
        calling_ae=calling_ae,
        called_ae="ICHNODE",
        peer_address="127.0.0.1",
    )


def result(
    finding: Finding = Finding.POSITIVE,
    *,
    model_uid: str = MODEL,
    key: str = "1.2.3",
    score: float = 1.0,
) -> AnalysisResult:
    """What a model might say."""
    probability = {Finding.POSITIVE: 0.97, Finding.REVIEW: 0.4, Finding.NEGATIVE: 0.02}[finding]
    presence = {
        Finding.POSITIVE: Presence.PRESENT,
        Finding.REVIEW: Presence.UNDETERMINED,
        Finding.NEGATIVE: Presence.ABSENT,
    }[finding]
    return AnalysisResult(
        model_uid=model_uid,
        model_name="tiny",
        model_version="1",
        finding=finding,
        labels=tuple(LabelResult(label, probability, presence, key) for label in LABELS),
        slice_probabilities=((key, (probability,) * 6),),
        series_score=score,
        operating_point=(("any", 0.5), ("review", 0.3)),
        warnings=("2 gaps",),
        device="cpu",
        seconds=1.5,
    )


def analysed(finding: Finding, **changes: object) -> Analysed:
    """The outcome of a model that has spoken."""
    return Analysed(replace(result(finding), **changes))  # type: ignore[arg-type]


def look(worklist: Worklist, outcome: AnalysisOutcome | Failed) -> AnalysisWork:
    """Claim one series, answer, and return what was claimed."""
    work = worklist.analyses.claim("test")
    assert work is not None, "no series is due"
    assert worklist.analyses.settle(work, outcome)
    return work


def build(worklist: Worklist) -> list[DocumentWork]:
    """Build every document that is due."""
    done = []
    while work := worklist.documents.claim("test"):
        sha256 = hashlib.sha256(work.sop_uid.encode()).hexdigest()
        built = Built(sha256, f"documents/{sha256}.dcm", 100, "2.25.77", "1.2.840.10008.1.2.1")
        assert worklist.documents.settle(work, built)
        done.append(work)
    return done


def send(worklist: Worklist) -> list[DeliveryWork]:
    """Deliver everything that is due."""
    done = []
    while work := worklist.deliveries.claim("test"):
        answers = {item.delivery_id: Acknowledged() for item in work.items}
        assert worklist.deliveries.settle(work, Dispatched(answers))
        done.append(work)
    return done


def sent_kinds(works: list[DeliveryWork]) -> list[str]:
    """The kinds that were delivered, sorted."""
    return sorted(item.kind for work in works for item in work.items)
