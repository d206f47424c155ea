"""The rules as data: ``rules.toml`` beside this file, or a file of the site's own.

What belongs to a language or to a hospital's way of writing is in the file; what a rule *is* (how
far a "no" reaches, which section decides) is in the code that reads it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from train.errors import TrainingError
from train.reports.spelling import Spelling

Meaning: TypeAlias = Literal[
    "nothing", "not new", "absent", "no other", "uncertain", "hypothetical", "history"
]
_LIKE_ABSENT = ("not new", "no other")
_ANY_DISTANCE = 1000
MEANINGS: tuple[Meaning, ...] = get_args(Meaning)
Pattern: TypeAlias = re.Pattern[str]

EXTRAAXIAL = "extraaxial"
"""Blood outside the brain of which the report does not say whether it is subdural or epidural."""


@dataclass(frozen=True, slots=True)
class Cues:
    """Phrases of one meaning on one side of the blood that they are said of."""

    meaning: Meaning
    before: bool
    within: int  # words between cue and blood at most
    phrases: Pattern = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reach:
    """Where the reach of a cue ends."""

    ends: Mapping[Meaning, Pattern]
    starts_anew: Pattern
    said_to_be_there: Pattern
    subordinate: Pattern
    taken_for_granted: Pattern
    still: Pattern
    request: Pattern
    question: Pattern


@dataclass(frozen=True, slots=True)
class Words:
    """Nouns of blood, words of compartments and places, by label."""

    blood: Pattern
    beside: Pattern
    not_blood: Pattern
    normal: Pattern
    alone: Mapping[str, Pattern]
    word: Mapping[str, Pattern]
    adjective: Mapping[str, Pattern]
    leads: Pattern  # one word of those that lead up to a noun: compartments, places and others
    places: Mapping[str, Pattern]
    lobar: Pattern
    over: frozenset[str]
    whole: Pattern
    link: Pattern
    link_over: Pattern
    reach_ends: Pattern
    dense: Pattern
    extends: Pattern


@dataclass(frozen=True, slots=True)
class Acuities:
    """Words of age, the freshest first, and what parts them from the blood."""

    words: Mapping[str, Pattern]
    by_itself_chronic: Pattern
    component: Pattern
    ends: Pattern
    after: Pattern


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything the labeller knows."""

    spelling: Spelling
    headings: Mapping[str, str]
    words: Words
    cues: tuple[Cues, ...]
    reach: Reach
    acuities: Acuities


def load_rules(path: Path | None = None) -> Rules:
    """Return the rules of a file, or those that ship.

    Raises
    ------
    TrainingError
        When the file is not TOML, or a pattern or an entry is missing or wrong.
    """
    return _shipped() if path is None else _read(path.name, _text(path))


