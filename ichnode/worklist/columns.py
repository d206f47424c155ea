"""Column types and texts: what goes in comes out equal, on both engines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, Text
from sqlalchemy import Enum as EnumType
from sqlalchemy.types import TypeDecorator

from ichnode.domain.findings import (
    AnalysisResult,
    BloodMask,
    Finding,
    HeatMap,
    LabelResult,
    Presence,
)
from ichnode.domain.series import Header

TEXT_MAX = 1024  # a header may hold megabytes where the standard allows 64 characters
ACCESSION_MAX = 64  # of SH, which has 16; as long as `ordered` and `report` hold
PATIENT_ID_MAX = 256  # of LO, which has 64
_INTEGER_MAX = 2**31 - 1
_DRAWN = ("key_mask", "volume_how", "key_heat")
_E = TypeVar("_E", bound=Enum)
_D = TypeVar("_D", BloodMask, HeatMap)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment in UTC; SQLite would drop the zone and PostgreSQL use the session's."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Turn into UTC; a naive moment is a fault of ours."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a zone must not reach the database")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Give the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class HeaderText(TypeDecorator[Header]):
    """A `Header` as JSON text: ASCII only, so that no character set and no NUL can hurt."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Header | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Write."""
        return None if value is None else header_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Header | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Read."""
        return None if value is None else header_of(value)


class ResultText(TypeDecorator[AnalysisResult]):
    """An `AnalysisResult` as JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: AnalysisResult | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Write."""
        return None if value is None else result_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> AnalysisResult | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Read."""
        return None if value is None else result_of(value)


class JsonText(TypeDecorator[Any]):
    """A small JSON value as ASCII text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Write."""
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        """Read."""
        return None if value is None else json.loads(value)


BigId = BigInteger().with_variant(Integer, "sqlite")
"""A key that counts by itself on both engines."""


def state_type(states: type[_E]) -> EnumType:
    """Return the column type of a state: its value as text, and a CHECK that holds the list."""
    return EnumType(
        states,
        name=states.__name__.lower(),
        native_enum=False,
        create_constraint=True,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )


def plain(text: str, longest: int = TEXT_MAX) -> str:
    """Return text that both engines can hold.

    PostgreSQL knows no NUL and no lone surrogate, and nobody needs a megabyte of description. The
    header that is kept beside it holds the text as it came.
    """
    return text[:longest].replace("\x00", "").encode("utf-8", "replace").decode()


def accession(text: str) -> str:
    """Return an accession number as it is kept and looked for; it is indexed.

    A row of an index of PostgreSQL holds 2,704 bytes. A longer number is cut in writing and in
    looking up alike, so that it still finds its study.
    """
    return plain(text, ACCESSION_MAX)


def patient_id(text: str) -> str:
    """Return a Patient ID as it is kept and looked for; it is indexed, like `accession`."""
    return plain(text, PATIENT_ID_MAX)


def small(number: int | None) -> int | None:
    """Return a number that fits its column, or None: an absurd one is no information."""
    return number if number is not None and abs(number) <= _INTEGER_MAX else None


_HEADER_FIELDS = fields(Header)
_TUPLES = {"image_type", "pixel_spacing_mm", "orientation", "position_mm"}


def header_text(header: Header) -> str:
    """Write a header as JSON, leaving out what it leaves out."""
    held = {}
    for one in _HEADER_FIELDS:
        value = getattr(header, one.name)
        if one.default is MISSING or value != one.default:
            held[one.name] = value
    return json.dumps(held, separators=(",", ":"))


def header_of(text: str) -> Header:
    """Read a header back, equal to what was written."""
    held = json.loads(text)
    for name in _TUPLES & held.keys():
        held[name] = tuple(held[name])
    return Header(**held)


def result_text(result: AnalysisResult) -> str:
    """Write a result as JSON; what is drawn or measured is left out where it is not."""
    held = {one.name: getattr(result, one.name) for one in fields(AnalysisResult)}
    for name in _DRAWN:
        if not held[name]:
            del held[name]
    held["finding"] = result.finding.value
    held["labels"] = [
        (label.label, label.probability, label.presence.value, label.key_sop_uid)
        + (() if label.volume_ml is None else (label.volume_ml,))
        for label in result.labels
    ]
    for name in ("key_mask", "key_heat"):
        if name in held:
            held[name] = asdict(held[name])
    return json.dumps(held, separators=(",", ":"))


def result_of(text: str) -> AnalysisResult:
    """Read a result back, equal to what was written."""
    held: Mapping[str, Any] = json.loads(text)
    return AnalysisResult(
        **{
            **held,
            "finding": Finding(held["finding"]),
            "labels": tuple(
                LabelResult(label, probability, Presence(presence), key, *volume)
                for label, probability, presence, key, *volume in held["labels"]
            ),
            "slice_probabilities": tuple(
                (uid, tuple(row)) for uid, row in held["slice_probabilities"]
            ),
            "operating_point": tuple((name, value) for name, value in held["operating_point"]),
            "warnings": tuple(held["warnings"]),
            "key_mask": _drawn(BloodMask, held.get("key_mask")),
            "key_heat": _drawn(HeatMap, held.get("key_heat")),
        }
    )


def _drawn(kind: type[_D], held: Any) -> _D | None:
    """Read what was drawn; None where nothing was, or where it is damaged: the result stands."""
    try:
        return kind(**held)
    except TypeError:
        return None
