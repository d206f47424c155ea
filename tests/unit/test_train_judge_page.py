"""The page and the card: every figure is on them, and what nobody may overlook."""

from __future__ import annotations

import base64
import dataclasses
import html
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.judged import AS_IT_IS, HALF, made_up, with_truth
from train.judge.evaluation import evaluate
from train.judge.gallery import Case
from train.judge.page import About, draw_all, number, percent, render, write_page

ABOUT = About(
    name="toy <model>",
    version="7",
    facts=(("Model UID", "2.25.7"), ("Licence", "RSNA terms")),
    restrictions="non-commercial: RSNA terms (rsna)",
    split="holdout",
    measured="2026-01-02",
)
DATA = made_up(200, seed=3)
PERCENT = ("sensitivity", "specificity", "ppv", "npv", "called")
PER_1000 = ("alerts_per_1000", "false_alerts_per_1000", "missed_per_1000")


@pytest.fixture(scope="module")
def evaluation():
    """The evaluation of made-up predictions."""
    return evaluate(DATA, AS_IT_IS, HALF, draws=100)


@pytest.fixture(scope="module")
def pictures(evaluation):
    """The pictures of it."""
    return draw_all(evaluation, DATA, AS_IT_IS, HALF)


@pytest.fixture(scope="module")
def page(evaluation, pictures):
    """The page about it."""
    return render(evaluation, pictures, ABOUT)


def visible(page: str) -> str:
    """What a reader sees: without pictures, style and tags."""
    text = re.sub(r"<style>.*?</style>|<img[^>]*>|<[^>]+>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(text))


def figures(content, path=()):
    """Every figure of an evaluation: where it is, and itself."""
    if isinstance(content, dict):
        if "value" in content:
            yield path, content
            return
        for key, item in content.items():
            yield from figures(item, (*path, key))
    elif isinstance(content, list):
        for index, item in enumerate(content):
            yield from figures(item, (*path, index))


def as_shown(path, value):
    """A number of a figure as the page writes it."""
    if path[-1] in PERCENT:
        return percent(value).removesuffix(" %")
    return f"{value:.1f}" if path[-1] in PER_1000 else number(value)


def test_every_figure_of_the_json_is_on_the_page(evaluation, page):
    """Value, interval, counts and reasons; none is in the JSON alone."""
    text, seen = visible(page), 0
    for path, one in figures(evaluation):
        if one["value"] is None:
            assert one["why"] in text, path
            continue
        value, low, high = (as_shown(path, one[k]) for k in ("value", "low", "high"))
        unit = " %" if path[-1] in PERCENT else ""
        assert f"{value}{unit}" in text, path
        assert f"{low} to {high}{unit}" in text, path
        if "of" in one:
            assert f"{one['hits']} of {one['of']}" in text, path
        seen += 1
    assert seen > 150


def test_plain_numbers_and_words_are_on_the_page(evaluation, page):
    """Counts, prevalences, thresholds, what was chosen how, average precision, chance."""
    text = visible(page)
    data = evaluation["data"]
    for count in ("series", "slices", "studies", "patients"):
        assert f"{data[count]} {count}" in text
    for level in ("series", "slice"):
        for label, rate in data["prevalence"][level].items():
            assert f"{label} {percent(rate)}" in text
        for levels in evaluation["labels"].values():
            assert number(levels[level]["average_precision"]) in text
            assert number(levels[level]["ece_by_chance"]) in text
    for cut in (*evaluation["thresholds"]["urgent"].values(), evaluation["thresholds"]["review"]):
        assert number(cut) in text
    assert evaluation["thresholds"]["how"] in text
    assert evaluation["calibration"] in text
    assert percent(evaluation["any_below_a_subtype"]) in text
    for row in evaluation["subgroups"]:
        assert f"{row['by']} {row['group']} {row['series']} {row['patients']}" in text


def test_nobody_overlooks_what_it_is_not(evaluation, page):
    """Badges: not for clinical use, the terms, the split; a name with brackets is text."""
    text = visible(page)
    assert "Not for clinical use without local validation" in text
    assert "Non-commercial" in text
    assert "Split: holdout" in text
    assert "Not locally calibrated" in text
    assert "toy <model> 7" in text
    assert "<model>" not in page.replace("<model&gt;", "")
    assert "imulated" not in text


def test_figures_of_what_it_learnt_from_are_marked(evaluation, pictures):
    """A split that the model was made with is called so; the holdout is not."""
    learnt = dataclasses.replace(ABOUT, split="train")
    assert "Not held out" in visible(render(evaluation, pictures, learnt))
    assert "Not held out" not in visible(render(evaluation, pictures, ABOUT))


def test_simulated_data_are_called_simulated_at_the_top():
    """In a badge and in the first sentence."""
    data = made_up(40, dataset="simulated")
    found = evaluate(data, AS_IT_IS, HALF, draws=20)
    text = visible(render(found, draw_all(found, data, AS_IT_IS, HALF), ABOUT))
    assert text.index("Simulated data") < text.index("Sensitivity")
    assert "series of simulated head CT" in text


def test_the_page_is_one_file(page):
    """Pictures are in it, whole; it asks for nothing from anywhere."""
    sources = re.findall(r'src="([^"]+)"', page)
    assert len(sources) == 6
    for source in sources:
        kind, _, content = source.partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(content)).tag.endswith("svg")
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "<script" not in page
    assert all(re.findall(r'<img[^>]*alt="([^"]+)"', page))


