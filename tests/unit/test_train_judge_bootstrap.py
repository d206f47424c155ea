"""Intervals from whole patients drawn again: right, honest and quick."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from tests.judged import made_up
from train.judge import bootstrap as b
from train.judge.calibration_intervals import ece_interval, line_intervals
from train.judge.logistic import probability_of
from train.judge.metrics import auroc, calibration_line, ece, ece_by_chance, hanley_mcneil


def test_a_draw_is_of_whole_patients():
    """All series of a patient have the same weight, and the weights of patients sum to them."""
    weights = b.patient_weights(("a", "b", "a", "c"), draws=50, seed=3)
    assert np.array_equal(weights[:, 0], weights[:, 2])
    assert np.all(weights[:, [0, 1, 3]].sum(axis=1) == 3)
    assert np.array_equal(weights, b.patient_weights(("a", "b", "a", "c"), draws=50, seed=3))


def test_weighted_areas_are_areas_of_what_was_drawn():
    """Each draw's AUROC is that of its series written out, ties included."""
    rng = np.random.default_rng(2)
    truth = rng.random(60) < 0.4
    scores = np.round(rng.normal(truth, 1.0), 1)
    weights = b.patient_weights([f"p{i // 2}" for i in range(60)], draws=20)
    for area, row in zip(b.auroc_draws(scores, truth, weights), weights, strict=True):
        drawn = np.repeat(np.arange(60), row.astype(int))
        assert area == pytest.approx(auroc(scores[drawn], truth[drawn]))


def test_pairs_of_patients_give_the_same_areas_as_their_slices():
    """With many slices a patient the areas come from pairs of patients, ties and all."""
    rng = np.random.default_rng(4)
    owner = rng.integers(0, 25, 300)
    truth = rng.random(300) < 0.3
    scores = np.round(rng.normal(truth, 1.0), 1)
    counts = b.draw_counts(25, 40, seed=2)
    by_pairs = b.auroc_interval(counts, owner, scores, truth)
    written_out = [
        auroc(np.repeat(scores, row[owner]), np.repeat(truth, row[owner]))
        for row in counts.astype(int)
    ]
    assert by_pairs.low == pytest.approx(np.percentile(written_out, 2.5), abs=1e-5)
    assert by_pairs.high == pytest.approx(np.percentile(written_out, 97.5), abs=1e-5)


def test_the_quick_way_and_the_general_way_agree():
    """A statistic drawn by hand has the interval of the matrix product, for the same seed."""
    data = made_up(80, per_patient=2, seed=4)
    sample = b.Draws.of(data, 300, seed=9)
    quick = b.auroc_interval(
        sample.counts, sample.owner, data.series_logits[:, 0], data.series_truth[:, 0]
    )
    slow = b.interval_of(
        lambda part: auroc(part.series_logits[:, 0], part.series_truth[:, 0]),
        data,
        draws=300,
        seed=9,
    )
    assert (quick.value, quick.low, quick.high) == pytest.approx(
        (slow.value, slow.low, slow.high), abs=1e-6
    )


def test_slices_of_a_patient_stay_together():
    """The same slices ten times over make no interval narrower."""
    rng = np.random.default_rng(1)
    owner = np.repeat(np.arange(30), 4)
    scores, truth = rng.normal(size=120), rng.random(120) < 0.5
    counts = b.draw_counts(30, 400, seed=1)
    once = b.auroc_interval(counts, owner, scores, truth)
    ten = b.auroc_interval(counts, owner.repeat(10), scores.repeat(10), truth.repeat(10))
    assert (once.low, once.high) == pytest.approx((ten.low, ten.high))


def test_the_interval_is_as_wide_as_the_standard_error_says():
    """With one series a patient, about 3.92 standard errors of Hanley and McNeil."""
    data = made_up(400, gap=1.5, seed=6)
    sample = b.Draws.of(data, 1000)
    scores, truth = data.series_logits[:, 0], data.series_truth[:, 0]
    found = b.auroc_interval(sample.counts, sample.owner, scores, truth)
    positives = int(truth.sum())
    error = hanley_mcneil(found.value, positives, 400 - positives)
    assert found.high - found.low == pytest.approx(3.92 * error, rel=0.15)


def clustered(rng, patients=60, each=4, shared=1.5):
    """Scores of patients whose series have most of their noise in common; AUROC is known."""
    truth = np.repeat(rng.random(patients) < 0.5, each)
    noise = np.repeat(rng.normal(0, shared, patients), each) + rng.normal(0, 0.5, patients * each)
    return np.repeat(np.arange(patients), each), noise + 1.5 * truth, truth


