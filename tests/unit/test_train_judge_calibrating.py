"""Calibration: temperature and bias, checked on patients left out, moved to a prevalence."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ichnode.nets.calibration import NOT_ASKED, read
from tests.judged import made_up, with_truth
from train.errors import TrainingError
from train.judge.calibrating import (
    Site,
    calibrate,
    calibrate_and_check,
    series_probabilities,
    slice_probabilities,
    under_rule,
)
from train.judge.metrics import auroc, calibration_line, ece, log_loss
from train.judge.prior import before_sampling, estimate_prevalence, shift
from train.predictions import Predictions


def test_overconfidence_is_taken_back():
    """Logits that are three times too bold get a temperature of three, for slices and series."""
    found = calibrate(made_up(500, boldness=3.0, seed=2))
    assert found.series_temperature[0] == pytest.approx(3.0, rel=0.2)
    assert found.slice_temperature[0] == pytest.approx(3.0, rel=0.1)
    assert len(set(found.series_temperature[1:])) == 1
    assert found.series_temperature[1] == pytest.approx(3.0, rel=0.2)


def test_calibration_mends_other_patients_too():
    """On series that it was not fitted on: log loss and ECE fall, the order does not change."""
    found = calibrate(made_up(500, boldness=3.0, offset=1.5, seed=2))
    fresh = made_up(1500, boldness=3.0, offset=1.5, seed=3, first=5000)
    truth = fresh.series_truth[:, 0]
    raw = 1 / (1 + np.exp(-fresh.series_logits[:, 0]))
    p = series_probabilities(fresh, found)[:, 0]
    assert log_loss(p, truth) < 0.8 * log_loss(raw, truth)
    assert ece(p, truth) < 0.04 < ece(raw, truth)
    assert calibration_line(p, truth).slope == pytest.approx(1.0, abs=0.2)
    assert auroc(p, truth) == pytest.approx(auroc(raw, truth), abs=1e-3)


def test_what_does_not_help_is_not_kept():
    """Logits that mean nothing are made calm; calibrated ones are left as good as they are."""
    checked = calibrate_and_check(made_up(400, boldness=3.0))
    assert all(check.helps for check in checked.checks if check.labels == "any")
    assert "kept" in checked.calibration.how
    right = calibrate_and_check(made_up(60, seed=12))
    for check in right.checks:
        assert check.helps == (check.log_loss[1] < check.log_loss[0])
    of_any = next(c for c in right.checks if (c.level, c.labels) == ("series", "any"))
    assert not of_any.helps
    assert right.calibration.series_temperature[0] == 1.0
    assert right.calibration.series_bias[0] == 0.0
    assert "not kept" in right.calibration.how


def test_what_is_not_known_does_not_pull():
    """Truth that is NaN changes nothing: neither the fit of its label nor that of others."""

    def half_known(whole, each, rng):
        whole[2:] = np.nan
        each[:, 2:] = np.nan
        return whole, each

    data = made_up(200, boldness=2.0)
    masked = with_truth(data, half_known)
    whole, part = calibrate(data), calibrate(masked)
    assert part.series_temperature[0] == whole.series_temperature[0]
    assert part.series_bias[0] == whole.series_bias[0]
    assert part.series_bias[2:] == (0.0,) * 4
    nothing = with_truth(data, lambda w, e, _r: (np.array([w[0], *[np.nan] * 5]), e * np.nan))
    bare = calibrate(nothing)
    assert bare.slice_temperature == (1.0,) * 6
    assert bare.series_temperature[1:] == (1.0,) * 5


def test_what_a_pair_never_asked_does_not_pull():
    """Subtypes where the first network saw nothing have no logit to learn from."""
    data = made_up(200, boldness=2.0)

    def unasked(one):
        slices = one.slice_logits.copy()
        slices[slices[:, 0] < 0, 1:] = NOT_ASKED
        return dataclasses.replace(one, slice_logits=slices)

    pair = Predictions(tuple(map(unasked, data.series)))
    assert calibrate(pair).slice_temperature[1] == pytest.approx(2.0, rel=0.3)


def test_one_class_alone_is_refused():
    """The sentence says how many of each there are."""
    with pytest.raises(TrainingError, match="0 with and 30 without"):
        calibrate(made_up(30, prevalence=1e-9))


def test_probabilities_follow_the_prevalence_that_is_stated():
    """Fitted at 40 %, told 10 %: right for a site with 10 %, where they were too high before."""
    fitted = made_up(1500, prevalence=0.4, offset=0.7)
    site = made_up(4000, prevalence=0.1, offset=0.7 + shift(0.1, 0.4), seed=5, first=9000)
    truth = site.series_truth[:, 0]
    before = series_probabilities(site, calibrate(fitted))[:, 0]
    told = calibrate(fitted, site=Site(prevalence=0.1))
    after = series_probabilities(site, told)[:, 0]
    assert before.mean() > 1.4 * truth.mean()
    assert after.mean() == pytest.approx(truth.mean(), abs=0.012)
    assert abs(calibration_line(after, truth).intercept) < 0.2
    assert "10.0%" in told.how
    assert "stated" in told.how
    slices = slice_probabilities(site, told)[:, 0].mean()
    assert slices == pytest.approx(site.slice_truth[:, 0].mean(), abs=0.012)


def test_a_prevalence_is_found_without_labels():
    """Expectation maximisation finds 12 % from probabilities that were fitted at 40 %."""
    fitted = made_up(1500, prevalence=0.4)
    site = made_up(3000, prevalence=0.12, offset=shift(0.12, 0.4), seed=8, first=9000)
    found = calibrate_and_check(fitted, site=Site(unlabelled=site))
    assert found.prevalence == pytest.approx(site.series_truth[:, 0].mean(), abs=0.02)
    assert "Saerens" in found.calibration.how
    hidden = with_truth(site, lambda whole, each, _r: (whole * np.nan, each * np.nan))
    assert calibrate(fitted, site=Site(unlabelled=hidden)) == found.calibration
    with pytest.raises(TrainingError, match="state the prevalence"):
        calibrate(fitted, site=Site(unlabelled=made_up(20)))


def test_thinned_negatives_are_put_back():
    """Where a quarter of the negatives was kept, the log odds of "any" fall by log 4."""
    data = made_up(400)
    plain, thinned = calibrate(data), calibrate(data, site=Site(kept_negatives=0.25))
    moved = plain.series_bias[0] - thinned.series_bias[0]
    assert moved == pytest.approx(np.log(4), abs=1e-4)
    assert before_sampling(0.5, 0.25) == pytest.approx(0.2)


def test_senseless_prevalences_are_refused():
    """None outside 0 to 1, and only one way of saying it."""
    with pytest.raises(TrainingError, match="between 0 and 1"):
        calibrate(made_up(50), site=Site(prevalence=10))
    with pytest.raises(TrainingError, match="at most 1"):
        calibrate(made_up(50), site=Site(kept_negatives=0.0))
    with pytest.raises(TrainingError, match="only one"):
        Site(prevalence=0.1, kept_negatives=0.5)


def test_an_estimate_stays_a_prevalence():
    """Series that are all surely without blood give a small prevalence, not 0."""
    assert estimate_prevalence(np.full(200, 1e-6), 0.4) == 0.001


def test_another_rule_makes_other_series_of_the_same_slices():
    """What is recorded is what serving computes again from the slices."""
    data = under_rule(made_up(20), "max")
    found = calibrate(data, "max")
    reading = read(data.series[3].slice_logits, found)
    assert reading.series == pytest.approx(series_probabilities(data, found)[3])
    first = sum(len(one.slice_logits) for one in data.series[:3])
    assert reading.slices[0] == pytest.approx(slice_probabilities(data, found)[first])