@cache
def _shipped() -> Rules:
    return _read("rules.toml", files("train.reports").joinpath("rules.toml").read_text("utf-8"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise TrainingError(f"{path} cannot be read as TOML in UTF-8.") from None


def _read(name: str, text: str) -> Rules:
    try:
        return _rules(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise TrainingError(f"{name} is not TOML: {error}.") from None
    except re.error as error:
        raise TrainingError(f"{name} has a pattern that is none: {error}.") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"{name} lacks an entry or has one of the wrong kind ({error}); compare it with the "
            "rules.toml that ships."
        ) from None


def _rules(given: Mapping[str, Any]) -> Rules:
    spelling = given["spelling"]
    return Rules(
        spelling=Spelling(
            spelling["replace"], spelling["words"].split(), spelling["leave"].split()
        ),
        headings={name: _one_line(text) for name, text in given["sections"].items()},
        words=_words(given),
        cues=tuple(_cues(one) for one in given["cue"]),
        reach=_reach(given["reach"]),
        acuities=_acuities(given["acuity"]),
    )


def _words(given: Mapping[str, Any]) -> Words:
    blood, places = given["blood"], given["places"]
    compartments: Mapping[str, Mapping[str, str]] = given["compartments"]
    over = frozenset(places["over"].split("|"))
    where = {name: places[name] for name in compartments if name in places}
    leading = [
        *(text for one in compartments.values() for text in one.values()),
        *where.values(),
        *blood["between"].split(),
    ]
    links = f"{places['link_before']}"
    return Words(
        blood=_phrase([blood["nouns"]]),
        beside=_phrase([blood["beside"]]),
        not_blood=_phrase(blood["not_blood"]),
        normal=_phrase(given["normal"]["phrases"]),
        alone=_by_label(compartments, "alone"),
        word=_by_label(compartments, "word"),
        adjective=_by_label(compartments, "adjective"),
        leads=re.compile("|".join(leading)),
        places={name: _phrase([text]) for name, text in where.items()},
        lobar=re.compile(rf"\b(?:{places['lobar']})\s(?:hemorrhag|bleed|ich)"),
        over=over,
        whole=_phrase([places["whole"]]),
        link=re.compile(rf"^[ ,(:]*(?:{links}[ ,]+)*(?:{places['link']})\b"),
        link_over=re.compile(rf"^[ ,(]*(?:{links}[ ,]+)*(?:{places['link_over']})\b"),
        reach_ends=_phrase([places["reach_ends"]]),
        dense=_phrase([places["dense"]]),
        extends=_phrase([places["extends"]]),
    )


def _by_label(compartments: Mapping[str, Mapping[str, str]], entry: str) -> dict[str, Pattern]:
    return {name: _phrase([one[entry]]) for name, one in compartments.items() if entry in one}


def _cues(one: Mapping[str, Any]) -> Cues:
    if one["makes"] not in MEANINGS or one["side"] not in ("before", "after"):
        raise KeyError(f"makes = {one['makes']!r}, side = {one['side']!r}")
    within = int(one.get("within", _ANY_DISTANCE))
    return Cues(one["makes"], one["side"] == "before", within, _phrase(one["phrases"]))


def _reach(given: Mapping[str, Any]) -> Reach:
    ends: dict[Meaning, Pattern] = {}
    for meaning in MEANINGS:
        more = given.get(f"ends_{meaning}", given["ends_absent"] if meaning in _LIKE_ABSENT else ())
        there = () if meaning == "hypothetical" else given["ends_statement"]
        ends[meaning] = _phrase([*given["ends"], *there, *more])
    return Reach(
        ends=ends,
        starts_anew=re.compile(rf"^\s*(?:and |with )?(?:{given['starts_anew']})\b"),
        said_to_be_there=_phrase([given["said_to_be_there"]]),
        subordinate=re.compile(rf"^(?:{given['subordinate']})\b[^,]*$"),
        taken_for_granted=re.compile(rf"\b(?:{given['taken_for_granted']})$"),
        still=_phrase([given["still"]]),
        request=re.compile(given["request"]),
        question=re.compile(given["question"]),
    )


def _acuities(given: Mapping[str, str]) -> Acuities:
    return Acuities(
        words={name: _phrase([given[name]]) for name in ("acute", "subacute", "chronic")},
        by_itself_chronic=_phrase([given["by_itself_chronic"]]),
        component=_phrase([given["component"]]),
        ends=re.compile(given["ends"]),
        after=re.compile(f"^{given['after']}(?={given['acute']}|subacute|{given['chronic']})"),
    )


def _phrase(alternatives: Iterable[str]) -> Pattern:
    """Return a pattern of phrases that stand by themselves; at one place the longest counts.

    Python takes the first alternative that fits, so that the longer ones are put first.
    """
    ordered = sorted(alternatives, key=len, reverse=True)
    for one in ordered:
        _compiled(one)
    return re.compile(rf"(?:(?<!\w)|(?!\w))(?:{'|'.join(ordered)})(?:(?!\w)|(?<!\w))")


def _compiled(pattern: str) -> Pattern:
    """Return a pattern, or say which one is none."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise re.error(f"{pattern[:60]!r}, {error.msg}") from None


def _one_line(text: str) -> str:
    return re.sub(r"\s*\n\s*", "", text.strip())
