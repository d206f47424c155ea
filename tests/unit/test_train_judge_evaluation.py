"""The evaluation: what is measured, what is unknown, where it is worse."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ichnode.domain.findings import LABELS
from tests.judged import AS_IT_IS, HALF, made_up, with_truth
from train.errors import TrainingError
from train.judge.evaluation import evaluate
from train.judge.figures import auroc_figure, rate_figure
from train.judge.metrics import weighted_log_loss
from train.judge.subgroups import group_of, manufacturer
from train.predictions import Predictions

DATA = made_up(240, per_patient=2, seed=3)
FOUND = evaluate(DATA, AS_IT_IS, HALF, draws=200)


def test_every_figure_is_there_with_its_interval():
    """Each label, at both levels: a value inside of its interval."""
    for label in LABELS:
        for level in ("series", "slice"):
            row = FOUND["labels"][label][level]
            for name in (
                "auroc", "sensitivity", "specificity", "log_loss", "brier", "ece",
                "calibration_slope", "calibration_intercept",
            ):  # fmt: skip
                one = row[name]
                assert one["low"] <= one["value"] <= one["high"], (label, level, name)
    for level in ("series", "slice"):
        one = FOUND["weighted_log_loss"][level]
        assert one["low"] < one["value"] < one["high"]


def test_it_is_plain_json_and_repeatable():
    """No NaN, no numpy; the same seed gives the same text."""
    text = json.dumps(FOUND, allow_nan=False)
    again = evaluate(DATA, AS_IT_IS, HALF, draws=200)
    assert json.dumps(again, allow_nan=False) == text
    other = evaluate(DATA, AS_IT_IS, HALF, draws=200, seed=2)
    assert other["labels"]["any"]["series"]["auroc"] != FOUND["labels"]["any"]["series"]["auroc"]


def test_values_are_those_of_scikit_learn():
    """AUROC by label and level; the weighted log loss of the whole."""
    for index, label in enumerate(LABELS):
        row = FOUND["labels"][label]
        expected = roc_auc_score(DATA.slice_truth[:, index], DATA.slice_logits[:, index])
        assert row["slice"]["auroc"]["value"] == pytest.approx(expected, abs=1e-5)
        expected = roc_auc_score(DATA.series_truth[:, index], DATA.series_logits[:, index])
        assert row["series"]["auroc"]["value"] == pytest.approx(expected, abs=1e-5)
    p = 1 / (1 + np.exp(-DATA.slice_logits))
    expected = weighted_log_loss(p, DATA.slice_truth)
    assert FOUND["weighted_log_loss"]["slice"]["value"] == pytest.approx(expected, abs=1e-5)


def test_wrong_labels_lower_the_area():
    """With a fifth of the labels flipped the AUROC falls beyond its interval."""

    def flipped(whole, each, rng):
        return (1 - whole if rng.random() < 0.2 else whole), each

    wrong = evaluate(with_truth(DATA, flipped), AS_IT_IS, HALF, draws=200)
    before, after = (one["labels"]["any"]["series"]["auroc"] for one in (FOUND, wrong))
    assert after["high"] < before["low"]


def test_boldness_shows_in_the_calibration():
    """Logits three times too large: a slope of a third, an ECE above what chance gives."""
    bold = made_up(240, per_patient=2, seed=3, boldness=3.0)
    row = evaluate(bold, AS_IT_IS, HALF, draws=200)["labels"]["any"]["series"]
    right = FOUND["labels"]["any"]["series"]
    assert row["auroc"]["value"] == pytest.approx(right["auroc"]["value"])
    assert row["calibration_slope"]["high"] < 0.8 < right["calibration_slope"]["high"]
    assert row["ece"]["low"] > row["ece_by_chance"]
    assert row["log_loss"]["value"] > right["log_loss"]["value"]


def test_what_is_not_labelled_is_unknown_and_not_negative():
    """Slices without labels give no figure and a reason; series keep theirs."""
    weak = with_truth(DATA, lambda whole, each, _r: (whole, each * np.nan))
    found = evaluate(weak, AS_IT_IS, HALF, draws=200)
    row = found["labels"]["any"]["slice"]
    assert (row["n"], row["unknown"]) == (0, 240 * 8)
    for name in ("auroc", "log_loss", "brier", "ece", "calibration_slope"):
        assert row[name] == {"value": None, "why": "unknown: no labels"}
    assert row["sensitivity"] == {"value": None, "why": "no cases", "hits": 0, "of": 0}
    assert found["weighted_log_loss"]["slice"]["value"] is None
    assert found["labels"]["any"]["series"]["auroc"] == FOUND["labels"]["any"]["series"]["auroc"]
    assert found["data"]["prevalence"]["slice"]["any"] is None


def test_half_known_truth_is_measured_on_the_half():
    """Series whose truth is not known count as unknown, in the bands too."""

    def every_third(whole, each, rng):
        return (whole * np.nan if rng.random() < 1 / 3 else whole), each

    part = with_truth(DATA, every_third)
    unknown = int(np.isnan(part.series_truth[:, 0]).sum())
    found = evaluate(part, AS_IT_IS, HALF, draws=50)
    assert found["data"]["series_unknown"] == unknown
    bands = found["triage"]["bands"]
    assert sum(bands["unknown"].values()) == unknown
    assert sum(sum(row.values()) for row in bands.values()) == 240
    assert found["labels"]["any"]["series"]["n"] == 240 - unknown
    assert found["triage"]["urgent"]["called"]["of"] == 240


def test_one_class_alone_has_no_area():
    """Series that are all without blood have a specificity and no sensitivity."""
    none = with_truth(DATA, lambda whole, each, _r: (whole * 0, each * 0))
    row = evaluate(none, AS_IT_IS, HALF, draws=50)["labels"]["any"]["series"]
    assert row["auroc"] == {"value": None, "why": "no positives"}
    assert row["sensitivity"]["value"] is None
    assert row["specificity"]["value"] is not None


def test_epidural_or_subdural_forgives_a_confusion():
    """A subdural bleed that is called epidural is found as extra-axial, and missed as subdural."""

    def swapped(one):
        logits = one.series_logits.copy()
        logits[[1, 5]] = logits[[5, 1]]
        return dataclasses.replace(one, series_logits=logits)

    confused = evaluate(Predictions(tuple(map(swapped, DATA.series))), AS_IT_IS, HALF, draws=200)
    assert confused["labels"]["subdural"]["series"]["auroc"]["value"] < 0.6
    assert confused["extra_axial"]["series"]["auroc"] == FOUND["extra_axial"]["series"]["auroc"]


def test_bands_are_what_the_node_would_say():
    """Sensitivity of urgent and review together is that of the review threshold or better."""
    triage = FOUND["triage"]
    with_it = triage["bands"]["with haemorrhage"]
    urgent, both = triage["urgent"], triage["urgent_or_review"]
    assert urgent["sensitivity"]["hits"] == with_it["urgent"]
    assert both["sensitivity"]["hits"] == with_it["urgent"] + with_it["review"]
    assert both["specificity"]["value"] <= urgent["specificity"]["value"]
    rows = triage["at_prevalences"]
    assert [row["prevalence"] for row in rows] == [0.03, 0.061, 0.1, 0.15]
    ppv = [row["ppv"]["value"] for row in rows]
    assert ppv == sorted(ppv)
    assert all(row["ppv"]["low"] <= row["ppv"]["value"] <= row["ppv"]["high"] for row in rows)


def test_a_perfect_sample_is_no_perfect_model():
    """Without a single false alarm the PPV still has a lower end, and alerts an upper one."""
    perfect = made_up(60, gap=20.0)
    row = evaluate(perfect, AS_IT_IS, HALF, draws=50)["triage"]["at_prevalences"][0]
    assert row["ppv"]["value"] == 1.0
    assert row["ppv"]["low"] < 0.5
    assert row["ppv"]["method"] == "exact"
    assert row["false_alerts_per_1000"]["value"] == 0
    assert row["false_alerts_per_1000"]["high"] > 50


def test_it_says_that_data_are_simulated():
    """By the name of the source; a mixture is called one."""
    assert FOUND["data"]["kind"] == "scans"
    mixed = Predictions((*DATA.series[:20], *made_up(20, dataset="simulated", first=900).series))
    assert evaluate(mixed, AS_IT_IS, HALF, draws=20)["data"]["kind"] == "partly simulated"
    alone = made_up(20, dataset="simulated-holdout")
    assert evaluate(alone, AS_IT_IS, HALF, draws=20)["data"]["kind"] == "simulated"


def test_nothing_to_measure_is_refused():
    """An empty split is a mistake, not a perfect score."""
    with pytest.raises(TrainingError, match="no series"):
        evaluate(Predictions(()), AS_IT_IS, HALF)


def test_a_group_that_is_worse_stands_out():
    """Noise on one maker's scanners alone lowers that group's AUROC and no other's."""
    rng = np.random.default_rng(1)

    def noisy(one):
        if one.facts["manufacturer"] != "SIEMENS":
            return one
        return dataclasses.replace(one, series_logits=one.series_logits + rng.normal(0, 9, 6))

    data = made_up(400, seed=8)
    found = evaluate(Predictions(tuple(map(noisy, data.series))), AS_IT_IS, HALF, draws=200)
    makers = {row["group"]: row for row in found["subgroups"] if row["by"] == "manufacturer"}
    assert makers["Siemens"]["auroc"]["high"] < makers["GE"]["auroc"]["low"]
    assert makers["Siemens"]["series"] == makers["GE"]["series"] == 200


