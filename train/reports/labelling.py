"""Put together what the sentences of a report say of each kind of haemorrhage.

The addendum decides over the impression, the impression over the findings, each for what it speaks
of. Within one of them "present" goes before "uncertain" and that before "absent": a report rarely
mentions blood that is nowhere. "No haemorrhage" speaks of all kinds that are not named beside it.

References
----------
Chilamkurthy S et al., Deep learning algorithms for detection of critical findings in head CT scans:
a retrospective study, Lancet 2018 (labels from report text).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from ichnode.domain.findings import LABELS, Label
from train.reports.context import NOT_SAID, Acuity, Said, cues, say
from train.reports.mentions import ANY, Mention, mentions, without_other_blood
from train.reports.rules import EXTRAAXIAL, Rules, load_rules
from train.reports.sections import Section, Sentence, sentences

Answer: TypeAlias = Literal["present", "absent", "uncertain", "not mentioned"]
KINDS: tuple[Label, ...] = LABELS[1:]
_RANKS: tuple[Section, ...] = ("addendum", "impression", "findings")
_FRESHEST: tuple[Acuity, ...] = ("acute", "subacute", "unstated", "chronic")
_DECIDING: tuple[Literal["present", "uncertain", "absent"], ...] = (
    "present",
    "uncertain",
    "absent",
)
_EXTRAAXIAL_KINDS: tuple[Label, ...] = ("epidural", "subdural")


@dataclass(frozen=True, slots=True)
class Evidence:
    """One mention of blood, and what its sentence says of it.

    ``start`` and ``end`` bound the sentence in the text of the report, in characters.
    """

    kind: str
    said: Said
    section: Section
    start: int
    end: int
    whole: bool = False  # said of the study: "normal CT"
    regional: bool = False


@dataclass(frozen=True, slots=True)
class LabelAnswer:
    """What a report says of one label.

    Attributes
    ----------
    acuity : str
        Of blood that is present or perhaps; else "unstated".
    rule : str
        What decided, in words of ours.
    evidence : Evidence or None
        The sentence that decided; None where no sentence speaks of it.
    overruled : str
        What a section that decides less said otherwise; "" where none did.
    """

    answer: Answer
    acuity: Acuity = "unstated"
    rule: str = "not mentioned"
    evidence: Evidence | None = field(default=None, repr=False)
    overruled: str = ""


@dataclass(frozen=True, slots=True)
class ReportLabels:
    """What a report says: an answer for each of the six labels, in their order."""

    answers: Mapping[Label, LabelAnswer]
    evidence: tuple[Evidence, ...] = field(default=(), repr=False)

    def __getitem__(self, label: Label) -> LabelAnswer:
        return self.answers[label]


def label_report(text: str, rules: Rules | None = None) -> ReportLabels:
    """Return what a report of a head CT says of each kind of haemorrhage.

    Parameters
    ----------
    text : str
        The whole report, in English, with its headings where it has any.
    rules : Rules, optional
        Those that ship otherwise.

    Notes
    -----
    Whatever the text is, there is an answer: what is not understood is "not mentioned".
    """
    rules = rules or load_rules()
    held = tuple(_evidence(text, rules))
    kinds = {kind: _answer(kind, held) for kind in KINDS}
    kinds = _extraaxial(kinds, held)
    whole = _any(kinds, held)
    if whole.answer == "absent":
        kinds = {
            kind: one if one.answer != "not mentioned" else _follows(whole)
            for kind, one in kinds.items()
        }
    answers: dict[Label, LabelAnswer] = {LABELS[0]: whole, **kinds}
    return ReportLabels(answers, held)


def _evidence(report: str, rules: Rules) -> Iterator[Evidence]:
    """Yield what each sentence says; "residual blood" is of the kinds spoken of before."""
    spoken_of: list[str] = []
    for sentence in sentences(report, rules.headings):
        text = without_other_blood(rules.spelling.normal(sentence.text), rules.words)
        found = mentions(text, rules.words)
        held = cues(text, rules) if found else []
        for mention in found:
            said = say(text, mention, found, held, rules)
            if sentence.section == "ignored":
                said = replace(said, status="not a finding", rule="in a section without findings")
            before = _kinds(one for one in found if one.start < mention.start) or spoken_of
            for kind in before if mention.anaphoric and before else [mention.kind]:
                yield _one(sentence, mention, said, kind)
        spoken_of = _kinds(found) or spoken_of
        if sentence.section != "ignored" and rules.words.normal.search(text):
            yield _normal_study(sentence, text)


def _kinds(found: Iterable[Mention]) -> list[str]:
    return list(dict.fromkeys(one.kind for one in found if one.kind != ANY))


def _one(sentence: Sentence, mention: Mention, said: Said, kind: str) -> Evidence:
    return Evidence(
        kind, said, sentence.section, sentence.start, sentence.end, regional=mention.regional
    )


def _normal_study(sentence: Sentence, text: str) -> Evidence:
    acuity: Acuity = "acute" if " acute " in f" {text}" else "unstated"
    said = Said("absent", acuity, "nothing abnormal")
    return Evidence(ANY, said, sentence.section, sentence.start, sentence.end, whole=True)


def _answer(kind: Label, held: Sequence[Evidence]) -> LabelAnswer:
    """Return what the report says of one kind: the section that decides most and speaks of it."""
    decided: LabelAnswer | None = None
    for section in _RANKS:
        here = _said_here(kind, section, held)
        if here is None:
            continue
        if decided is None:
            decided = here
        elif _gives_way(decided, here):
            decided = replace(here, rule=f"{here.rule}; not contradicted by {decided.rule!r}")
        elif here.answer != decided.answer and not decided.overruled:
            decided = replace(decided, overruled=f"{section}: {here.answer} ({here.rule})")
        elif here.answer == decided.answer:
            decided = replace(decided, acuity=_fresher(decided.acuity, here.acuity))
    return decided or LabelAnswer("not mentioned")


def _said_here(kind: Label, section: Section, held: Sequence[Evidence]) -> LabelAnswer | None:
    """Return what one section says of a kind, by name or by speaking of all."""
    kinds = (kind, EXTRAAXIAL) if kind in _EXTRAAXIAL_KINDS else (kind,)
    named = [
        one
        for one in held
        if one.section == section and one.kind in kinds and _counts(one, extraaxial=EXTRAAXIAL)
    ]
    if named:
        return _strongest(named)
    general = [
        one
        for one in held
        if one.section == section and one.kind == ANY and one.said.status == "absent"
    ]
    if not general:
        return None
    answer = _strongest(general)
    return replace(answer, rule=f"follows from any ({answer.rule})")


def _counts(one: Evidence, *, extraaxial: str) -> bool:
    """Tell whether a mention decides anything of its kind by itself."""
    if one.kind == extraaxial:
        return one.said.status == "absent"
    if one.said.status == "absent" and one.regional:
        return False
    return one.said.status in _DECIDING


def _strongest(found: Sequence[Evidence]) -> LabelAnswer:
    for status in _DECIDING:
        those = [one for one in found if one.said.status == status]
        if those:
            acuity = _acuity(those) if status != "absent" else those[0].said.acuity
            return LabelAnswer(status, acuity, those[0].said.rule, those[0])
    return LabelAnswer("not mentioned")


def _acuity(found: Sequence[Evidence]) -> Acuity:
    """Return the age of the freshest blood; "the haematoma" is as old as the one spoken of."""
    ages: set[Acuity] = {one.said.acuity for one in found}
    new = any(one.said.acuity == "unstated" and not one.said.known for one in found)
    if "chronic" in ages and not new:
        ages.discard("unstated")
    return next(age for age in _FRESHEST if age in ages)


def _fresher(above: Acuity, below: Acuity) -> Acuity:
    """Return the age when two sections tell it: what one leaves unstated the other says."""
    stated = [age for age in (above, below) if age != "unstated"]
    return min(stated, key=_FRESHEST.index) if stated else "unstated"


def _gives_way(above: LabelAnswer, below: LabelAnswer) -> bool:
    """Tell whether "no acute haemorrhage" above leaves standing what is said below.

    It does where that is chronic, or known and as before: then it is not what was denied. So does
    "no other haemorrhage", and a word that need not mean blood.
    """
    if above.evidence is not None and above.evidence.said.rule == "no other":
        return below.answer in ("present", "uncertain")
    if above.rule == NOT_SAID:
        return below.answer == "present"
    if above.answer != "absent" or below.answer not in ("present", "uncertain"):
        return False
    general = above.evidence is not None and above.evidence.kind == ANY
    acute_only = above.evidence is not None and above.evidence.said.acuity == "acute"
    before = below.evidence is not None and below.evidence.said.still
    return general and acute_only and (below.acuity == "chronic" or before)


def _extraaxial(
    kinds: Mapping[Label, LabelAnswer], held: Sequence[Evidence]
) -> dict[Label, LabelAnswer]:
    """Return the kinds with blood outside the brain that may be subdural or epidural."""
    perhaps = [
        one
        for one in held
        if one.kind == EXTRAAXIAL and one.said.status in ("present", "uncertain")
    ]
    named = any(kinds[kind].answer == "present" for kind in _EXTRAAXIAL_KINDS)
    whole = dict(kinds)
    if perhaps and not named:
        answer = replace(_strongest(perhaps), answer="uncertain", rule="subdural or epidural")
        for kind in _EXTRAAXIAL_KINDS:
            if whole[kind].answer == "not mentioned" or kinds[kind].rule.startswith("follows"):
                whole[kind] = answer
    return whole


def _any(kinds: Mapping[Label, LabelAnswer], held: Sequence[Evidence]) -> LabelAnswer:
    """Return what the report says of bleeding as such: present where a kind is."""
    present = [one for one in kinds.values() if one.answer == "present"]
    if present:
        ages = [one.acuity for one in present]
        others = [one.said for one in held if one.kind == ANY and one.said.status == "present"]
        stated = [said.acuity for said in others if said.acuity != "unstated"]
        acuity = min((*ages, *stated), key=_FRESHEST.index)
        return replace(present[0], acuity=acuity, rule="a kind is present")
    general = _general(held)
    if general and general.answer in ("present", "uncertain"):
        return general
    if doubtful := [one for one in kinds.values() if one.answer == "uncertain"]:
        return replace(doubtful[0], rule="a kind is uncertain")
    if general:
        return general
    if all(one.answer == "absent" for one in kinds.values()):
        return replace(kinds[KINDS[0]], rule="no kind is present")
    if not_new := [one for one in held if one.kind == ANY and one.said.status == "not new"]:
        return LabelAnswer("uncertain", "unstated", "only new blood is denied", not_new[0])
    return LabelAnswer("not mentioned")


def _general(held: Sequence[Evidence]) -> LabelAnswer | None:
    """Return what the section says that decides most and speaks of bleeding as such."""
    for section in _RANKS:
        here = [
            one
            for one in held
            if one.section == section
            and one.kind in (ANY, EXTRAAXIAL)
            and one.said.status in _DECIDING
            and not (one.kind == EXTRAAXIAL and one.said.status == "absent")
        ]
        if here:
            return _strongest(here)
    return None


def _follows(whole: LabelAnswer) -> LabelAnswer:
    return replace(whole, rule=f"follows from any ({whole.rule})")
