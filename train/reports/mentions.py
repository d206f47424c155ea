"""Find where a sentence speaks of blood in the head, and of which kind.

A noun of blood belongs to the compartments that lead up to it ("subdural and small subarachnoid
haemorrhage"), else to the place that it is said to lie in ("blood in the fourth ventricle"), else
to none: then it is a statement on bleeding as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from train.reports.rules import EXTRAAXIAL, Words

ANY = "any"
PARENCHYMAL = "intraparenchymal"
_CLAUSE = re.compile(r"[;:]")
_LEADING = re.compile(r"[\s,/()&+]+([^\s,/()&+]+)")
_REACH_WORDS = 14  # from a link ("in") to the place of the blood
_EXTENT_WORDS = 8  # likewise from "extends into"
_LAST_OF_LIST = re.compile(r".*(?:,|\b(?:or|and|nor|no|with)\b)", re.DOTALL)
_SUBJECT = re.compile(
    r"(\w+(?: \w+){0,4}?)(?: (?:is|are|appears?|contains?|shows?|fills?)\b| ?:)(?: \w+){0,10} $"
)
_ANAPHORIC = re.compile(r"\b(?:residual|recurrent|remaining)(?: (?:or|and|nor) \w+)*(?: \w+)? $")
_STATED_AFTER = re.compile(r"^ (?:of|with|containing)(?: \w+){0,3} blood|fresh|acute blood")
_ONE = re.compile(r"\b(?:left|right|other|latter|former|smaller|larger) one\b")
_STATED = re.compile(r"acute|chronic|hyper ?dens|hyper ?atten|isodens|blood|hemorrhag|mixed den")


@dataclass(frozen=True, slots=True)
class Mention:
    """Blood that a sentence speaks of.

    Attributes
    ----------
    kind : str
        A label, or `EXTRAAXIAL`.
    start, end : int
        Of the words that decide the kind, in the normal text of the sentence; of the noun of blood
        where that is apart.
    stop : int
        End of the whole phrase: where cues that follow begin.
    doubtful : bool
        The words alone do not say that it is blood: a contusion, a collection.
    anaphoric : bool
        "Residual blood": of the kind that was spoken of before.
    regional : bool
        Of one place among others: that no blood is there says nothing of the rest.
    """

    kind: str
    start: int
    end: int
    stop: int
    doubtful: bool = False
    anaphoric: bool = False
    regional: bool = False


def without_other_blood(text: str, words: Words) -> str:
    """Return the sentence with what is no blood in the head blotted out, as long as before."""
    return words.not_blood.sub(lambda found: "_" * len(found[0]), text)


def mentions(text: str, words: Words) -> list[Mention]:
    """Return where a sentence speaks of blood, in order.

    Parameters
    ----------
    text : str
        Normal spelling, `without_other_blood`.
    """
    found: list[Mention] = []
    taken = [False] * len(text)

    def free(start: int, end: int) -> bool:
        return not any(taken[start:end])

    for match in words.alone[PARENCHYMAL].finditer(text):
        _take(taken, match.span())
        found.append(Mention(PARENCHYMAL, *match.span(), match.end()))
    if found or words.blood.search(text) or any(p.search(text) for p in words.alone.values()):
        found += _extends(text, words, taken)
    for noun in words.blood.finditer(text):
        if free(*noun.span()):
            found += _of_noun(text, noun, words, taken)
    for noun in words.beside.finditer(text):
        if free(*noun.span()):
            found += _beside(text, noun, words, taken)
    if found:
        found += [Mention(ANY, *m.span(), m.end(), anaphoric=True) for m in _ONE.finditer(text)]
    found += _alone(text, words, taken, with_blood=bool(words.blood.search(text)))
    return sorted(set(found), key=lambda one: (one.start, one.kind))


def _extends(text: str, words: Words, taken: list[bool]) -> Iterator[Mention]:
    """Yield what blood is said to extend into."""
    for match in words.extends.finditer(text):
        told = words.reach_ends.split(_CLAUSE.split(text[match.end() :])[0])[0]
        near = " ".join(told.split(",")[0].split()[:_EXTENT_WORDS])
        for kind in _places_in(near, words):
            _take(taken, match.span())
            yield Mention(kind, *match.span(), match.end() + len(near))


def _of_noun(text: str, noun: re.Match[str], words: Words, taken: list[bool]) -> Iterator[Mention]:
    """Yield what one noun of blood speaks of."""
    first = _lead(text, noun.start(), words)
    owners = list(_compartments(text, first, noun.start(), words))
    for kind, start, end in owners:
        _take(taken, (start, end))
        yield Mention(kind, start, end, noun.end())
    if owners:
        _take(taken, noun.span())
        if {kind for kind, *_ in owners} >= {PARENCHYMAL, EXTRAAXIAL}:
            yield Mention(ANY, min(start for _, start, _ in owners), noun.end(), noun.end())
        return
    explicit = "intracranial" in text[first : noun.start()]
    places = set(_places(text, first, noun, words, subject=not explicit))
    anaphoric = bool(_ANAPHORIC.search(text[: noun.start()]))
    if explicit or not places:
        yield Mention(ANY, *noun.span(), noun.end(), anaphoric=anaphoric)
    regional = not words.whole.search(text)
    for kind in places:
        yield Mention(kind, *noun.span(), noun.end(), regional=regional)


def _lead(text: str, noun: int, words: Words) -> int:
    """Return where the words begin that lead up to a noun of blood."""
    backwards, start = text[:noun][::-1], 0
    while match := _LEADING.match(backwards, start):
        if not words.leads.fullmatch(match[1][::-1]):
            break
        start = match.end()
    return noun - start


def _compartments(text: str, start: int, end: int, words: Words) -> Iterator[tuple[str, int, int]]:
    """Yield the words of compartments between two places of a sentence."""
    for patterns in (words.alone, words.word, words.adjective):
        for kind, pattern in patterns.items():
            for match in pattern.finditer(text, start, end):
                yield kind, *match.span()


def _places(
    text: str, first: int, noun: re.Match[str], words: Words, *, subject: bool
) -> Iterable[str]:
    """Return the kinds that blood is of by where it lies.

    Named before it ("thalamic haemorrhage"), after it ("haemorrhage in the thalamus"), or as the
    place of a density that is then called blood.
    """
    before = _places_in(_LAST_OF_LIST.sub("", text[first : noun.start()]), words)
    if words.lobar.search(text[first : noun.end()]):
        before.add(PARENCHYMAL)
    after = _places_in(_place_after(text[noun.end() :], words.link, words), words)
    over = _places_in(_place_after(text[noun.end() :], words.link_over, words), words)
    if named := {*before, *after, *(over & words.over)}:
        return named
    dense = words.dense.search(text[: noun.start()])
    if dense and words.link.search(place := text[dense.end() : noun.start()]):
        return _places_in(words.reach_ends.split(place)[0], words)
    clause = text[: noun.start()].rpartition(";")[2].lstrip()
    said_of = _SUBJECT.match(clause) if subject else None
    return _places_in(said_of[1], words) if said_of else set()


def _place_after(rest: str, link: re.Pattern[str], words: Words) -> str:
    """Return the words in which the place of blood is said, "" where it is not."""
    found = link.match(rest)
    if not found:
        return ""
    told = _CLAUSE.split(words.reach_ends.split(rest[found.end() :])[0])[0]
    first = told.split(" of ")[0]  # "in the sulci of the parietal lobe" is in the sulci
    if _places_in(first, words):
        told = first
    return " ".join(told.split()[:_REACH_WORDS])


def _places_in(text: str, words: Words) -> set[str]:
    return {kind for kind, pattern in words.places.items() if pattern.search(text)}


def _beside(text: str, noun: re.Match[str], words: Words, taken: list[bool]) -> Iterator[Mention]:
    """Yield what a word speaks of that is blood only beside that of a compartment."""
    first = _lead(text, noun.start(), words)
    collection = "collection" in noun[0]
    for kind, start, end in _compartments(text, first, noun.start(), words):
        if any(taken[start:end]):
            continue
        _take(taken, (start, end))
        stated = _STATED.search(text[: noun.start()]) or _STATED_AFTER.search(text[noun.end() :])
        doubtful = collection and not stated
        yield Mention(kind, start, end, noun.end(), doubtful)
    if collection and _ANAPHORIC.search(text[: noun.start()]):
        yield Mention(ANY, *noun.span(), noun.end(), anaphoric=True)


def _alone(text: str, words: Words, taken: list[bool], *, with_blood: bool) -> Iterator[Mention]:
    """Yield words of compartments that say blood by themselves, or beside it in the sentence."""
    for patterns, enough in ((words.alone, True), (words.word, with_blood)):
        for kind, pattern in patterns.items():
            for match in pattern.finditer(text) if enough else ():
                if not any(taken[slice(*match.span())]):
                    yield Mention(kind, *match.span(), match.end())
    for match in re.finditer(r"\bcontusions?\b", text):
        if not any(taken[slice(*match.span())]):
            yield Mention(PARENCHYMAL, *match.span(), match.end(), doubtful=True)


def _take(taken: list[bool], span: tuple[int, int]) -> None:
    taken[slice(*span)] = [True] * (span[1] - span[0])