def test_small_groups_are_said_to_be_small():
    """A group of few patients is counted and not judged."""

    def rare(index, one):
        maker = "Neusoft Medical" if index < 6 else one.facts["manufacturer"]
        return dataclasses.replace(one, facts=dict(one.facts) | {"manufacturer": maker})

    data = Predictions(tuple(rare(i, one) for i, one in enumerate(DATA.series)))
    rows = evaluate(data, AS_IT_IS, HALF, draws=20)["subgroups"]
    small = next(row for row in rows if row["group"] == "Neusoft")
    assert small["too_small"]
    assert small["auroc"] == {"value": None, "why": "fewer than 10 patients"}
    assert (small["series"], small["patients"]) == (6, 3)
    for by in ("manufacturer", "kernel", "thickness", "age", "sex", "dataset"):
        assert sum(row["series"] for row in rows if row["by"] == by) == 240


def test_groups_by_what_the_scanner_says():
    """Makers by their usual name, kernels by sharpness, bins with their edges, gaps as such."""
    facts = {"manufacturer": "TOSHIBA", "kernel": "FC68", "thickness_mm": 3.0, "sex": "f "}
    assert group_of(facts | {"age_years": 17.9}, "cq500") == {
        "manufacturer": "Canon/Toshiba",
        "kernel": "soft",
        "thickness": "1.5 to 3 mm",
        "age": "below 18",
        "sex": "female",
        "dataset": "cq500",
    }
    empty = group_of({"thickness_mm": math.nan}, "x")
    assert set(empty.values()) == {"not stated", "x"}
    assert group_of({"age_years": 80.0}, "x")["age"] == "80 and older"
    assert group_of({"thickness_mm": 5.0}, "x")["thickness"] == "3 to 5.5 mm"
    names = ("GE MEDICAL SYSTEMS", "Siemens Healthineers", "Philips Medical Systems", "Acme")
    assert [manufacturer(name) for name in names] == ["GE", "Siemens", "Philips", "other"]


def test_no_miss_among_few_is_no_certainty():
    """20 of 20, and an area of 1, have an interval; the percentiles of draws would have none."""
    counts = np.ones((50, 40), np.float32)
    owner = np.arange(40)
    truth = (owner >= 20).astype(float)
    rate = rate_figure(counts, owner, truth == 1, truth == 1)
    assert rate == {
        "value": 1.0,
        "low": 0.83157,
        "high": 1.0,
        "method": "exact",
        "hits": 20,
        "of": 20,
    }
    area = auroc_figure(counts, owner, owner * 1.0, truth)
    assert area["value"] == 1.0
    assert area["low"] == pytest.approx(0.025 ** (1 / 20), abs=1e-5)
    backwards = auroc_figure(counts, owner, -owner * 1.0, truth)
    assert (backwards["low"], backwards["value"]) == (0.0, 0.0)
    one_patient = rate_figure(counts, owner * 0, truth == 1, truth == 1)
    assert one_patient["low"] == pytest.approx(0.025)
