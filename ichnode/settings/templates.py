"""Templates of what is told: JSON in whose texts placeholders stand for facts of a fixed list.

A template is read as JSON first and filled afterwards, so that no value can break out of its place,
and nothing in it is ever run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

FACTS = (
    "event",
    "delivery",
    "destination",
    "revision",
    "study_uid",
    "series_uid",
    "finding",
    "probability",
    "volume_ml",
    "labels",
    "model_name",
    "model_version",
    "model_uid",
    "analysed_at",
    "statement",
)
"""What may be told to anybody; no more than a UID says which study it is about."""

IDENTITY = (
    "patient_id",
    "issuer_of_patient_id",
    "patient_name",
    "accession_number",
    "study_date",
)
"""What says who the patient is."""


class _Facts(Template):
    """Placeholders as ``${name}``; a dollar is written ``$$``."""

    idpattern = "[a-z_]+"
    flags = re.RegexFlag(0)  # case matters


def check(template: str, *, phi: bool) -> None:
    """Make sure that a template is one.

    Raises
    ------
    ValueError
        When it is no JSON, names what does not exist, or names the patient where `phi` is off.
    """
    try:
        content = json.loads(template, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ValueError("the template is not JSON") from None
    for text in _texts(content):
        if not _Facts(text).is_valid():
            raise ValueError(f"{text[:60]!r}: write ${{name}}, and $$ for a dollar")
        for name in _Facts(text).get_identifiers():
            if name in IDENTITY and not phi:
                raise ValueError(f"${{{name}}} says who the patient is, which needs phi = true")
            if name not in (*FACTS, *IDENTITY):
                raise ValueError(f"${{{name}}} is nothing that can be told")


def fill(template: str, values: Mapping[str, Any]) -> Any:
    """Return the content of a template with its placeholders replaced.

    A text that is one placeholder and nothing else becomes the value itself, such as a number.
    """
    return _filled(json.loads(template), values)


def _filled(content: Any, values: Mapping[str, Any]) -> Any:
    match content:
        case dict():
            return {key: _filled(value, values) for key, value in content.items()}
        case list():
            return [_filled(value, values) for value in content]
        case str():
            for name in _Facts(content).get_identifiers():
                if content in (f"${name}", f"${{{name}}}"):
                    return values[name]
            return _Facts(content).substitute({name: _as_text(v) for name, v in values.items()})
        case _:
            return content


def _as_text(value: Any) -> str:
    """Write a value inside a longer text; of the labels, those that are present."""
    if isinstance(value, list):
        present = [one["label"] for one in value if one["presence"] == "present"]
        return ", ".join(present) or "none"
    return "" if value is None else str(value)


def _texts(content: Any) -> Sequence[str]:
    match content:
        case dict():
            return [text for value in content.values() for text in _texts(value)]
        case list():
            return [text for value in content for text in _texts(value)]
        case str():
            return [content]
        case _:
            return []


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
