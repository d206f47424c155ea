"""Operating point, bands with a promise, and the thresholds that follow from them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import binom, norm

from ichnode.domain.findings import Finding
from ichnode.domain.intervals import clopper_pearson_lower
from ichnode.nets.calibration import state
from tests.judged import AS_IT_IS, made_up, with_truth
from train.errors import TrainingError
from train.judge.calibrating import calibrate, series_probabilities
from train.judge.conformal import routine_band, urgent_band
from train.judge.operating_point import Aims, choose, choose_thresholds, positives_needed
from train.judge.sensitivity import best_cut, find_operating_point, one_per_patient, predictive

NAMES = [f"p{i}" for i in range(100_000)]


def binormal(rng, count, gap, prevalence):
    """Scores that are true log odds, and truth."""
    positive = rng.random(count) < prevalence
    at = rng.normal(np.where(positive, gap / 2, -gap / 2), 1.0)
    return gap * at + np.log(prevalence / (1 - prevalence)), positive


def test_the_operating_point_is_the_largest_that_is_known_to_find_enough():
    """One positive more missed, and the lower bound falls below the target."""
    scores, positive = binormal(np.random.default_rng(1), 600, 2.5, 0.4)
    point = find_operating_point(scores, positive, NAMES)
    assert point.promised
    found = np.sort(scores[positive])
    assert clopper_pearson_lower(int((found >= point.largest).sum()), len(found)) >= 0.9
    assert clopper_pearson_lower(int((found > point.largest).sum()), len(found)) < 0.9
    assert point.lower_bound >= 0.9
    assert point.hits == int((found >= point.log_odds).sum())
    assert point.alarms == int((scores[~positive] >= point.log_odds).sum())


def test_nothing_is_missed_where_that_costs_no_alarm():
    """With blood and none wholly apart the cut is in the middle of the gap, not among the blood."""
    scores = np.concatenate([np.linspace(-4, -2, 60), np.linspace(3, 9, 60)])
    point = find_operating_point(scores, np.arange(120) >= 60, NAMES)
    assert point.largest > 3
    assert point.log_odds == pytest.approx(0.5)
    assert (point.hits, point.alarms) == (60, 0)


def test_the_promise_holds_on_patients_that_were_not_seen():
    """Of 300 calibration sets, at most about 5 % give a threshold that finds less than 90 %."""
    rng, broken = np.random.default_rng(3), 0
    for _ in range(300):
        scores, positive = binormal(rng, 250, 2.5, 0.5)
        largest = find_operating_point(scores, positive, NAMES).largest
        broken += 1 - norm.cdf(largest / 2.5 - 1.25) < 0.9
    assert broken <= binom.ppf(0.999, 300, 0.05)
    assert broken > 0  # it is not so careful that it promises nothing


def test_series_of_a_patient_are_no_independent_evidence():
    """Ten series of each of ten patients make no promise that ten patients cannot make."""
    scores, positive = np.linspace(0, 5, 200), np.arange(200) >= 100
    of_many = find_operating_point(scores, positive, NAMES)
    of_few = find_operating_point(scores, positive, [f"p{i % 10}" for i in range(200)])
    assert of_many.promised
    assert (of_few.promised, of_few.wanting, of_few.positives) == (False, "positives", 10)
    chosen = one_per_patient(["a", "a", "b", "b"], np.array([True, True, False, True]))
    assert chosen.tolist() in ([True, False, False, True], [False, True, False, True])


def test_too_few_positives_say_how_many_more_are_needed():
    """29 are needed when none is missed; the cut that stands in is specific."""
    scores = np.concatenate([np.linspace(-4, 0, 50), np.linspace(1, 2, 12)])
    point = find_operating_point(scores, np.arange(62) >= 50, NAMES)
    assert (point.wanting, point.more_positives) == ("positives", 29 - 12)
    assert point.log_odds == pytest.approx(0.5)
    assert positives_needed(0.9, 1.0) == 29
    assert positives_needed(0.9, 0.85) is None


def test_a_target_that_calls_nearly_everything_is_given_up():
    """A network that knows nothing gets a specific cut and the reason, not a flood of alarms."""
    rng = np.random.default_rng(2)
    point = find_operating_point(rng.normal(size=400), rng.random(400) < 0.5, NAMES)
    assert point.wanting == "specificity"
    assert point.specificity >= 0.98
    assert point.more_positives is None


def test_predictive_values_follow_from_the_prevalence():
    """0.913 and 0.941 at 10 % give 0.63 and 0.990, and 144 alerts of 1,000."""
    found = predictive(0.913, 0.941, 0.10)
    assert found.ppv == pytest.approx(0.63, abs=0.005)
    assert found.npv == pytest.approx(0.990, abs=0.0005)
    assert found.alerts_per_1000 == pytest.approx(91.3 + 53.1)
    assert found.false_alerts_per_1000 == pytest.approx(53.1)
    assert found.missed_per_1000 == pytest.approx(8.7)
    assert np.isnan(predictive(0.0, 1.0, 0.1).ppv)


def test_the_best_cut_is_specific_and_in_the_middle():
    """Youden's, as found by trying every cut."""
    scores, positive = binormal(np.random.default_rng(5), 150, 2.0, 0.4)
    cut = best_cut(scores, positive)
    values = np.unique(scores)
    tried = (values[1:] + values[:-1]) / 2
    allowed = [c for c in tried if (scores[~positive] < c).mean() >= 0.98]
    merits = [(scores[positive] >= c).mean() + (scores[~positive] < c).mean() for c in allowed]
    assert cut in allowed
    assert max(merits) == pytest.approx(
        (scores[positive] >= cut).mean() + (scores[~positive] < cut).mean()
    )


