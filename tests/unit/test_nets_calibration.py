"""From logits to what is stated."""

from __future__ import annotations

import numpy as np
import pytest

from ichnode.domain.findings import Finding, Presence
from ichnode.nets.calibration import (
    SeriesLogits,
    combine,
    probability,
    read,
    series_logits,
    state,
)
from ichnode.nets.manifest import Calibration, ContextSpec, Thresholds

CUTS = Thresholds(urgent=(0.8, 0.9, 0.9, 0.9, 0.9, 0.9), review=0.4, how="by hand")


def series(whole: float, kind: float = 0.0) -> np.ndarray:
    return np.array([whole, kind, 0.01, 0.01, 0.01, 0.01])


def test_temperature_and_bias_are_per_label() -> None:
    """A temperature of 2 halves a logit, a bias shifts it."""
    found = probability(np.array([[2.0, 2.0]]), np.array([1.0, 2.0]), np.array([0.0, -1.0]))
    assert found[0].tolist() == pytest.approx([1 / (1 + np.exp(-2.0)), 0.5])


def test_extreme_logits_do_not_overflow() -> None:
    """A logit of a million is a probability of one."""
    found = probability(np.array([-1e6, 1e6]), np.array([1.0, 1.0]), np.array([0.0, 0.0]))
    assert found.tolist() == [0.0, 1.0]


def test_two_slices_in_a_row_weigh_more_than_one_peak() -> None:
    """The adjacent mean discounts a lone peak, the maximum does not; the order of feet and head
    does not matter.
    """
    logits = np.array([[-4.0], [3.0], [-4.0], [1.0], [1.5], [-4.0]])
    assert series_logits(logits, "adjacent_mean").tolist() == [1.25]
    assert series_logits(logits[::-1], "adjacent_mean").tolist() == [1.25]
    assert series_logits(logits, "max").tolist() == [3.0]
    assert series_logits(logits[:1], "adjacent_mean").tolist() == [-4.0]


def test_a_smooth_maximum_lies_between_mean_and_maximum() -> None:
    """With r = 5, log(mean(exp(5 z))) / 5; of equal slices it is their logit, however large."""
    logits = np.array([[-4.0, 100.0], [3.0, 100.0], [1.0, 100.0]])
    expected = np.log(np.exp(5 * logits[:, 0]).mean()) / 5
    found = series_logits(logits, "log_sum_exp")
    assert found.tolist() == pytest.approx([expected, 100.0])
    assert logits[:, 0].mean() < found[0] < 3.0
    assert series_logits(logits[:1], "log_sum_exp").tolist() == pytest.approx([-4.0, 100.0])


def test_a_context_is_believed_label_by_label() -> None:
    """A share of 0 leaves what the slices say, 1 takes the context's; the series' own logit comes
    from the slices before they are blended.
    """
    own = np.array([[2.0, 2.0, 2.0], [4.0, 4.0, 4.0]])
    context = SeriesLogits(slices=np.full((2, 3), -2.0), series=np.full(3, 8.0))
    spec = ContextSpec(slice_blend=(0.0, 0.5, 1.0), series_blend=(0.0, 0.25, 1.0))
    found = combine(own, "max", context, spec)
    assert found.slices.tolist() == [[2.0, 0.0, -2.0], [4.0, 1.0, -2.0]]
    assert found.series.tolist() == [4.0, 5.0, 8.0]


def test_a_series_logit_that_is_given_is_not_derived() -> None:
    """Where a context network was asked, its series logit is what is calibrated."""
    six = (1.0,) * 6
    calibration = Calibration(six, (0.0,) * 6, (2.0,) * 6, (1.0,) * 6, "max", "")
    reading = read(np.full((3, 6), 2.0), calibration, np.full(6, -4.0))
    assert reading.series[0] == pytest.approx(1 / (1 + np.exp(1)))
    assert reading.slices[0, 0] == pytest.approx(1 / (1 + np.exp(-2)))


def test_slices_and_series_are_calibrated_apart() -> None:
    """Each has temperatures and biases of its own."""
    six = (1.0,) * 6
    calibration = Calibration(six, (0.0,) * 6, (2.0,) * 6, (1.0,) * 6, "max", "")
    reading = read(np.full((3, 6), 2.0), calibration)
    assert reading.slices.shape == (3, 6)
    assert reading.slices[0, 0] == pytest.approx(1 / (1 + np.exp(-2)))
    assert reading.series[0] == pytest.approx(1 / (1 + np.exp(-2)))


def test_the_bands_of_a_series() -> None:
    """At the urgent threshold positive, from the review threshold review, below it negative."""
    assert state(series(0.8), CUTS)[0] is Finding.POSITIVE
    assert state(series(0.79), CUTS)[0] is Finding.REVIEW
    assert state(series(0.4), CUTS)[0] is Finding.REVIEW
    assert state(series(0.39), CUTS)[0] is Finding.NEGATIVE


def test_a_subtype_alone_makes_a_series_positive() -> None:
    """Whichever label reaches its urgent threshold, "any" is then stated to be present."""
    finding, presence = state(series(0.1, kind=0.95), CUTS)
    assert finding is Finding.POSITIVE
    assert presence[:2] == (Presence.PRESENT, Presence.PRESENT)
    assert presence[2] is Presence.ABSENT


def test_a_doubtful_subtype_is_undetermined_unless_the_series_is_negative() -> None:
    """Between review and urgent a subtype is undetermined; a negative series has no doubts."""
    assert state(series(0.9, kind=0.6), CUTS)[1][1] is Presence.UNDETERMINED
    assert state(series(0.5, kind=0.6), CUTS)[1][:2] == (
        Presence.UNDETERMINED,
        Presence.UNDETERMINED,
    )
    assert state(series(0.2, kind=0.6), CUTS)[1] == (Presence.ABSENT,) * 6


@pytest.mark.parametrize("label", range(6))
def test_nothing_is_stated_of_what_is_no_number(label: int) -> None:
    """NaN reaches no threshold: without a refusal it would be a negative, whatever the others."""
    found = series(0.95)
    found[label] = np.nan
    with pytest.raises(ValueError, match="no number"):
        state(found, CUTS)
