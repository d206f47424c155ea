"""Figures of scores beside truth, against scikit-learn and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression

from train.judge import metrics as m
from train.judge.logistic import log_odds, probability_of

RNG = np.random.default_rng(7)
TRUTH = RNG.random(400) < 0.3
SCORES = np.round(np.clip(RNG.normal(0.35 + 0.25 * TRUTH, 0.2), 0, 1), 2)  # with many ties


def test_areas_agree_with_scikit_learn():
    """AUROC and average precision, ties included."""
    assert m.auroc(SCORES, TRUTH) == pytest.approx(reference.roc_auc_score(TRUTH, SCORES))
    expected = reference.average_precision_score(TRUTH, SCORES)
    assert m.average_precision(SCORES, TRUTH) == pytest.approx(expected)


def test_curves_agree_with_scikit_learn():
    """ROC points, none dropped, and precision with recall."""
    false, true = m.roc(SCORES, TRUTH)
    expected = reference.roc_curve(TRUTH, SCORES, drop_intermediate=False)
    assert false == pytest.approx(expected[0])
    assert true == pytest.approx(expected[1])
    precision, recall = m.precision_recall(SCORES, TRUTH)
    wanted = reference.precision_recall_curve(TRUTH, SCORES)
    assert precision[::-1] == pytest.approx(wanted[0][:-1])
    assert recall[::-1] == pytest.approx(wanted[1][:-1])


def test_losses_agree_with_scikit_learn():
    """Log loss and Brier score."""
    p = np.clip(SCORES, 0.01, 0.99)
    assert m.log_loss(p, TRUTH) == pytest.approx(reference.log_loss(TRUTH, p))
    assert m.brier(p, TRUTH) == pytest.approx(reference.brier_score_loss(TRUTH, p))
    assert m.accuracy(p, TRUTH) == pytest.approx(reference.accuracy_score(TRUTH, p >= 0.5))


def test_areas_by_hand():
    """Three of four pairs are right; a tie counts half; wrong labels lower it below a half."""
    scores = np.array([0.9, 0.4, 0.6, 0.1])
    truth = np.array([1.0, 1.0, 0.0, 0.0])
    assert m.auroc(scores, truth) == 0.75
    assert m.auroc(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == 0.5
    assert m.auroc(scores, 1 - truth) == 0.25
    assert m.average_precision(scores, truth) == pytest.approx((1 + 2 / 3) / 2)


def test_what_is_not_known_is_left_out():
    """NaN truth changes no figure, whatever was said there."""
    scores = np.concatenate([SCORES, RNG.random(50)])
    truth = np.concatenate([TRUTH.astype(float), np.full(50, np.nan)])
    for figure in (m.auroc, m.average_precision, m.log_loss, m.brier, m.ece, m.accuracy):
        assert figure(scores, truth) == pytest.approx(figure(SCORES, TRUTH))
    assert m.counts_at(scores, truth, 0.5) == m.counts_at(SCORES, TRUTH, 0.5)
    assert m.calibration_line(scores, truth) == m.calibration_line(SCORES, TRUTH)
    both, known = np.stack([scores] * 6, 1), np.stack([truth] * 6, 1)
    assert m.weighted_log_loss(both, known) == pytest.approx(m.log_loss(SCORES, TRUTH))
    assert m.accuracy_multi(both, known) == m.accuracy_multi(both[:400], known[:400])


def test_what_the_data_cannot_give_is_no_number():
    """One class alone, or nothing known, gives NaN rather than a perfect score."""
    none = np.full(3, np.nan)
    scores = np.array([0.1, 0.2, 0.3])
    assert math.isnan(m.auroc(scores, np.ones(3)))
    assert math.isnan(m.average_precision(scores, np.zeros(3)))
    assert m.roc(scores, np.ones(3)) is None
    for figure in (m.auroc, m.log_loss, m.brier, m.ece, m.accuracy):
        assert math.isnan(figure(scores, none))
    assert math.isnan(m.weighted_log_loss(np.full((2, 6), 0.5), np.full((2, 6), np.nan)))
    assert math.isnan(m.calibration_line(scores, none).slope)
    assert math.isnan(m.counts_at(scores, np.ones(3), 0.5).specificity)


def test_sensitivity_and_specificity_by_hand():
    """At the threshold counts as called."""
    found = m.counts_at(np.array([0.5, 0.49, 0.5, 0.2]), np.array([1, 1, 0, 0]), 0.5)
    assert (found.true_positive, found.false_negative) == (1, 1)
    assert (found.false_positive, found.true_negative) == (1, 1)
    assert (found.sensitivity, found.specificity) == (0.5, 0.5)


def test_any_counts_twice_in_the_weighted_log_loss():
    """[2 x any + five subtypes] / 7; what is unknown takes its weight with it."""
    p = np.array([[0.9, 0.2, 0.2, 0.2, 0.2, 0.2]])
    truth = np.array([[0.0, 0, 0, 0, 0, 0]])
    expected = (2 * -math.log(0.1) + 5 * -math.log(0.8)) / 7
    assert m.weighted_log_loss(p, truth) == pytest.approx(expected)
    truth[0, 1:] = np.nan
    assert m.weighted_log_loss(p, truth) == pytest.approx(-math.log(0.1))


def test_the_priors_alone_score_what_they_do_on_rsna():
    """Whoever knows the prevalences of RSNA's slices and nothing else scores 0.232."""
    rates = np.array([97_103, 2_761, 32_564, 23_766, 32_122, 42_496]) / 674_258
    n = 20_000
    truth = np.stack([np.arange(n) < round(rate * n) for rate in rates], axis=1)
    assert m.weighted_log_loss(np.tile(rates, (n, 1)), truth) == pytest.approx(0.232, abs=0.001)


