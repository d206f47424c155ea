"""Decide what a sentence says of the blood that it speaks of: there, not there, perhaps, long ago.

After NegEx and ConText [1]_ [2]_: cues have a meaning, a side, and a reach that other words end.
Three things are ours, because reports need them: a comma ends the reach of a "no" where something
new begins ("no shift, small subdural ..."); a "no" does not reach what is spoken of as known ("no
mass effect from the haematoma"); and a history is none where the blood is said to be there still.

References
----------
.. [1] Chapman WW et al., A simple algorithm for identifying negated findings and diseases in
   discharge summaries, J Biomed Inform 2001.
.. [2] Harkema H et al., ConText: an algorithm for determining negation, experiencer, and temporal
   status from clinical reports, J Biomed Inform 2009.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from train.reports.mentions import Mention
from train.reports.rules import Meaning, Reach, Rules

Status: TypeAlias = Literal["present", "absent", "uncertain", "not new", "not a finding"]
Acuity: TypeAlias = Literal["acute", "subacute", "chronic", "unstated"]

NOT_SAID = "not said to be blood"
_STRONGEST: tuple[Meaning, ...] = (
    "hypothetical",
    "absent",
    "no other",
    "not new",
    "history",
    "uncertain",
)
_AS: dict[Meaning, Status] = {
    "hypothetical": "not a finding",
    "absent": "absent",
    "no other": "absent",
    "not new": "not new",
    "history": "not a finding",
    "uncertain": "uncertain",
}
_HEADING = re.compile(r"\s*:")
_KNOWN = re.compile(r"\b(?:the|this|that|known|these)(?: \w+){0,4} $")
_OR = re.compile(r"\b(?:or|nor)\b")
_LIST = re.compile(r"(?:acute|intracranial|any|evidence of|signs of| )*$")
_ARE_NOT = re.compile(r"\s?(?:(?:are|were) not\b|have (?:all |both )?been)")
_ACUITY_WORDS = 7  # of those that lead up to the blood
_WORDS_AFTER = 12


@dataclass(frozen=True, slots=True)
class Cue:
    """A cue at its place in a sentence."""

    meaning: Meaning
    before: bool
    within: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Said:
    """What a sentence says of one mention.

    Attributes
    ----------
    rule : str
        Meaning of the cue that decided, "stated" where none did.
    words : str
        The words of that cue, as they stand in the report.
    still : bool
        Said to be as before, more or less: it was known.
    known : bool
        Spoken of with "the" or "known": no other one than before.
    """

    status: Status
    acuity: Acuity
    rule: str
    words: str = ""
    still: bool = False
    known: bool = False


def cues(text: str, rules: Rules) -> list[Cue]:
    """Return the cues of a sentence; where two overlap, the longer one.

    A phrase may be a cue on either side ("difficult to exclude").
    """
    found = [
        Cue(group.meaning, group.before, group.within, *match.span())
        for group in rules.cues
        for match in group.phrases.finditer(text)
        if match.end() > match.start()
    ]
    found.sort(key=lambda cue: (cue.start - cue.end, cue.start, not cue.before))
    kept: list[Cue] = []
    for cue in found:
        if all(_apart(cue, other) for other in kept):
            kept.append(cue)
    return kept


def _apart(one: Cue, other: Cue) -> bool:
    both_sides = one.meaning == other.meaning and one.before is not other.before
    same = (one.start, one.end) == (other.start, other.end)
    return one.end <= other.start or one.start >= other.end or (same and both_sides)


def say(
    text: str, mention: Mention, others: Sequence[Mention], held: Sequence[Cue], rules: Rules
) -> Said:
    """Return what a sentence says of one mention.

    Parameters
    ----------
    text : str
        Normal spelling, other blood blotted out.
    others : sequence of Mention
        All mentions of the sentence.
    held : sequence of Cue
        All cues of the sentence.
    """
    reach = rules.reach
    acuity = _acuity(text, mention, rules)
    still = bool(reach.still.search(_clause(text, mention, reach)))
    known = bool(_KNOWN.search(text[: mention.start]))
    if reach.question.search(text):
        return Said("not a finding", acuity, "a question")
    reached = {}
    for cue in held:
        if cue.meaning != "nothing" and _reaches(text, cue, mention, others, reach):
            reached[cue.meaning] = text[cue.start : cue.end].strip()
    if "?" in reached.values() and reach.request.search(text):
        return Said("not a finding", acuity, "a request")
    for meaning in _STRONGEST:
        if meaning in reached and not (meaning == "history" and still):
            return Said(_AS[meaning], acuity, meaning, reached[meaning], still, known)
    if not reached and _is_heading(text, mention, others, held):
        return Said("not a finding", acuity, "a heading")
    return _stated(mention, acuity, still=still, known=known)


def _is_heading(
    text: str, mention: Mention, others: Sequence[Mention], held: Sequence[Cue]
) -> bool:
    """Tell whether blood is only named before a colon, and what follows says of it or denies."""
    if not (colon := _HEADING.match(text, mention.stop)):
        return False
    denied = any(cue.meaning == "absent" and cue.start >= colon.end() for cue in held)
    return denied or any(other.start >= colon.end() for other in others)


def _stated(mention: Mention, acuity: Acuity, *, still: bool, known: bool) -> Said:
    if mention.doubtful:
        return Said("uncertain", acuity, NOT_SAID, "", still, known)
    return Said("present", acuity, "stated", "", still, known)


def _reaches(
    text: str, cue: Cue, mention: Mention, others: Sequence[Mention], reach: Reach
) -> bool:
    if cue.before:
        gap = text[cue.end : mention.start] if cue.end <= mention.start else None
    else:
        gap = text[mention.stop : cue.start] if mention.stop <= cue.start else None
    if gap is None or len(gap.split()) > cue.within or reach.ends[cue.meaning].search(gap):
        return False
    if not cue.before:
        return _reaches_back(text, cue, mention, others, gap)
    if cue.meaning in ("absent", "no other", "not new"):
        anew = _begins_anew(text, cue, mention, reach)
        return not (anew or reach.taken_for_granted.search(gap))
    if cue.meaning == "history":
        return ":" not in gap and len(gap.split()) <= 8
    return ":" not in gap


def _reaches_back(
    text: str, cue: Cue, mention: Mention, others: Sequence[Mention], gap: str
) -> bool:
    """Tell whether a cue reaches back.

    Over commas only in a list of which each part speaks of blood, or where a list begins with the
    blood and several things are denied ("Haemorrhage, infarct and mass are not seen").
    """
    commas = [mention.stop + place for place, sign in enumerate(gap) if sign == ","]
    if _LIST.match(text[: mention.start]) and _ARE_NOT.match(text, cue.start):
        return True
    edges = [*commas, cue.start]
    bare = not commas or not text[mention.stop : commas[0]].strip()
    return bare and all(
        any(low <= one.start < high for one in others) for low, high in pairwise(edges)
    )


def _begins_anew(text: str, cue: Cue, mention: Mention, reach: Reach) -> bool:
    """Tell whether something new begins at a comma in the reach of a "no"."""
    subordinate = bool(reach.subordinate.match(text[: cue.start]))
    for comma in re.finditer(r"[,:]|\s-\s", text[: mention.start]):
        if comma.start() < cue.end:
            continue
        rest = re.split(r"[;.]", text[comma.end() :])[0]
        there = reach.said_to_be_there.search(text, mention.stop)
        if subordinate or ((there or reach.starts_anew.match(rest)) and not _OR.search(rest)):
            return True
    return False


def _clause(text: str, mention: Mention, reach: Reach) -> str:
    """Return the part of the sentence about a mention that words which end every reach bound."""
    low = high = 0
    for match in reach.ends["nothing"].finditer(text):
        if match.end() <= mention.start:
            low = match.end()
        elif match.start() >= mention.stop:
            high = match.start()
            break
    return text[low : high or len(text)]


def _acuity(text: str, mention: Mention, rules: Rules) -> Acuity:
    """Return the age of blood: in the words that lead up to it, else in those right after."""
    ages = rules.acuities
    cut = max((match.end() for match in ages.ends.finditer(text, 0, mention.start)), default=0)
    near = " ".join(text[cut : mention.end].split()[-_ACUITY_WORDS:])
    after = " ".join(text[mention.stop :].split()[:_WORDS_AFTER])
    if ages.component.search(f" {after}"):
        return "acute"
    for said in (f" {after}" if ages.after.match(f" {after}") else "", near):
        if ages_said := _ages(said, rules):
            return max(ages_said)[-1]
    return "chronic" if ages.by_itself_chronic.search(near) else "unstated"


def _ages(text: str, rules: Rules) -> list[tuple[int, int, Acuity]]:
    """Return the words of age: where they end, how fresh they are, which; the last is nearest."""
    names: tuple[Acuity, ...] = ("chronic", "subacute", "acute")
    return [
        (match.end(), fresh, name)
        for fresh, name in enumerate(names)
        for match in rules.acuities.words[name].finditer(text)
    ]