def true_ppv(cut, gap, prevalence):
    """Of all series above a score, the fraction with blood."""
    at = (cut - np.log(prevalence / (1 - prevalence))) / gap
    with_it = prevalence * norm.sf(at - gap / 2)
    return with_it / (with_it + (1 - prevalence) * norm.sf(at + gap / 2))


def test_the_urgent_band_keeps_its_promise_and_the_obvious_choice_does_not():
    """Of 400 sites at most about 5 % get a band below its predictive value; by eye, far more."""
    rng, broken, naive, there = np.random.default_rng(6), 0, 0, 0
    for _ in range(400):
        scores, positive = binormal(rng, 500, 1.8, 0.35)
        band = urgent_band(scores, positive, goal=0.8, delta=0.05)
        if band.log_odds is not None:
            there += 1
            broken += true_ppv(band.log_odds, 1.8, 0.35) < 0.8
        order = np.argsort(-scores)
        right = np.cumsum(positive[order]) / np.arange(1, 501)
        last = np.flatnonzero((right >= 0.8) & (np.arange(500) >= 49))
        naive += true_ppv(scores[order][last[-1]], 1.8, 0.35) < 0.8 if len(last) else 0
    assert there > 200
    assert broken <= binom.ppf(0.999, 400, 0.05)
    assert naive > 3 * max(broken, 20)


def true_npv(cut, gap, prevalence):
    """Of all series below a score, the fraction without blood."""
    at = (cut - np.log(prevalence / (1 - prevalence))) / gap
    without = (1 - prevalence) * norm.cdf(at + gap / 2)
    return without / (without + prevalence * norm.cdf(at - gap / 2))


def test_the_routine_band_keeps_its_promise():
    """Of 300 sites at most about 5 % get a routine band with more than 2 % of blood in it."""
    rng, broken, there = np.random.default_rng(7), 0, 0
    for _ in range(300):
        scores, positive = binormal(rng, 1500, 2.0, 0.15)
        band = routine_band(scores, positive, goal=0.98, delta=0.05)
        if band.log_odds is not None:
            there += 1
            broken += true_npv(band.log_odds, 2.0, 0.15) < 0.98
    assert there > 100
    assert broken <= binom.ppf(0.999, 300, 0.05)


def test_bands_stop_at_the_first_failure():
    """A bad patch ends the band, however good it looks beyond."""
    positive = np.ones(300, np.bool_)
    positive[60:90] = False  # from the top: 60 right, 30 wrong, 210 right
    scores = np.linspace(9, -9, 300)
    band = urgent_band(scores, positive, goal=0.8)
    assert 60 <= band.count < 90
    assert urgent_band(scores[:90], positive[:90], goal=0.8).count == band.count


def test_bands_need_so_many_series():
    """Fifty for urgent, five hundred for routine; the reason says how many there are."""
    scores, positive = binormal(np.random.default_rng(1), 400, 4.0, 0.4)
    assert urgent_band(scores, positive).log_odds is not None
    assert (
        urgent_band(scores[:40], positive[:40]).why_not == "50 series are needed and there are 40"
    )
    assert "500 series are needed" in routine_band(scores, positive).why_not