def test_unknown_labels_are_told_as_such():
    """A cache without slice labels still makes a page, with reasons where figures would be."""
    weak = with_truth(DATA, lambda whole, each, _r: (whole, each * np.nan))
    found = evaluate(weak, AS_IT_IS, HALF, draws=20)
    text = visible(render(found, draw_all(found, weak, AS_IT_IS, HALF), ABOUT))
    assert "unknown: no labels" in text
    assert "slice: any unknown" in text


def test_one_class_alone_still_makes_a_page():
    """Nothing with haemorrhage: specificity is there, sensitivity says why it is not."""
    none = with_truth(made_up(30), lambda whole, each, _r: (whole * 0, each * 0))
    found = evaluate(none, AS_IT_IS, HALF, draws=20)
    text = visible(render(found, draw_all(found, none, AS_IT_IS, HALF), ABOUT))
    assert "no positives" in text
    assert "series with and without haemorrhage are needed" in text


def test_one_patient_alone_has_no_interval():
    """Many slices of one patient say nothing of the next; the page says so."""
    alone = made_up(12, per_patient=12, seed=4)
    found = evaluate(alone, AS_IT_IS, HALF, draws=50)
    area = found["labels"]["any"]["slice"]["auroc"]
    assert area["low"] is None
    assert 0 < area["value"] < 1
    assert found["labels"]["any"]["slice"]["ece"]["low"] is None
    assert "no interval" in visible(render(found, draw_all(found, alone, AS_IT_IS, HALF), ABOUT))


def test_the_gallery_says_what_it_shows(evaluation, pictures):
    """Worst cases with their band and truth; attention is no segmentation; a warning for images."""
    case = Case(
        "missed", "se<1>", "rsna", "k", "routine", 0.031, 0.12, "subdural", "slice 3 of 9",
        b"png", b"more",
    )  # fmt: skip
    text = visible(render(evaluation, pictures, ABOUT, [case]))
    assert "3.1 % routine truth: subdural slice 3 of 9 (12.0 % there) · rsna se<1>" in text
    assert "attention, not a segmentation" in text
    assert "images of patients" in text
    plain = dataclasses.replace(case, attention=None)
    assert "segmentation" not in visible(render(evaluation, pictures, ABOUT, [plain]))


def test_what_is_written_is_what_was_measured(tmp_path: Path, evaluation):
    """Page, JSON and plots; writing again gives the same bytes."""
    for name in ("one", "two"):
        write_page(tmp_path / name, evaluation, DATA, AS_IT_IS, HALF, about=ABOUT)
    written = json.loads((tmp_path / "one" / "metrics.json").read_text())
    assert written == json.loads(json.dumps(evaluation))
    names = sorted(p.name for p in (tmp_path / "one" / "plots").iterdir())
    assert names == [
        "bands.svg", "precision_recall.svg", "reliability.svg", "roc.svg", "scores.svg",
        "subgroups.svg",
    ]  # fmt: skip
    for file in ("evaluation.html", "metrics.json", "plots/roc.svg"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