def test_intervals_hold_the_truth_as_often_as_they_say_and_naive_ones_do_not():
    """Of 200 repeated studies about 95 % hold it; drawing series instead of patients far fewer."""
    rng = np.random.default_rng(11)
    true = float(norm.cdf(1.5 / math.sqrt(2 * (1.5**2 + 0.5**2))))
    honest = naive = 0
    for _ in range(200):
        owner, scores, truth = clustered(rng)
        of_patients = b.draw_counts(60, 200, seed=int(rng.integers(1 << 30)))
        of_series = b.draw_counts(240, 200, seed=int(rng.integers(1 << 30)))
        found = b.auroc_interval(of_patients, owner, scores, truth)
        wrong = b.auroc_interval(of_series, np.arange(240), scores, truth)
        honest += found.low <= true <= found.high
        naive += wrong.low <= true <= wrong.high
    assert 0.89 <= honest / 200 <= 0.99
    assert naive / 200 < 0.85


def test_paired_draws_see_a_difference_that_separate_intervals_would_hide():
    """The same patients are hard for both models, so that the difference is surer than each."""
    before, after = made_up(300, gap=1.6, seed=3), made_up(300, gap=1.6, seed=3)
    truth = before.series_truth[:, 0]
    rng = np.random.default_rng(1)
    worse = before.series_logits[:, 0] + rng.normal(0, 1.5, 300)
    weights = b.patient_weights(before.patients, 1000)
    change = b.paired_auroc_difference(worse, after.series_logits[:, 0], truth, weights)
    alone = b.auroc_interval(weights, np.arange(300), worse, truth)
    assert 0 < change.low < change.value < change.high
    assert change.high - change.low < alone.high - alone.low
    same = b.paired_auroc_difference(worse, worse, truth, weights)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_a_paired_difference_is_of_the_same_series():
    """Any statistic will do; models that read other series are not compared."""

    def area(part):
        return auroc(part.series_logits[:, 0], part.series_truth[:, 0])

    before, after = made_up(60, gap=1.0, seed=3), made_up(60, gap=3.5, seed=3)
    found = b.paired_difference(area, before, after, draws=200)
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(area(after) - area(before))
    with pytest.raises(ValueError, match="same series"):
        b.paired_difference(area, before, made_up(60, first=1), draws=2)


def test_what_is_missing_gives_no_interval():
    """Without negatives there is no area to be sure of; unknown truth is left out."""
    counts = b.draw_counts(10, 50, seed=1)
    owner = np.arange(10)
    found = b.auroc_interval(counts, owner, np.arange(10.0), np.ones(10))
    assert math.isnan(found.value)
    assert math.isnan(found.low)
    nothing = b.mean_interval(counts, owner, np.full(10, np.nan))
    assert math.isnan(nothing.value)
    half = np.array([1.0, 0.0] * 3 + [np.nan] * 4)
    assert b.mean_interval(counts, owner, half).value == 0.5


def test_the_interval_of_the_calibration_error_knows_that_chance_adds_to_it():
    """It holds the estimate; boldness lies above what chance gives a calibrated model."""
    rng = np.random.default_rng(8)
    z = rng.normal(0, 1.5, 600)
    truth = (rng.random(600) < probability_of(z)).astype(float)
    counts, owner = b.draw_counts(600, 500, seed=1), np.arange(600)
    calm = ece_interval(counts, owner, probability_of(z), truth)
    bold = ece_interval(counts, owner, probability_of(3 * z), truth)
    assert calm.low <= calm.value <= calm.high
    assert calm.value == pytest.approx(ece(probability_of(z), truth))
    by_chance = ece_by_chance(probability_of(z))
    assert calm.low < by_chance
    assert calm.value == pytest.approx(by_chance, abs=0.02)
    assert bold.low > by_chance


def test_one_newton_step_is_as_good_as_a_fit_of_its_own():
    """Slope and intercept of a draw agree with the fit of the cases that it drew."""
    rng = np.random.default_rng(5)
    z = rng.normal(-0.5, 1.5, 500)
    p, truth = probability_of(1.4 * z), (rng.random(500) < probability_of(z)).astype(float)
    counts, owner = b.draw_counts(500, 300, seed=2), np.arange(500)
    slope, intercept = line_intervals(counts, owner, p, truth)
    refit = []
    for row in counts.astype(int):
        drawn = np.repeat(owner, row)
        refit.append(calibration_line(p[drawn], truth[drawn]))
    slopes = np.percentile([one.slope for one in refit], [2.5, 97.5])
    levels = np.percentile([one.intercept for one in refit], [2.5, 97.5])
    assert (slope.low, slope.high) == pytest.approx(slopes, abs=0.03)
    assert (intercept.low, intercept.high) == pytest.approx(levels, abs=0.03)
    assert slope.high < 1
