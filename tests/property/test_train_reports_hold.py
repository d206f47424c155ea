"""Whatever the text is, a report is read; what does not concern blood changes nothing."""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ichnode.domain.findings import LABELS
from tests.reports.sentences import DEVELOPMENT, HELD_OUT, cases
from train.reports.labelling import label_report
from train.reports.rules import load_rules
from train.reports.sections import sentences
from train.reports.training_labels import training_labels

NEUTRAL = (
    "The paranasal sinuses are clear.",
    "The orbits are unremarkable.",
    "Ventricles are normal in size.",
    "No skull fracture.",
    "Chronic small vessel ischaemic change.",
)
CASES = cases(*DEVELOPMENT, *HELD_OUT)
WORDS = sorted({word for case in CASES for word in re.findall(r"\S+|\n", case.text)})


def read(text: str) -> list[tuple[str, str]]:
    """What is said of each label, and the age."""
    report = label_report(text)
    return [(report[label].answer, report[label].acuity) for label in LABELS]


@given(st.one_of(st.text(max_size=400), st.lists(st.sampled_from(WORDS)).map(" ".join)))
@example("no " * 500)
@example("subdural and " * 300 + "haematoma")
@example("\0:?;.,\n" * 100)
@example("FINDINGS:\n" * 50)
@example("blood in the left " * 300)
@settings(max_examples=300, deadline=2000)
def test_any_text_has_an_answer_with_evidence_inside_it(text):
    """Never an error; evidence lies within the text; labels are complete."""
    report = label_report(text)
    assert list(report.answers) == list(LABELS)
    for one in report.evidence:
        assert 0 <= one.start < one.end <= len(text)
    assert list(training_labels(report)) == list(LABELS)


@given(st.text(alphabet="aB. \n:-?!,1\t•", max_size=200))
def test_sentences_do_not_overlap_and_lose_only_headings_and_space(text):
    """They come in order and are what the text holds at their places."""
    end = 0
    for one in sentences(text, load_rules().headings):
        assert one.start >= end
        assert text[one.start : one.end] == one.text == one.text.strip() != ""
        end = one.end


@given(st.sampled_from(CASES), st.sampled_from(NEUTRAL), st.integers(0, 3))
@settings(max_examples=400, deadline=None)
def test_an_unrelated_sentence_changes_nothing(case, sentence, way):
    """Before or after, on the same line or on one of its own."""
    text = case.text.strip()
    stopped = text if text.endswith((".", "?")) or not text else f"{text}."
    longer = (
        f"{sentence} {text}",
        f"{sentence}\n{text}",
        f"{stopped} {sentence}",
        f"{text}\n{sentence}",
    )[way]
    assert read(longer) == read(case.text)


@given(st.sampled_from(CASES))
@settings(max_examples=200, deadline=None)
def test_capitals_and_lost_line_breaks_change_nothing(case):
    """Dictation systems shout, and a CSV may have lost the lines of whole sentences."""
    assert read(case.text.upper()) == read(case.text)
    lines = case.text.strip().split("\n")
    if all(line.rstrip().endswith((".", ":")) for line in lines):  # no blank ones: they part
        assert read(" ".join(case.text.split())) == read(case.text)


@given(st.sampled_from(CASES))
@settings(max_examples=200, deadline=None)
def test_american_spelling_changes_nothing(case):
    """The same report from the other side of the ocean."""
    text = case.text
    for british, american in (("aemorr", "emorr"), ("aemat", "emat"), ("oedema", "edema")):
        text = text.replace(british, american)
    assert read(text) == read(case.text)