def test_a_good_model_with_local_series_enough_is_calibrated_locally():
    """All promises are made and kept on other series of the site."""
    data = made_up(1500, gap=4.0, prevalence=0.2, dataset="site", seed=4)
    calibration = calibrate(data)
    found = choose(data, calibration)
    assert found.locally
    assert found.point.promised
    assert "Locally calibrated" in found.thresholds.how
    fresh = made_up(3000, gap=4.0, prevalence=0.2, dataset="site", seed=5, first=9000)
    p = series_probabilities(fresh, calibration)
    called = np.array([state(row, found.thresholds)[0] for row in p])
    truth = fresh.series_truth[:, 0] == 1
    assert (called[truth] == Finding.POSITIVE).mean() >= 0.9
    assert truth[called == Finding.NEGATIVE].mean() <= 0.02
    assert 0 < found.thresholds.review < found.thresholds.urgent[0] < 1


def test_another_place_or_too_few_series_are_said_to_be_no_local_calibration():
    """The same figures from another dataset, or from 200 series, promise nothing for the site."""
    elsewhere = made_up(1500, gap=4.0, prevalence=0.2, dataset="rsna", seed=4)
    assert not choose(elsewhere, AS_IT_IS).locally
    assert "Not locally calibrated" in choose_thresholds(elsewhere, AS_IT_IS).how
    assert choose(elsewhere, AS_IT_IS, local=True).locally
    few = choose(made_up(200, gap=4.0, prevalence=0.2, dataset="site"), AS_IT_IS)
    assert not few.locally
    assert "500 series are needed" in few.thresholds.how


def test_a_prevalence_that_is_not_the_calibration_sets_makes_no_band():
    """Series with 40 % of blood promise nothing about predictive values at 5 %."""
    data = made_up(1500, gap=4.0, prevalence=0.4, dataset="site")
    moved = dataclasses.replace(AS_IT_IS, series_bias=(-2.5,) * 6)
    for found in (choose(data, moved), choose(data, AS_IT_IS, prevalence=0.05)):
        assert found.urgent.log_odds is None
        assert found.routine.log_odds is None
        assert "another prevalence" in found.thresholds.how
        assert found.point.promised
    assert choose(data, AS_IT_IS).urgent.log_odds is not None


def test_precision_may_be_preferred():
    """Then urgent starts where the predictive value holds, and review keeps the sensitivity."""
    data = made_up(1200, gap=2.0, prevalence=0.15, dataset="site", seed=9)
    usual = choose(data, AS_IT_IS)
    precise = choose(data, AS_IT_IS, aims=Aims(urgent_by="precision", ppv_goal=0.7))
    assert precise.thresholds.urgent[0] > usual.thresholds.urgent[0]
    p = series_probabilities(data, AS_IT_IS)[:, 0]
    blood = data.series_truth[:, 0] == 1
    assert (p[blood] >= precise.thresholds.review).mean() >= 0.9
    assert "given up" in usual.thresholds.how


def test_subtypes_raise_no_alarms_by_themselves():
    """Series without blood that "any" does not call are not called for a subtype, but for 2 %."""
    data = made_up(1500, gap=2.5, prevalence=0.3, seed=2)
    cuts = choose_thresholds(data, AS_IT_IS)
    p = series_probabilities(data, AS_IT_IS)
    quiet = (data.series_truth[:, 0] == 0) & (p[:, 0] < cuts.urgent[0])
    alone = np.array([state(row, cuts)[0] is Finding.POSITIVE for row in p[quiet]])
    assert alone.mean() <= 0.022
    assert all(cut >= 0.5 for cut in cuts.urgent[1:])


def test_a_label_without_examples_is_never_urgent():
    """What fewer than ten series show has a threshold of 99 %."""

    def no_epidural(whole, each, _rng):
        whole[1], each[:, 1] = 0, 0
        return whole, each

    cuts = choose_thresholds(with_truth(made_up(300), no_epidural), AS_IT_IS)
    assert cuts.urgent[1] == pytest.approx(0.99, abs=0.001)
    assert cuts.urgent[3] >= 0.5


def test_one_class_alone_is_refused():
    """The sentence says how many of each there are; unknown ones do not count."""
    with pytest.raises(TrainingError, match="0 with and 30 without"):
        choose_thresholds(made_up(30, prevalence=1e-9), AS_IT_IS)
    unknown = with_truth(made_up(30), lambda w, e, _r: (w * np.nan, e))
    with pytest.raises(TrainingError, match="0 with and 0 without"):
        choose_thresholds(unknown, AS_IT_IS)


def test_the_report_is_json_with_probabilities():
    """Nothing is NaN, thresholds are probabilities, the promise and its price are there."""
    report = choose(made_up(300), AS_IT_IS).report()
    point = report["operating_point"]
    assert 0 < point["threshold"] <= point["largest"] < 1
    assert [row["prevalence"] for row in point["at_prevalences"]] == [0.03, 0.061, 0.1, 0.15]
    assert report["bands"]["routine"]["threshold"] is None
    assert report["locally_calibrated"] is False