def test_calibration_error_by_hand():
    """Always 0.8 for what happens half of the time is off by 0.3; bins have equal mass."""
    assert m.ece(np.full(10, 0.8), np.arange(10) < 5) == pytest.approx(0.3)
    p = np.linspace(0.001, 0.999, 150)
    assert np.bincount(m.bins_of(p)).tolist() == [10] * 15
    seen = m.reliability(p, np.arange(150) % 2 == 0)
    assert [one.count for one in seen] == [10] * 15
    assert all(one.seen == 0.5 for one in seen)


def test_boldness_shows_as_error_and_slope():
    """Logits three times too large: an ECE far above chance, a slope of a third."""
    z = RNG.normal(-0.5, 1.5, 4000)
    truth = RNG.random(4000) < probability_of(z)
    calm, bold = probability_of(z), probability_of(3 * z)
    assert m.ece(calm, truth) < 0.03 < 0.08 < m.ece(bold, truth)
    assert m.calibration_line(calm, truth).slope == pytest.approx(1.0, abs=0.1)
    assert m.calibration_line(bold, truth).slope == pytest.approx(1 / 3, abs=0.05)
    lifted = m.calibration_line(probability_of(z + 0.8), truth)
    assert lifted.intercept == pytest.approx(-0.8, abs=0.1)
    assert lifted.intercept_low < -0.8 < lifted.intercept_high < 0


def test_the_calibration_line_agrees_with_scikit_learn():
    """The slope is that of a logistic regression that hardly penalises."""
    p = np.clip(SCORES, 0.02, 0.98)
    fitted = LogisticRegression(C=1e6).fit(log_odds(p)[:, None], TRUTH)
    assert m.calibration_line(p, TRUTH).slope == pytest.approx(fitted.coef_[0, 0], rel=0.02)


def test_classes_that_are_wholly_apart_leave_the_slope_open():
    """A finite slope with an interval that reaches 1, where any steep line would fit."""
    p = np.concatenate([np.full(20, 0.1), np.full(20, 0.9)])
    line = m.calibration_line(p, np.arange(40) >= 20)
    assert 1 < line.slope < 5
    assert line.slope_low < 1.25


def test_hanley_and_mcneil_give_their_published_errors():
    """AUROC 0.95 with 205 and 286 has 0.011, 0.98 with 652 and 798 about 0.004."""
    assert m.hanley_mcneil(0.95, 205, 286) == pytest.approx(0.011, abs=5e-4)
    assert m.hanley_mcneil(0.98, 652, 798) == pytest.approx(0.004, abs=5e-4)
    assert m.hanley_mcneil(0.95, 13, 478) > 0.03


def test_saying_no_to_everything_looks_good_in_accuracy_multi():
    """With five subtypes of which 1.375 are there on average, silence is right 72.5 % of times."""
    truth = np.zeros((80, 5))
    truth.ravel()[:110] = 1
    assert m.accuracy_multi(np.zeros((80, 5)), truth) == pytest.approx(0.725)


def test_mcnemar_is_exact():
    """Ten to none is not by chance, five to five is; the smallest counts are never significant."""
    assert m.mcnemar_exact(10, 0) == pytest.approx(2 / 1024)
    assert m.mcnemar_exact(0, 10) == m.mcnemar_exact(10, 0)
    assert m.mcnemar_exact(5, 5) == 1.0
    assert m.mcnemar_exact(0, 0) == 1.0
    assert m.mcnemar_exact(5, 0) > 0.05
